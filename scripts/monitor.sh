#!/usr/bin/env bash
# Monitors the model in service by the configured store: the same commands as in the DAG. The next step of the workflow
# reads from the outputs whether findings ask for a training.
set -euo pipefail
ctcd=.venv/bin/ctcd
for period in daily weekly; do
  "$ctcd" performance --period "$period"
  "$ctcd" drift --period "$period"
done
"$ctcd" findings list --summary "$GITHUB_STEP_SUMMARY"
"$ctcd" report --out build/reports/site
"$ctcd" findings due --outputs "$GITHUB_OUTPUT"
