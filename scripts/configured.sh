#!/usr/bin/env bash
# Says whether all variables named in NEEDED are set. A template does not ship itself: until they are, what ships stays idle.
set -euo pipefail
missing=()
for name in $NEEDED; do
  [ -n "${!name:-}" ] || missing+=("$name")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "ready=true" >>"$GITHUB_OUTPUT"
  echo "configured: $NEEDED"
else
  echo "ready=false" >>"$GITHUB_OUTPUT"
  told="Idle: not set are ${missing[*]}. docs/setup.md says how."
  echo "$told" | tee -a "$GITHUB_STEP_SUMMARY"
  echo "::notice title=Idle::$told"
fi
