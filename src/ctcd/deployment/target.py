"""Where a version can be deployed to."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Probe = Callable[[str], None]
"""Raises `CtcdError` if what answers at a URL is not what was deployed."""


def unprobed(_url: str) -> None:
    """Accept what is deployed without probing it."""


class TargetName(StrEnum):
    """Kinds of targets."""

    PROCESS = "process"
    """A process of this machine."""
    COMPOSE = "compose"
    """A Docker host."""
    KUBERNETES = "kubernetes"
    """A Kubernetes cluster."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed now.

    Args:
        tag: tag of the Bento, or the image by its digest.
        digest: SHA-256 of the Bento's or image's content.
        before: version that was deployed before; None if there was none.
        changed: whether the deployment was replaced.
        promoted: whether the version was to become the champion, and is.
        champion_before: champion before the promotion; None if there was none, or nothing was promoted.
    """

    url: str
    tag: str
    version: str
    digest: str
    before: str | None
    changed: bool
    promoted: bool = False
    champion_before: str | None = None


class Target(Protocol):
    """A place that runs one version at a time."""

    def deploy(self, tag: str, *, version: str, digest: str, probe: Probe = unprobed) -> Deployment:
        """Replace what is deployed; if the new version is not ready in time or fails its probes, restore the old one.

        The tag is that of a Bento, or an image by its digest, whichever the target runs; the digest is the SHA-256 of
        its content. The probe has to pass before the old version is given up.

        Raises:
            CtcdError: the new version is not ready in time, or fails its probes.
        """

    def stop(self) -> bool:
        """Stop what is deployed; return whether anything was."""
