#!/usr/bin/env bash
# Fails if one of the given files (default: all that git tracks) holds what looks like a secret. Tests use made-up passwords
# and URLs, so in tests only strings with the format of a real key count.
#
# For a false positive add `# pragma: allowlist secret` to the line, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
shapes=(--disable-plugin KeywordDetector --disable-plugin BasicAuthDetector
  --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString)
# Placeholders for passwords in documents and jobs.
made_up=(--exclude-secrets '^(password|only-for-this-job|.*\$\{.*)$')
# Hashes of packages and of the contract.
exclude='^(requirements/|contracts/lock/|tests/instance/lock/)'
if [ $# -gt 0 ]; then files=("$@"); else mapfile -d '' -t files < <(git ls-files -z); wait $!; fi # fails if git does
tests=() others=()
for file in "${files[@]}"; do
  [ -f "$file" ] || continue
  if [[ $file =~ $exclude ]]; then continue; fi
  if [[ $file == tests/* ]]; then tests+=("$file"); else others+=("$file"); fi
done
failed=0
if [ ${#others[@]} -gt 0 ]; then .venv/bin/detect-secrets-hook "${made_up[@]}" "${others[@]}" || failed=1; fi
if [ ${#tests[@]} -gt 0 ]; then .venv/bin/detect-secrets-hook "${shapes[@]}" "${made_up[@]}" "${tests[@]}" || failed=1; fi
[ $failed = 0 ] && echo "no secret in ${#files[@]} files"
exit $failed
