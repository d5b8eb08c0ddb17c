"""What a release or its rollback came to."""

from dataclasses import dataclass

from ctcd.deployment.target import Deployment


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A version that is deployed, and has answered its probes.

    Args:
        deployment: where, and which image.
        promoted: whether it is the champion.
        champion_before: the champion before; None if there was none, or it was not to be changed.
    """

    deployment: Deployment
    promoted: bool
    champion_before: str | None


@dataclass(frozen=True, kw_only=True)
class Unshipped:
    """A version that is deployed again, and has answered its probes.

    Args:
        deployment: where, and which image.
        rolled_back: version that is not the champion any more; None if that was not to be changed.
        reason: why.
    """

    deployment: Deployment
    rolled_back: str | None
    reason: str
