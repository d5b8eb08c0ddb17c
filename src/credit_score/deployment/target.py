"""Where a Bento can be deployed to."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed now.

    Args:
        url: where it answers.
        tag: tag of the Bento.
        version: version of the model.
        digest: SHA-256 of the Bento's content.
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

    def deploy(self, tag: str, *, version: str, digest: str) -> Deployment:
        """Replace what is deployed; if the new one does not become ready, what was there before is put back.

        Args:
            tag: tag of a Bento.
            version: version of the model in it.
            digest: SHA-256 of its content.

        Raises:
            CreditScoreError: it does not become ready; says why.
        """

    def stop(self) -> bool:
        """End what is deployed; return whether anything was."""
