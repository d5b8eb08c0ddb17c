"""References to images: only by digest."""

import pytest

from ctcd.deployment.image import digest_of, require_digest
from ctcd.errors import UsageError

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize("name", ["api", "ghcr.io/someone/ctcd/api", "127.0.0.1:5000/api", "registry/api:v7"])
def test_an_image_by_digest_is_accepted(name: str) -> None:
    """A reference with a digest is accepted, whatever the name of the registry."""
    assert digest_of(f"{name}@{DIGEST}") == DIGEST


@pytest.mark.parametrize(
    "image",
    [
        "",
        "api",
        "api:latest",
        "ghcr.io/someone/api:v7",
        f"api@{DIGEST[:-1]}",
        f"api@{DIGEST}0",
        f"api@{DIGEST.upper()}",
        f"@{DIGEST}",
        f"--privileged @{DIGEST}",
        DIGEST,
    ],
)
def test_a_tag_or_half_a_digest_is_refused(image: str) -> None:
    """A tag may be moved after an image was judged; nothing that only resembles a digest passes."""
    with pytest.raises(UsageError, match="by digest"):
        require_digest(image)
