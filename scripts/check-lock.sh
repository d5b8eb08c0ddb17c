#!/usr/bin/env bash
# Compile the dependency locks again if pyproject.toml asks for something else than they were compiled for, and fail if that changed them.
# The digest of what was asked for stands in requirements/.asked, so that an unchanged question costs no network access.
set -euo pipefail
cd "$(dirname "$0")/.."
asked=$(.venv/bin/python - <<'PYTHON'
import hashlib, json, pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
parts = [project["project"].get(key) for key in ("requires-python", "dependencies", "optional-dependencies")]
locks = [path.read_text() for path in sorted(pathlib.Path("requirements").glob("*.txt"))]
print(hashlib.sha256(json.dumps([parts, project["dependency-groups"], locks]).encode()).hexdigest())
PYTHON
)
[ "${1:-}" = --record ] && { echo "$asked" >requirements/.asked; exit 0; }
[ "$asked" = "$(cat requirements/.asked 2>/dev/null)" ] && exit 0
make lock
echo "the locks were compiled again: add requirements/ to the commit" >&2
exit 1
