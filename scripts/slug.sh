#!/usr/bin/env bash
# Prints what the instance in CTCD_CONTRACTS (default: contracts) is called in names of images and projects: the name of its
# contract with - for _.
set -euo pipefail
lock=${CTCD_CONTRACTS:-contracts}/lock/contract.json
python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["name"].replace("_", "-"))' "$lock"
