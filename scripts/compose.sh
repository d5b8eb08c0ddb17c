#!/usr/bin/env bash
# docker compose with docker/compose.yaml: scripts/compose.sh ps, scripts/compose.sh run --rm ct ctcd gate ...
set -euo pipefail
cd "$(dirname "$0")/.."
slug=$(scripts/slug.sh)
LATENCY_LIMIT_SECONDS=$(python3 -c 'import sys, tomllib
print(tomllib.load(open(sys.argv[1], "rb"))["shapes"]["reference"]["limits"]["p99_ms"] / 1000)' "${CTCD_CONTRACTS:-contracts}/service.toml")
export LATENCY_LIMIT_SECONDS
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-$slug} IMAGE_PREFIX=${IMAGE_PREFIX:-$slug}
case ",${PROFILES:-}," in
  *,celery,*) export AIRFLOW_EXECUTOR=CeleryExecutor ;;
esac
exists() { docker image inspect "$1" >/dev/null 2>&1; }
if [ -z "${POSTGRES_IMAGE:-}" ] && ! exists postgres:15-bookworm && exists ctcd-postgres:15; then
  export POSTGRES_IMAGE=ctcd-postgres:15 # built by scripts/up.sh
fi
COMPOSE_PROFILES=${PROFILES:-} exec docker compose --env-file "${ENV_FILE:-.env}" --file docker/compose.yaml "$@"
