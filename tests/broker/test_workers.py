"""Asynchronous requests of a real service whose workers are killed."""

from collections import Counter
from collections.abc import Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from support.instance import INSTANCE
from support.load import wait
from support.network import free_port
from support.processes import workers
from support.serving import INFO, logged_ids, pinned, row_of

from ctcd.deployment import bento
from ctcd.serving.launch import running
from ctcd.settings import Settings
from ctcd.store.migrations import upgrade

pytestmark = pytest.mark.broker
REQUESTS, ROWS = 60, 300


def holds(found: Sized, least: int) -> bool:
    return len(found) >= least


def answered(url: str) -> bool:
    return httpx.get(url).status_code == 200


def test_requests_outlive_their_workers(model_folder: Path, tmp_path: Path) -> None:
    """Each that was accepted is answered with its own rows and logged once, however many workers are killed meanwhile."""
    built = bento.build(INFO, model_folder, Settings(home=tmp_path), INSTANCE)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(store, INSTANCE.migrations)
    settings = pinned(
        tmp_path,
        port=free_port(),
        workers=2,
        asynchronous=True,
        requests_lease_seconds=1,
        feature_store_url=SecretStr(store),
    )
    accepted: dict[str, int] = {}

    def request(number: int) -> None:
        rows = [row_of(index) | {"machine": number + 1} for index in range(ROWS)]
        while True:
            try:
                answer = httpx.post(f"{service.url}/predictions", json={"data": rows}, timeout=30)
            except httpx.TransportError:  # its worker was killed; whether it was accepted nobody knows
                continue
            assert answer.status_code == 202, answer.text
            accepted[answer.headers["location"]] = number
            return

    with running(built.tag, settings) as service:
        wait(lambda: len(workers(service.process.pid)) == 2)
        with ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(request, number) for number in range(REQUESTS)]
            for kills in (1, 2):
                wait(partial(holds, accepted, kills * REQUESTS // 4))
                workers(service.process.pid)[0].kill()
                wait(lambda: len(workers(service.process.pid)) == 2)
            for each in sent:
                each.result()
        assert len(accepted) == REQUESTS
        for location, number in accepted.items():
            wait(partial(answered, f"{service.url}{location}"))
            answer = httpx.get(f"{service.url}{location}").json()
            assert answer["request_id"] == location.rpartition("/")[2]
            assert [each["machine"] for each in answer["predictions"]] == [number + 1] * ROWS
        ids = {path.rpartition("/")[2].replace("-", "") for path in accepted}
        wait(lambda: ids <= {each[:32] for each in logged_ids(store)})
    logged = logged_ids(store)
    assert len(logged) == len(set(logged))
    counted = Counter(each[:32] for each in logged)
    # One whose answer broke off may have been accepted as well; then it is answered and logged like the others.
    assert set(counted.values()) == {ROWS}
