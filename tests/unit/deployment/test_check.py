"""Whether the champion has to be deployed."""

from typing import Any

import pytest

from ctcd.deployment.check import check
from ctcd.registry.versions import RegisteredVersion

URL = "http://api.example"
CHAMPION = RegisteredVersion(
    model_name="machine_condition", version="2", run_id="r2", aliases=(), created_at="", tags={}, uri=""
)


@pytest.mark.parametrize(
    ("answered", "champion", "action", "reason", "deployed"),
    [
        (None, None, "skip", "no champion", None),
        ({"version": "1", "run_id": "r1"}, None, "skip", "no champion", "1"),
        (None, CHAMPION, "deploy", "does not answer", None),
        ({}, CHAMPION, "deploy", "no model", None),
        ({"version": "1", "run_id": "r1"}, CHAMPION, "deploy", "version 1 is deployed", "1"),
        ({"version": "2", "run_id": "another registry's"}, CHAMPION, "deploy", "version 2 is deployed", "2"),
        ({"version": "2", "run_id": "r2"}, CHAMPION, "skip", "version 2 is deployed already", "2"),
    ],
)
def test_the_champion_is_deployed_unless_its_very_run_answers(
    answered: dict[str, Any] | None, champion: RegisteredVersion | None, action: str, reason: str, deployed: str | None
) -> None:
    """The report names the action, the reason, the champion and the version that answers."""
    found = check(answered, champion, URL)
    assert (found.action.value, found.deployed, found.url) == (action, deployed, URL)
    assert found.champion == (champion.version if champion else None)
    assert reason in found.reason
