#!/usr/bin/env bash
# Refuses IMAGE unless the release workflow of this repository attested where it comes from and what is in it.
set -euo pipefail
case "$IMAGE" in
  *@sha256:*) ;;
  *)
    echo "error: $IMAGE is no image by digest" >&2
    exit 2
    ;;
esac
signer="$GITHUB_REPOSITORY/.github/workflows/release.yml"
gh attestation verify "oci://$IMAGE" --repo "$GITHUB_REPOSITORY" --signer-workflow "$signer"
gh attestation verify "oci://$IMAGE" --repo "$GITHUB_REPOSITORY" --signer-workflow "$signer" \
  --predicate-type https://spdx.dev/Document/v2.3
echo "verified: $IMAGE"
