"""Where a Bento can be deployed to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Probe = Callable[[str], None]
"""Raises if what answers at a URL is not what was to be deployed."""


def unprobed(_url: str) -> None:
    """Take what is deployed as it is."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed now.

    Args:
        url: where it answers.
        tag: tag of the Bento, or the image.
        version: version of the model.
        digest: SHA-256 of the Bento's or image's content.
        before: version that was deployed before; None if none was.
        changed: whether anything was changed.
    """

    url: str
    tag: str
    version: str
    digest: str
    before: str | None
    changed: bool


class Target(Protocol):
    """A place that runs one version at a time."""

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        """Replace what is deployed; if the new one does not become ready or fails its probes, the old one is put back.

        Args:
            tag: tag of a Bento, or an image by its digest: what the target takes.
            version: version of the model in it.
            digest: SHA-256 of its content.
            probe: has to pass before the old one is given up.

        Raises:
            CtcdError: it does not become ready, or fails its probes; says why.
        """

    def stop(self) -> bool:
        """End what is deployed; return whether anything was."""
