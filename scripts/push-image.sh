#!/usr/bin/env bash
# Pushes credit-score-api:v$VERSION to IMAGE_REPOSITORY and tells the digest that the registry gave it. REGISTRY_USER and
# REGISTRY_PASSWORD, if set, are what it logs in with.
set -euo pipefail
tag="$IMAGE_REPOSITORY:v$VERSION"
if [ -n "${REGISTRY_PASSWORD:-}" ]; then
  docker login --username "$REGISTRY_USER" --password-stdin "${IMAGE_REPOSITORY%%/*}" <<<"$REGISTRY_PASSWORD"
fi
docker tag "credit-score-api:v$VERSION" "$tag"
docker push --quiet "$tag"
# An image may be known by digests of other repositories, too.
image=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$tag" | grep --fixed-strings --max-count=1 "$IMAGE_REPOSITORY@sha256:")
{
  echo "image=$image"
  echo "digest=${image##*@}"
} >>"$GITHUB_OUTPUT"
echo "pushed: $image"
