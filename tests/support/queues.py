"""The queues of asynchronous requests and files."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from support.load import wait
from support.serving import logged, logged_ids

from ctcd.serving.requests.queue import RequestQueue, Taken


@contextmanager
def waited_longer(queue: type[RequestQueue], url: str, *, rows: int) -> Iterator[None]:
    """Let what a service takes from its queue have waited 100 s longer; all durations in the log have to include them."""
    take, began = queue.take, time.perf_counter()

    def late(found: RequestQueue) -> Taken | None:
        taken = take(found)
        return taken and replace(taken, waited=taken.waited + 100)

    with patch.object(queue, "take", late):
        yield
    wait(lambda: len(logged_ids(url)) == rows)
    took = (time.perf_counter() - began) * 1_000
    assert [row["elapsed_ms"] for row in logged(url) if not 100_000 <= row["elapsed_ms"] <= 100_000 + took] == []
