from pathlib import Path
from typing import Any

import yaml

from ctcd.deployment.compose import PASSED_ON, SLOTS

FOLDER = Path(__file__).parents[3] / "deploy" / "compose"


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def test_a_container_gets_exactly_the_variables_that_count_as_its_settings() -> None:
    """A change of a variable that the target does not know would never replace a container."""
    for slot in SLOTS:
        variables = document()["services"][slot]["environment"]
        assert {name for name, value in variables.items() if value is None} == set(PASSED_ON)


def test_the_proxy_knows_exactly_the_two_slots() -> None:
    """Its servers are called after the slots, each at the port of the container."""
    lines = (FOLDER / "haproxy.cfg").read_text().splitlines()
    servers = [line.split() for line in lines if line.strip().startswith("server ")]
    assert servers == [["server", slot, f"{slot}:3000"] for slot in SLOTS]


def test_every_service_is_hardened() -> None:
    """Each has a read-only root and no capabilities; the slots are published on loopback, for probes."""
    # The project is named by the target, after the instance and the environment.
    assert "name" not in document()
    services = document()["services"]
    assert set(services) == {*SLOTS, "proxy"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert services[SLOTS[0]]["ports"] == ["127.0.0.1::3000"]
