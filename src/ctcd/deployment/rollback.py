"""Takes a version that fails where it is served out of service."""

from dataclasses import dataclass

from ctcd.deployment.target import Deployment
from ctcd.registry.versions import CHAMPION, PREVIOUS, ROLLED_BACK, ROLLED_BACK_TO, RegisteredVersion, Registry


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What a rollback changed.

    Args:
        champion: version that is in service now; None if there was none to go back to.
        rolled_back: version that was taken out of service; None if the champion was not changed.
        deployment: what is deployed now; None if nothing was deployed.
    """

    champion: str | None
    rolled_back: str | None
    reason: str
    deployment: Deployment | None = None


def roll_back_failed(registry: Registry, version: str, reason: str) -> tuple[str | None, RegisteredVersion | None]:
    """Make the previous champion the champion again if a version is the champion.

    Where there is none to go back to, the version is withdrawn, so that there is no champion. One that a user went back
    to from another version stays the champion: the next deployment tries it again.

    Returns:
        the version if it was the champion, else None; and the champion to deploy, None if there is none.

    Raises:
        NotFound: there is no champion, and the version was not one that was rolled back.
    """
    champion = registry.find(CHAMPION)
    if champion is None and any(each.version == version and ROLLED_BACK in each.tags for each in registry.versions()):
        return None, None
    champion = champion or registry.champion()
    if champion.version != version:
        return None, champion
    previous = registry.find(PREVIOUS)
    if ROLLED_BACK_TO not in champion.tags and (previous is None or previous.version == version):
        if not any(each.tags.get(ROLLED_BACK_TO) == version for each in registry.versions()):
            registry.withdraw(version, reason=reason)
        return version, None
    registry.rollback(reason=reason)
    return version, registry.champion()
