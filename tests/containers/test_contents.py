"""What is in the images, and what is not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.containers import (
    AIRFLOW,
    API,
    CT,
    configuration,
    configuration_problems,
    content_problems,
    docker,
)
from support.instance import CONTRACT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

OURS = ["ctcd.contract-version"]
MODEL = ["ctcd.model-version", "ctcd.model-run"]
LARGEST_API = 800_000_000
"""Bytes that the api image may add to its base; with Debian's slim Python it is then under 1 GB."""
PLANTED = "ctcd-planted:test"


@pytest.mark.parametrize(("image", "labels"), [(API, OURS + MODEL), (CT, OURS), (AIRFLOW, OURS)])
def test_an_image_is_set_up_as_it_should_be(image: str, labels: list[str]) -> None:
    """It has a user who is not root, a health check, no shell in front, all its labels and no secret in a variable."""
    config = configuration(image)
    assert configuration_problems(config, labels) == []
    assert config["User"] == "10001:10001"
    assert config["Labels"]["ctcd.contract-version"] == CONTRACT.version


@pytest.mark.parametrize("image", [API, CT, AIRFLOW])
def test_an_image_holds_nothing_that_it_should_not(image: str) -> None:
    """No compiler, no cache, no secret, no history and no tests of ours are in any layer."""
    assert content_problems(image) == []


def test_the_api_image_is_small() -> None:
    """What the api image adds to its base stays under its limit."""
    sizes = docker("history", "--human=false", "--format={{.Size}} {{.CreatedBy}}", API).stdout.splitlines()
    own = []
    for line in sizes:
        size, _, made_by = line.partition(" ")
        own.append(int(size))
        if "useradd" in made_by:
            break
    assert sum(own) < LARGEST_API


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda config: config.update(User=""), "it runs as root"),
        (lambda config: config.update(User="0:0"), "it runs as root"),
        (lambda config: config.update(User="ctcd"), "its user 'ctcd' is no number"),
        (lambda config: config.update(Healthcheck=None), "it has no health check"),
        (lambda config: config.update(Healthcheck={"Test": ["NONE"]}), "it has no health check"),
        (lambda config: config.update(Entrypoint=["/bin/sh", "-c", "bentoml serve"]), "a shell is its first process"),
        (
            lambda config: config["Labels"].update({"org.opencontainers.image.revision": "unknown"}),
            "label org.opencontainers.image.revision is missing",
        ),
        (lambda config: config["Labels"].pop("ctcd.model-version"), "label ctcd.model-version is"),
        (
            lambda config: config["Env"].append("CTCD_API_KEYS=0123456789abcdef"),
            "variable CTCD_API_KEYS",
        ),
    ],
)
def test_a_change_of_the_configuration_is_noticed(change: Callable[[dict[str, Any]], Any], told: str) -> None:
    """One change of the api image's configuration, one problem."""
    config = configuration(API)
    change(config)
    problems = configuration_problems(config, OURS + MODEL)
    assert len(problems) == 1
    assert problems[0].startswith(told)


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Build an image from the lines of a Dockerfile; the folder holds one file, `secret`."""
    (tmp_path / "secret").write_text("-----BEGIN " + "PRIVATE KEY-----\n")

    def build(lines: str) -> str:
        (tmp_path / "Dockerfile").write_text(lines)
        docker("build", "--quiet", f"--tag={PLANTED}", str(tmp_path))
        return PLANTED

    yield build
    docker("image", "rm", "--force", PLANTED)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("FROM scratch\nCOPY secret /usr/bin/gcc-12", "compiler /usr/bin/gcc-12"),
        ("FROM scratch\nCOPY secret /root/.cache/pip/http/a", "cache /root/.cache/pip/http/a"),
        ("FROM scratch\nCOPY secret /srv/.git/config", "not for production: /srv/.git/config"),
        (
            "FROM scratch\nCOPY secret /opt/project/tests/conftest.py",
            "not for production: /opt/project/tests/conftest.py",
        ),
        ("FROM scratch\nCOPY secret /srv/.env", "secret /srv/.env"),
        ("FROM scratch\nCOPY secret /etc/server.pem", "secret within /etc/server.pem"),
        (f"FROM {CT}\nUSER 0\nCOPY secret /srv/key\nRUN rm /srv/key\nUSER 10001:10001", "secret within /srv/key"),
    ],
)
def test_what_is_planted_in_an_image_is_found(planted: Callable[[str], str], lines: str, told: str) -> None:
    """A file that should not be there is found, also if a later layer deletes it."""
    assert told in content_problems(planted(lines))


def test_an_image_that_is_made_to_run_as_root_is_refused(planted: Callable[[str], str]) -> None:
    """One line more in the Dockerfile is enough to be noticed."""
    assert configuration_problems(configuration(planted(f"FROM {CT}\nUSER root"))) == ["its user 'root' is no number"]
    assert configuration_problems(configuration(planted(f"FROM {CT}\nUSER 0"))) == ["it runs as root"]
