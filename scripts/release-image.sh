#!/usr/bin/env bash
# Builds the api image of VERSION from the Bento of that version, and probes it.
set -euo pipefail
slug=$(scripts/slug.sh)
bento=$(.venv/bin/ctcd build --version "$VERSION" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["path"])')
.venv/bin/python scripts/images.py api --bento "$bento" --tag "v$VERSION"
.venv/bin/ctcd smoke --version "$VERSION" --image "$slug-api:v$VERSION"
