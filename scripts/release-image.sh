#!/usr/bin/env bash
# Builds the image credit-score-api:v$VERSION from the Bento of that version, and lets the very image answer its probes.
set -euo pipefail
bento=$(.venv/bin/ctcd build --version "$VERSION" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["path"])')
.venv/bin/python scripts/images.py api --bento "$bento" --tag "v$VERSION"
.venv/bin/ctcd smoke --version "$VERSION" --image "credit-score-api:v$VERSION"
