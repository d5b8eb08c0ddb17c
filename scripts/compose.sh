#!/usr/bin/env bash
# docker compose on our stack: scripts/compose.sh ps, scripts/compose.sh run --rm ct ctcd gate ...
set -euo pipefail
cd "$(dirname "$0")/.."
there() { docker image inspect "$1" >/dev/null 2>&1; }
if [ -z "${POSTGRES_IMAGE:-}" ] && ! there postgres:15-bookworm && there ctcd-postgres:15; then
  export POSTGRES_IMAGE=ctcd-postgres:15 # what scripts/up.sh built
fi
COMPOSE_PROFILES=${PROFILES:-} exec docker compose --env-file "${ENV_FILE:-.env}" --file docker/compose.yaml "$@"
