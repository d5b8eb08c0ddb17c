"""A service ends as a whole, and leaves another one on the same home alone."""

import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import SecretStr
from support.load import load, wait
from support.network import free_port
from support.processes import still_running
from support.serving import EXAMPLE, logged, logged_ids

from ctcd.deployment.bento import BentoReport
from ctcd.serving.launch import RunningService, running, start, wait_until_ready
from ctcd.settings import Settings

pytestmark = pytest.mark.integration

Built = tuple[BentoReport, Path]

SERVE = """
import sys
from ctcd.serving.launch import serve
from ctcd.settings import load_settings
sys.exit(serve(sys.argv[1], load_settings()))
"""


def family(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def predicted(url: str) -> float:
    """The number of predictions that a service has counted."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("ctcd_predictions_total"))


def test_a_killed_supervisor_leaves_no_worker_and_no_port(built: Built, settings: Settings, store_url: str) -> None:
    """Its workers end by themselves; a service that is started at once gets the port, and loses no answer."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(store_url), "workers": 2})
    with running(built[0].tag, settings) as service:
        with load(service) as answers:
            wait(lambda: len(answers.ids) > 100)
            wait(lambda: len(family(service.process.pid)) >= 4)  # two workers, with a process each that ships
            left = family(service.process.pid)
            service.process.kill()
            service.process.wait()
            with running(built[0].tag, settings) as successor:
                before = len(answers.ids)
                wait(lambda: len(answers.ids) > before + 100)
                assert ready(successor.url)
                assert not still_running(left, 30)
        wait(lambda: set(answers.ids) <= set(logged_ids(store_url)))
    assert answers.statuses == {200}


def test_a_killed_worker_start_leaves_no_orphan(built: Built, settings: Settings, sqlite_url: str) -> None:
    """A supervisor that is killed before its worker has loaded anything takes that worker with it, too."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(sqlite_url)})
    service = start(built[0].tag, settings, "serve.log")
    wait(lambda: bool(family(service.process.pid)))
    left = family(service.process.pid)
    service.process.kill()
    service.process.wait()
    assert not still_running(left, 60)


def _service(tag: str, settings: Settings) -> tuple["subprocess.Popen[bytes]", str]:
    command = [sys.executable, "-c", SERVE, tag]
    process = subprocess.Popen(command, env=settings.child_environment())  # noqa: S603 - our own command
    return process, f"http://{settings.host}:{settings.port}"


def test_a_killed_command_takes_the_service_with_it(built: Built, settings: Settings, sqlite_url: str) -> None:
    """Even `kill -9` of `ctcd serve` leaves nothing behind."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(sqlite_url)})
    process, url = _service(built[0].tag, settings)
    try:
        wait(lambda: ready(url))
        assert httpx.post(f"{url}/predict", json={"data": EXAMPLE}).status_code == 200
        left = family(process.pid)
    finally:
        process.kill()
        process.wait()
    assert not still_running(left, 60)
    assert not ready(url)


def test_a_service_that_outlives_its_starter_goes_on(built: Built, settings: Settings, sqlite_url: str) -> None:
    """A deployment starts one, and ends before it."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(sqlite_url)})
    code = (
        "import sys; from ctcd.serving.launch import start; from ctcd.settings import load_settings\n"
        "print(start(sys.argv[1], load_settings(), 'serve.log').process.pid)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, built[0].tag]
    done = subprocess.run(command, env=settings.child_environment(), check=True, capture_output=True)  # noqa: S603 - our own command
    supervisor = psutil.Process(int(done.stdout))
    url = f"http://{settings.host}:{settings.port}"
    try:
        wait(lambda: ready(url))
        assert supervisor.is_running()
    finally:
        left = [supervisor, *family(supervisor.pid)]
        supervisor.kill()
    assert not still_running(left, 60)


def test_two_services_on_one_home_count_for_themselves(built: Built, settings: Settings, sqlite_url: str) -> None:
    """Neither the start nor the end of one changes the metrics of the other, nor loses or doubles a prediction."""
    settings = settings.model_copy(update={"feature_store_url": SecretStr(sqlite_url)})

    def ask(service: RunningService, times: int) -> None:
        for _ in range(times):
            assert httpx.post(f"{service.url}/predict", json={"data": EXAMPLE}).status_code == 200

    with running(built[0].tag, settings) as first:
        ask(first, 3)
        other = settings.model_copy(update={"port": free_port()})
        second = start(built[0].tag, other, "second.log")
        try:
            wait_until_ready(second, other)
            ask(second, 2)
            assert (predicted(first.url), predicted(second.url)) == (3, 2)
            ask(first, 1)
            assert (predicted(first.url), predicted(second.url)) == (4, 2)
        finally:
            second.process.terminate()
            second.process.wait(60)
        ask(first, 1)
        assert predicted(first.url) == 5
        wait(lambda: len(logged(sqlite_url)) == 7)
