"""References to images: only by digest, since a tag can be moved to another image."""

import re

from ctcd.errors import UsageError

_BY_DIGEST = re.compile(r"[a-z0-9][\w./:-]*@sha256:[0-9a-f]{64}")


def require_digest(image: str) -> str:
    """Return a reference to an image if it has a digest.

    A tag could be moved to another image after this one was judged, scanned and signed.

    Raises:
        UsageError: the reference is empty, or a tag.
    """
    if not _BY_DIGEST.fullmatch(image):
        raise UsageError(
            f"{image!r} is not named by digest",
            where="image",
            hint="name the image by digest: registry/name@sha256:...",
        )
    return image


def digest_of(image: str) -> str:
    """Return the digest of a reference to an image.

    Raises:
        UsageError: the reference has no digest.
    """
    return require_digest(image).rpartition("@")[2]
