"""Load-tests the release against the limits of the service levels; the nightly workflow runs it.

LOAD_SHAPE names the load shape. LOAD_URL names a running service, on a host that LOAD_HOSTS lists: whoever starts the
workflow chooses the URL, and LOAD_KEY is sent there. Without LOAD_URL, the champion's released image is started here with a
MariaDB of its own if MLFLOW_TRACKING_URI names the registry; otherwise the service of this checkout is tested.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load.__main__ import REFUSED
from load.__main__ import main as load
from load.targets import allowed
from load_summary import REPORTS, markdown
from pydantic import SecretStr
from support.containers import docker, started, variables
from typer import Exit

from ctcd.cli.output import explained, out
from ctcd.deployment.local_container import running_image
from ctcd.settings import Settings, load_settings
from ctcd.stages import data, deployment

MARIADB = os.environ.get("MARIADB_IMAGE") or "mariadb:10.11"
DATABASE = "mlops"
HEALTH = ("--health-cmd=healthcheck.sh --connect --innodb_initialized", "--health-interval=1s", "--health-retries=60")


@contextmanager
def target() -> Iterator[str]:
    """Yield the URL of the service; empty: the load test starts one of its own."""
    url = os.environ.get("LOAD_URL", "")
    if url:
        yield allowed(url, os.environ.get("LOAD_HOSTS", ""))
    elif not os.environ.get("MLFLOW_TRACKING_URI"):
        out.print("MLFLOW_TRACKING_URI is not set: testing the service of this checkout, not a released image")
        yield ""
    else:
        settings = load_settings()
        image = deployment.released_image(settings)
        out.print(f"testing {image}")
        with store(settings) as (network, inside), running_image(inside, image, network=network) as url:
            yield url


@contextmanager
def store(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Run an empty feature store; yield its Docker network, and settings with the URL of the store in that network."""
    network = f"ctcd-load-{secrets.token_hex(4)}"
    password = secrets.token_hex(16)
    docker("network", "create", network)
    try:
        place = [f"--network={network}", "--network-alias=mariadb", "--publish=127.0.0.1::3306", *HEALTH]
        known = variables({"MARIADB_ROOT_PASSWORD": password, "MARIADB_DATABASE": DATABASE})
        with started(MARIADB, options=[*place, *known], hardened=False) as server:
            server.wait_until_healthy()
            data.migrate(_with_store(settings, password, f"127.0.0.1:{server.port(3306)}"))
            yield network, _with_store(settings, password, "mariadb:3306")
    finally:
        docker("network", "rm", network)


def _with_store(settings: Settings, password: str, place: str) -> Settings:
    url = f"mysql+pymysql://root:{password}@{place}/{DATABASE}"
    return settings.model_copy(update={"feature_store_url": SecretStr(url)})


def main() -> int:
    """Run the load test and return its exit code."""
    shape, key = os.environ.get("LOAD_SHAPE") or "reference", os.environ.get("LOAD_KEY", "")
    try:
        with target() as url:
            load(shape=shape, url=url, key=key, reports=REPORTS, keep=False)
    except Exit as ended:
        if ended.exit_code == REFUSED:
            end = secrets.token_hex(16)
            with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as outputs:
                outputs.write(f"regression=true\nsummary<<{end}\n{markdown(REPORTS / f'{shape}.json')}{end}\n")
        return ended.exit_code
    return 0


if __name__ == "__main__":
    with explained():
        sys.exit(main())
