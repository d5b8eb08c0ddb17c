"""Whether the champion has to be deployed."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ctcd.registry.versions import RegisteredVersion


class Action(StrEnum):
    """Whether to deploy."""

    DEPLOY = "deploy"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class DeploymentCheck:
    """Whether the champion has to be deployed; a version is None if there is no champion, or no answer."""

    action: Action
    reason: str
    champion: str | None
    deployed: str | None
    url: str


def check(answered: dict[str, Any] | None, champion: RegisteredVersion | None, url: str) -> DeploymentCheck:
    """Decide whether to deploy the champion over what answers `GET /model-info`; both are None if there is none."""
    deployed = str(answered["version"]) if answered and answered.get("version") else None
    action = Action.DEPLOY
    if champion is None:
        action, reason = Action.SKIP, "there is no champion yet"
    elif answered is None:
        reason = "the service does not answer"
    elif deployed is None:
        reason = "the service has no model"
    # A registry that was created again counts versions from 1 again; runs have unique ids.
    elif deployed == champion.version and answered.get("run_id") == champion.run_id:
        action, reason = Action.SKIP, f"version {deployed} is deployed already"
    else:
        reason = f"version {deployed} is deployed, the champion is version {champion.version}"
    return DeploymentCheck(
        action=action, reason=reason, champion=champion.version if champion else None, deployed=deployed, url=url
    )
