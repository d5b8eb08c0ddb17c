#!/usr/bin/env bash
# Pushes the api image of VERSION to IMAGE_REPOSITORY and writes the digest that the registry reports to GITHUB_OUTPUT. Logs
# in with REGISTRY_USER and REGISTRY_PASSWORD, if set.
set -euo pipefail
slug=$(scripts/slug.sh)
tag="$IMAGE_REPOSITORY:v$VERSION"
if [ -n "${REGISTRY_PASSWORD:-}" ]; then
  docker login --username "$REGISTRY_USER" --password-stdin "${IMAGE_REPOSITORY%%/*}" <<<"$REGISTRY_PASSWORD"
fi
docker tag "$slug-api:v$VERSION" "$tag"
docker push --quiet "$tag"
# The image may have digests in other repositories, too.
image=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$tag" | grep --fixed-strings --max-count=1 "$IMAGE_REPOSITORY@sha256:")
{
  echo "image=$image"
  echo "digest=${image##*@}"
} >>"$GITHUB_OUTPUT"
echo "pushed: $image"
