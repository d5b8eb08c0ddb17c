"""What an image is called where it is deployed: always by its digest."""

import re

from ctcd.errors import UsageError

_BY_DIGEST = re.compile(r"[a-z0-9][\w./:-]*@sha256:[0-9a-f]{64}")


def require_digest(image: str) -> str:
    """Return a reference to an image, once it is known to name its content.

    A tag may be moved to another image after this one was judged, scanned and signed.

    Raises:
        UsageError: it is empty, or a tag.
    """
    if not _BY_DIGEST.fullmatch(image):
        raise UsageError(
            f"{image or 'nothing'!r} does not say which content is to be deployed",
            where="image",
            hint="give it by digest: registry/name@sha256:...",
        )
    return image


def digest_of(image: str) -> str:
    """Return the digest of a reference that has one."""
    return require_digest(image).rpartition("@")[2]
