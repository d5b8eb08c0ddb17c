"""Runs an image on this machine's Docker for as long as a test of it takes, as it would run where it is deployed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ctcd.deployment.docker import Docker
from ctcd.errors import Unreachable, UsageError
from ctcd.settings import Environment, Settings

_POLL_SECONDS = 0.5


@contextmanager
def running_image(settings: Settings, image: str, *, network: str = "bridge") -> Iterator[str]:
    """Run an image in a hardened container, give its URL once it is healthy, and remove the container at the end.

    The container has to reach the store of the settings, if there is one, from its network.

    Raises:
        UsageError: the container does not start.
        Unreachable: Docker does not answer, or the container is not healthy in time.
    """
    docker = Docker("", settings.child_environment())
    container = docker.run(
        "run", "--detach", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
        "--publish=127.0.0.1::3000",
        f"--network={network}",
        "--env=CTCD_ENVIRONMENT", "--env=CTCD_MODEL_SOURCE=bento", "--env=FEATURE_STORE_URL", image,
        # Only this machine reaches it: it needs no API keys, and may run without a database server.
        more={"CTCD_ENVIRONMENT": Environment.CI.value, "FEATURE_STORE_URL": settings.feature_store_url.get_secret_value()},
    )  # fmt: skip
    try:
        _wait_until_healthy(docker, container, image, settings)
        found = docker.inspect(container) or {}
        yield f"http://127.0.0.1:{found['NetworkSettings']['Ports']['3000/tcp'][0]['HostPort']}"
    finally:
        docker.run("rm", "--force", "--volumes", container)


def _wait_until_healthy(docker: Docker, container: str, image: str, settings: Settings) -> None:
    deadline = time.monotonic() + settings.start_seconds
    while time.monotonic() < deadline:
        state = (docker.inspect(container) or {}).get("State", {})
        if not state.get("Running"):
            raise UsageError(f"the container does not run: {docker.log_tail(container)}", where=image)
        if (state.get("Health") or {}).get("Status") == "healthy":
            return
        time.sleep(_POLL_SECONDS)
    raise Unreachable(f"the container is not healthy in time: {docker.log_tail(container)}", where=image)
