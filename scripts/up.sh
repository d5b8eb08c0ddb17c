#!/usr/bin/env bash
# Start the stack of docker/compose.yaml and wait until all of it is healthy: what `make up` runs.
set -euo pipefail
cd "$(dirname "$0")/.."
there() { docker image inspect "$1" >/dev/null 2>&1; }
for name in api ct airflow; do
  there "ctcd-$name:${TAG:-local}" || { echo "no image ctcd-$name:${TAG:-local}: run make images" >&2; exit 2; }
done
scripts/make-env.sh "${ENV_FILE:-.env}"
official=postgres:15-bookworm ours=ctcd-postgres:15
if [ -z "${POSTGRES_IMAGE:-}" ] && ! there $official && ! docker pull --quiet $official 2>/dev/null; then
  echo "$official cannot be pulled: building one from Debian's packages"
  DOCKER_BUILDKIT=1 docker build --quiet --build-arg "BASE=${BASE_IMAGE:-python:3.11-slim-bookworm}" --tag $ours docker/postgres
fi
scripts/compose.sh up --detach --wait --wait-timeout 600
