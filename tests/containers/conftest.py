"""Fixtures of the container tests, which need Docker and the images of `make images`."""

import secrets
from collections.abc import Iterator

import pytest
from support.containers import Container, docker, started, variables

MARIADB = "mariadb:10.11"
DATABASE, USER = "mlops", "ctcd"


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """Name of a Docker network of this session."""
    name = f"ctcd-test-{secrets.token_hex(4)}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture(scope="session")
def mariadb(network: str) -> Iterator[tuple[Container, str]]:
    """A MariaDB container in that network, and the URL of its empty database in the network."""
    password = secrets.token_hex(16)
    settings = {
        "MARIADB_DATABASE": DATABASE,
        "MARIADB_USER": USER,
        "MARIADB_PASSWORD": password,
        "MARIADB_ROOT_PASSWORD": secrets.token_hex(16),
    }
    check = [
        "--health-cmd=healthcheck.sh --connect --innodb_initialized",
        "--health-interval=1s",
        "--health-retries=60",
    ]
    place = [f"--network={network}", "--network-alias=mariadb"]
    # Not hardened: the entry point of the official image starts as root.
    with started(MARIADB, options=[*variables(settings), *check, *place], hardened=False) as server:
        server.wait_until_healthy()
        yield server, f"mysql+pymysql://{USER}:{password}@mariadb:3306/{DATABASE}"


@pytest.fixture
def volume() -> Iterator[str]:
    """Name of an empty volume."""
    name = docker("volume", "create").stdout.strip()
    yield name
    docker("volume", "rm", "--force", name)
