#!/usr/bin/env bash
# Starts the stack of docker/compose.yaml and waits until all of it is healthy.
set -euo pipefail
cd "$(dirname "$0")/.."
IMAGE_PREFIX=${IMAGE_PREFIX:-$(scripts/slug.sh)}
export IMAGE_PREFIX
exists() { docker image inspect "$1" >/dev/null 2>&1; }
for name in api ct airflow; do
  image=$IMAGE_PREFIX-$name:${TAG:-local}
  exists "$image" || { echo "error: there is no image $image: run make images" >&2; exit 2; }
done
scripts/make-env.sh "${ENV_FILE:-.env}"
official=postgres:15-bookworm built=ctcd-postgres:15
if [ -z "${POSTGRES_IMAGE:-}" ] && ! exists $official && ! docker pull --quiet $official 2>/dev/null; then
  echo "$official cannot be pulled: building one from Debian's packages"
  DOCKER_BUILDKIT=1 docker build --quiet --build-arg "BASE=${BASE_IMAGE:-python:3.11-slim-bookworm}" --tag $built docker/postgres
fi
scripts/compose.sh up --detach --wait --wait-timeout 600
