#!/usr/bin/env bash
# Compiles the dependency locks again if the requirements in pyproject.toml have changed, and fails if that changed the locks.
# requirements/.asked holds the digest of the requirements, so that nothing is looked up on the network while they are the same.
set -euo pipefail
cd "$(dirname "$0")/.."
asked=$(.venv/bin/python - <<'PYTHON'
import hashlib, json, pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
parts = [project["project"].get(key) for key in ("requires-python", "dependencies", "optional-dependencies")]
files = [*sorted(pathlib.Path("requirements").glob("*.txt")), *sorted(pathlib.Path().glob("contracts*/requirements.in"))]
locks = [path.read_text() for path in files]
print(hashlib.sha256(json.dumps([parts, project["dependency-groups"], locks]).encode()).hexdigest())
PYTHON
)
[ "${1:-}" = --record ] && { echo "$asked" >requirements/.asked; exit 0; }
[ "$asked" = "$(cat requirements/.asked 2>/dev/null)" ] && exit 0
make lock
echo "the locks were compiled again: add requirements/ to the commit" >&2
exit 1
