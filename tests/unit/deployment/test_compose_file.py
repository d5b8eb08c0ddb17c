from pathlib import Path
from typing import Any

import yaml

from ctcd.deployment.compose import PASSED_ON, SLOTS

FOLDER = Path(__file__).parents[3] / "deploy" / "compose"


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def test_a_container_gets_the_variables_that_count_as_its_settings() -> None:
    """A variable that the file names and the target does not know would never replace a container."""
    for slot in SLOTS:
        variables = document()["services"][slot]["environment"]
        assert {name for name, value in variables.items() if value is None} == set(PASSED_ON)


def test_both_places_and_nothing_else_are_what_the_proxy_knows() -> None:
    """Their names are those of the proxy's servers, and each is reached by the container's own port."""
    lines = (FOLDER / "haproxy.cfg").read_text().splitlines()
    servers = [line.split() for line in lines if line.strip().startswith("server ")]
    assert servers == [["server", slot, f"{slot}:3000"] for slot in SLOTS]


def test_no_service_has_more_rights_than_it_needs_or_a_password_in_the_file() -> None:
    """Read-only, without capabilities, on loopback for probes; secrets come by the environment."""
    services = document()["services"]
    assert set(services) == {*SLOTS, "proxy"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert services[SLOTS[0]]["ports"] == ["127.0.0.1::3000"]
