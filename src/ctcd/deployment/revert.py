"""Back from a version that does not work where it is served."""

from dataclasses import dataclass

from ctcd.registry.versions import PREVIOUS, ROLLED_BACK_TO, RegisteredVersion, Registry


@dataclass(frozen=True, kw_only=True)
class Reverted:
    """What became of a version that did not work.

    Args:
        rolled_back: the version taken out of service; None if it was not the champion any more.
        champion: the champion now; None if there was none to go back to, and nothing is deployed.
        reason: why.
    """

    rolled_back: str | None
    champion: str | None
    reason: str


def roll_back(registry: Registry, version: str, reason: str) -> tuple[str | None, RegisteredVersion | None]:
    """Take a version out of service if it is the champion; return it, and the champion to deploy, if there is one."""
    champion = registry.champion()
    if champion.version != version:
        return None, champion
    previous = registry.find(PREVIOUS)
    if ROLLED_BACK_TO not in champion.tags and (previous is None or previous.version == version):
        return version, None
    registry.rollback(reason=reason)
    return version, registry.champion()
