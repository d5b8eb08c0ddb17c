#!/usr/bin/env bash
# Continuous training on the configured store: the same verbs, in the same order, as the DAG. BASE_DT (default: today) and
# PROFILE (default: full) come from the environment.
set -euo pipefail
verb=.venv/bin/ctcd
day=${BASE_DT:+--base-dt=$BASE_DT}
"$verb" snapshot ${day:+"$day"}
"$verb" monitor ${day:+"$day"}
"$verb" train ${day:+"$day"} --profile "${PROFILE:-full}"
