"""Whether there is anything to deploy."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ctcd.registry.versions import RegisteredVersion


class Action(StrEnum):
    """What is to be done."""

    DEPLOY = "deploy"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done with a deployment.

    Args:
        action: what.
        reason: why.
        champion: version of the champion; None if there is none.
        deployed: version that answers; None if none does.
        url: where it answers, or is to answer.
    """

    action: Action
    reason: str
    champion: str | None
    deployed: str | None
    url: str


def plan(answered: dict[str, Any] | None, champion: RegisteredVersion | None, url: str) -> Plan:
    """Decide whether the champion is to be deployed.

    Args:
        answered: what the service says about its model; None if it does not answer.
        champion: the version in service, as the registry has it.
        url: where the service answers, or is to answer.
    """
    deployed = str(answered["version"]) if answered and answered.get("version") else None

    def decide(action: Action, reason: str) -> Plan:
        return Plan(
            action=action, reason=reason, champion=champion.version if champion else None, deployed=deployed, url=url
        )

    if champion is None:
        return decide(Action.SKIP, "there is no champion yet")
    if answered is None:
        return decide(Action.DEPLOY, "the service does not answer")
    if deployed is None:
        return decide(Action.DEPLOY, "the service has no model")
    # A registry that was made anew counts from 1 again: the run tells.
    if deployed == champion.version and answered.get("run_id") == champion.run_id:
        return decide(Action.SKIP, f"version {deployed} is deployed already")
    return decide(Action.DEPLOY, f"version {deployed} is deployed, the champion is version {champion.version}")
