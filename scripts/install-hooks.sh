#!/bin/sh
# Installs the pre-commit hooks. Without them everything else works, so what prevents it is reported and is no failure.
set -eu
if ! problem=$(git rev-parse --git-dir 2>&1); then
    printf '%s\n' "pre-commit hooks not installed: $problem" "(after that is corrected, run \`make install\` again)"
elif hooks=$(git config core.hooksPath); then
    echo "pre-commit hooks not installed: git's core.hooksPath is $hooks; let its pre-commit hook call .venv/bin/pre-commit run"
else
    .venv/bin/pre-commit install --install-hooks
fi
