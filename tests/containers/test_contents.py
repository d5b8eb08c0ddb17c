"""Configuration and contents of the images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.containers import (
    AIRFLOW,
    API,
    CT,
    HARDENED,
    OWN,
    configuration,
    configuration_problems,
    content_problems,
    docker,
    variables,
)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

EVERY = ["ctcd.contract-version"]
MODEL = ["ctcd.model-version", "ctcd.model-run"]
LARGEST_API = 800_000_000
"""Limit in bytes for what the api image adds to its base; with Debian's slim Python that is below 1 GB in total."""
PLANTED = "ctcd-planted:test"


@pytest.mark.parametrize(("image", "labels"), [(API, EVERY + MODEL), (CT, EVERY), (AIRFLOW, EVERY)])
def test_the_configuration_of_an_image_is_in_order(image: str, labels: list[str]) -> None:
    """It has a user other than root, a health check, no shell as first process, all labels and no secret in a variable."""
    config = configuration(image)
    assert configuration_problems(config, labels) == []
    assert config["User"] == "10001:10001"
    assert config["Labels"]["ctcd.contract-version"] == OWN.contract.version


@pytest.mark.parametrize(
    ("image", "folder"), [(API, "/srv/bento/src/contracts"), (CT, "/opt/contracts"), (AIRFLOW, "/opt/contracts")]
)
def test_an_image_carries_its_instance_outside_the_package(image: str, folder: str) -> None:
    """The instance is in a folder of its own, which the settings name, and is that of the images' contract."""
    script = (
        "from ctcd.settings import load_settings; from ctcd.contract.instance import load_instance; "
        "found = load_instance(load_settings().contracts); print(found.folder, found.contract.name)"
    )
    # In the api image the package is imported from the Bento.
    settings = variables({"CTCD_ENVIRONMENT": "ci", "PYTHONPATH": "/srv/bento/src"})
    done = docker("run", "--rm", *HARDENED, *settings, "--entrypoint=python", image, "-c", script)
    assert done.stdout.split() == [folder, OWN.contract.name]


@pytest.mark.parametrize("image", [API, CT, AIRFLOW])
def test_an_image_holds_nothing_that_it_should_not(image: str) -> None:
    """No compiler, cache, secret, history or test of this repository is in any layer."""
    assert content_problems(image) == []


def test_the_api_image_is_small() -> None:
    """What the api image adds to its base stays below the limit."""
    sizes = docker("history", "--human=false", "--format={{.Size}} {{.CreatedBy}}", API).stdout.splitlines()
    own = []
    for line in sizes:
        size, _, made_by = line.partition(" ")
        own.append(int(size))
        if "useradd" in made_by:
            break
    assert sum(own) < LARGEST_API


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: config.update(User=""), "it runs as root"),
        (lambda config: config.update(User="0:0"), "it runs as root"),
        (lambda config: config.update(User="ctcd"), "its user 'ctcd' is not a number"),
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
def test_a_change_of_the_configuration_is_noticed(change: Callable[[dict[str, Any]], Any], problem: str) -> None:
    """One change of the api image's configuration causes one problem."""
    config = configuration(API)
    change(config)
    problems = configuration_problems(config, EVERY + MODEL)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


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
    ("lines", "problem"),
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
def test_a_file_planted_in_an_image_is_reported(planted: Callable[[str], str], lines: str, problem: str) -> None:
    """A file that should not be there is reported, also if a later layer deletes it."""
    assert problem in content_problems(planted(lines))


def test_an_image_that_is_made_to_run_as_root_is_refused(planted: Callable[[str], str]) -> None:
    """One more line in the Dockerfile is enough to be reported."""
    assert configuration_problems(configuration(planted(f"FROM {CT}\nUSER root"))) == [
        "its user 'root' is not a number"
    ]
    assert configuration_problems(configuration(planted(f"FROM {CT}\nUSER 0"))) == ["it runs as root"]
