#!/usr/bin/env bash
# Fails unless the release workflow of this repository attested the provenance and the SBOM of IMAGE.
set -euo pipefail
case "$IMAGE" in
  *@sha256:*) ;;
  *)
    echo "error: $IMAGE: an image is verified by digest only" >&2
    exit 2
    ;;
esac
signer="$GITHUB_REPOSITORY/.github/workflows/release.yml"
gh attestation verify "oci://$IMAGE" --repo "$GITHUB_REPOSITORY" --signer-workflow "$signer"
gh attestation verify "oci://$IMAGE" --repo "$GITHUB_REPOSITORY" --signer-workflow "$signer" \
  --predicate-type https://spdx.dev/Document/v2.3
echo "verified: $IMAGE"
