#!/usr/bin/env bash
# Continuous training on the configured store: the same commands as in the DAG, in the same order. BASE_DT (default: today)
# and PROFILE (default: full) come from the environment.
set -euo pipefail
ctcd=.venv/bin/ctcd
day=${BASE_DT:+--base-dt=$BASE_DT}
"$ctcd" snapshot ${day:+"$day"}
"$ctcd" monitor ${day:+"$day"}
"$ctcd" train ${day:+"$day"} --profile "${PROFILE:-full}"
