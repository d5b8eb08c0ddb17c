#!/usr/bin/env bash
# Checks that all variables named in NEEDED are set. Until they are, the workflows that deploy do nothing.
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
  message="Idle: not set: ${missing[*]}. See docs/setup.md."
  echo "$message" | tee -a "$GITHUB_STEP_SUMMARY"
  echo "::notice title=Idle::$message"
fi
