"""Asynchronous requests: accepted once they are on disk, answered and logged once, whatever happens to the workers."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.instance import PAYLOAD
from support.load import wait
from support.queues import waited_longer
from support.serving import EXAMPLE, INFO, logged_ids, row_of, served

from ctcd.serving.batch_predictor import BatchAnswer
from ctcd.serving.http import problems
from ctcd.serving.http.problems import ProblemDetails
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.serving.requests import answering, queue
from ctcd.serving.requests.queue import MOST_ATTEMPTS, QueueFull, RequestQueue, Result
from ctcd.settings import Settings

ROWS = [row_of(number) for number in range(3)]
GOOD = json.dumps({"data": ROWS}).encode()
ANSWER = Result(status=200, body=b'{"predictions": []}', model_version="7")
KEEP, LEASE = 1_000.0, 60.0
BAD = "2acfb25a-b729-43d7-8f27-b96332e26ac1"
KEY = "api-8rZ1old7fK2mQ9xV4tB"


class Clock:
    """What the queue takes for the time."""

    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    set_by_test = Clock()
    with patch.object(queue, "time", set_by_test):
        yield set_by_test


def opened(path: Path, **limits: Any) -> RequestQueue:
    usual = {"most": 10, "most_bytes": 1_000, "keep_seconds": KEEP, "lease_seconds": LEASE}
    return RequestQueue(path / "requests" / "queue.db", **usual | limits)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RequestQueue]:
    with closing(opened(tmp_path)) as found:
        yield found


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RequestQueue]:
    """The same queue, as another worker has it."""
    with closing(opened(tmp_path)) as found:
        yield found


def test_a_request_is_taken_by_one_worker_at_a_time(here: RequestQueue, other: RequestQueue) -> None:
    """The oldest first; what is taken, nobody else takes."""
    for name in ("a", "b", "c"):
        here.add(name, name.encode())
    taken = [each.take() for each in (here, other, here, other)]
    assert [(each.id, each.body) if each else None for each in taken] == [("a", b"a"), ("b", b"b"), ("c", b"c"), None]


def test_a_killed_workers_request_is_taken_again_after_its_lease(
    here: RequestQueue, other: RequestQueue, clock: Clock
) -> None:
    """Not before; then it has that time again."""
    here.add("a", b"rows")
    assert here.take()
    clock.now += LEASE
    assert other.take() is None
    clock.now += 0.5
    again = other.take()
    assert again
    assert (again.id, again.body, again.attempts, again.waited) == ("a", b"rows", 2, LEASE + 0.5)
    assert here.take() is None


def test_a_clock_that_is_set_back_does_not_make_a_lease_longer(here: RequestQueue, clock: Clock) -> None:
    """A lease that ends later than any can is over."""
    here.add("a", b"rows")
    assert here.take()
    clock.now -= 3_600
    assert here.take()


def test_a_request_is_not_taken_twice_by_a_worker_that_waited_to_write(
    here: RequestQueue, other: RequestQueue, clock: Clock
) -> None:
    """Another one has taken it meanwhile, later than this one began to look: its lease holds."""
    here.add("a", b"rows")
    begin = here._transaction

    def after_another() -> Any:
        clock.now += 0.5
        assert other.take()
        return begin()

    with patch.object(here, "_transaction", after_another):
        assert here.take() is None


def test_a_worker_that_waited_to_write_has_its_whole_lease(
    here: RequestQueue, other: RequestQueue, clock: Clock
) -> None:
    """To log an answer, too: it begins when it is committed."""
    here.add("a", b"rows")
    begin = here._transaction

    def later() -> Any:
        clock.now += 30
        return begin()

    with patch.object(here, "_transaction", later):
        taken = here.take()
        assert taken
        clock.now += LEASE
        assert other.take() is None
        assert here.finish(taken, ANSWER, [(b"record", 3)])
    clock.now += LEASE
    assert other.take() is None


def test_the_first_answer_counts(here: RequestQueue, other: RequestQueue, clock: Clock) -> None:
    """A worker that was slower than its lease, and than another one, changes nothing and logs nothing."""
    here.add("a", b"rows")
    slow = here.take()
    clock.now += LEASE + 1
    fast = other.take()
    assert slow
    assert fast
    assert other.finish(fast, ANSWER, [(b"record", 3)])
    late = Result(status=200, body=b"another answer", model_version="8")
    assert not here.finish(slow, late, [(b"another record", 3)])
    assert here.result("a") == ANSWER
    assert here.records(slow) == [(b"record", 3)]


def test_each_request_has_its_own_answer(here: RequestQueue) -> None:
    """Whatever the order in which they are answered."""
    for name in ("a", "b"):
        here.add(name, name.encode())
    first, second = here.take(), here.take()
    assert first
    assert second
    for taken in (second, first):
        here.finish(taken, Result(status=200, body=b"answer to " + taken.body, model_version="7"))
    assert [found.body for name in "ab" if (found := here.result(name))] == [b"answer to a", b"answer to b"]
    assert here.result("c") is None


def test_an_answer_whose_worker_was_killed_is_logged_by_another_one(
    here: RequestQueue, other: RequestQueue, clock: Clock
) -> None:
    """With the same records; it is not made again."""
    here.add("a", b"rows")
    killed = here.take()
    assert killed
    here.finish(killed, ANSWER, [(b"record", 3)])
    assert other.take() is None
    clock.now += LEASE + 1
    taken = other.take()
    assert taken
    assert taken.answered
    assert other.records(taken) == [(b"record", 3)]
    other.logged(taken)
    clock.now += LEASE + 1
    assert here.take() is None
    assert here.records(taken) == []
    assert here.result("a") == ANSWER


def test_a_full_queue_accepts_nothing_until_answers_expire(here: RequestQueue, clock: Clock) -> None:
    """Its limits are the number and the bytes of requests and answers; what waits, or is not logged, never expires."""
    here.add("large", b"x" * 900)
    with pytest.raises(QueueFull, match="1 requests and answers with 900 bytes; the limits are 10 and 1000 bytes"):
        here.add("more", b"x" * 101)
    taken = here.take()
    assert taken
    here.finish(taken, Result(status=200, body=b"x" * 40, model_version="7", files=60), [(b"record", 1)])
    with pytest.raises(QueueFull, match="1 requests and answers with 100 bytes"):
        here.add("more", b"x" * 901)
    for number in range(9):
        here.add(str(number), b"x" * 100)
    with pytest.raises(QueueFull, match="10 requests"):
        here.add("more", b"")
    clock.now += KEEP + 1
    assert here.result("large")
    with pytest.raises(QueueFull):
        here.add("more", b"")
    here.logged(taken)
    assert here.result("large") is None
    here.add("more", b"")
    assert here.waiting() == (10, KEEP + 1)


def test_a_request_that_is_there_already_is_left_as_it_is(here: RequestQueue) -> None:
    """A message that is delivered twice is answered once."""
    here.add("a", b"rows")
    here.add("a", b"others")
    assert here.waiting()[0] == 1
    taken = here.take()
    assert taken
    assert taken.body == b"rows"


def test_an_answer_that_is_forgotten_is_there_until_it_is_logged(here: RequestQueue) -> None:
    """So a message that is delivered once more is not answered anew, unless it may be: its id is free then."""
    here.add("a", b"rows")
    here.forget("a")
    taken = here.take()
    assert taken
    here.finish(taken, ANSWER, [(b"record", 3)])
    here.forget("a")
    assert here.result("a") == ANSWER
    here.logged(taken)
    assert here.result("a") is None
    here.add("a", b"others")
    again = here.take()
    assert again
    assert again.body == b"others"


def test_a_commit_waits_for_the_disk(here: RequestQueue) -> None:
    """What was accepted survives the machine."""
    here.add("a", b"rows")
    assert here._db
    found = [here._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    assert found == [2, "wal"]


def test_a_damaged_queue_refuses_and_can_be_moved_away_meanwhile(here: RequestQueue, other: RequestQueue) -> None:
    """All workers go on with the new file."""
    here.add("a", b"rows")
    other.add("b", b"rows")
    for each in (here, other):
        each.close()
    for path in here.path.parent.iterdir():
        path.unlink()
    here.path.write_bytes(b"no database, " * 1_000)
    for each in (here, other):
        for operation in (lambda each=each: each.add("c", b""), lambda each=each: each.result("a"), each.take):
            with pytest.raises(QueueFull, match="cannot be used: SQLITE_NOTADB"):
                operation()
    here.path.rename(here.path.with_suffix(".damaged"))
    other.add("c", b"rows")
    other.path.rename(other.path.with_suffix(".gone"))
    other.add("d", b"rows")
    assert here.result("d") == Result(status=0, body=b"", model_version="")
    assert here.result("c") is None


def test_a_queue_of_another_version_is_left_alone(here: RequestQueue) -> None:
    """It is refused, not changed."""
    here.path.parent.mkdir()
    with closing(sqlite3.connect(here.path)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(QueueFull, match="cannot be used"):
        here.add("a", b"rows")


# --- the service ---


@pytest.fixture
def asynchronous(settings: Settings) -> Settings:
    return settings.model_copy(update={"asynchronous": True, "requests_lease_seconds": 1.0})


@pytest.fixture
def alone(asynchronous: Settings) -> Iterator[TestClient]:
    """A service of the test's own."""
    with patch.object(answering, "REST_SECONDS", 0.02), served(asynchronous) as client:
        yield client


def test_an_answer_names_all_who_gave_it(alone: TestClient) -> None:
    """As that of `/predict_batch` does where an experiment divides the rows."""
    with patch.object(BatchAnswer, "variant", "challenger, champion"):
        found = answered(alone, request(alone).headers["location"])
    assert (found.status_code, found.headers["x-variant"]) == (200, "challenger, champion")


def request(client: TestClient, data: Any = ROWS, **more: Any) -> Any:
    return client.post("/predictions", json={"data": data}, **more)


def answered(client: TestClient, location: str) -> Any:
    return wait(lambda: (found := client.get(location)).status_code != 202 and found)


def test_a_request_is_accepted_and_answered_like_a_batch(alone: TestClient, asynchronous: Settings) -> None:
    """With the same predictions; each row is in the log once, under its id."""
    accepted = request(alone)
    assert accepted.status_code == 202
    location = f"/predictions/{accepted.headers['x-request-id']}"
    assert accepted.json() == {"request_id": accepted.headers["x-request-id"], "location": location}
    assert (accepted.headers["location"], accepted.headers["retry-after"]) == (location, "1")
    found = answered(alone, location)
    assert (found.status_code, found.headers["x-model-version"], found.headers["x-variant"]) == (
        200,
        INFO.version,
        "champion",
    )
    answer: Any = PAYLOAD.batch_prediction.model_validate_json(found.content, strict=True)
    assert answer.request_id == accepted.headers["x-request-id"]
    at_once: Any = alone.post("/predict_batch", json={"data": ROWS}).json()["predictions"]
    assert [each.probabilities for each in answer.predictions] == [each["probabilities"] for each in at_once]
    ids = [each.request_id for each in answer.predictions]
    wait(lambda: set(ids) <= set(logged_ids(asynchronous.store_url)))
    assert [each for each in logged_ids(asynchronous.store_url) if each in ids] == ids
    assert alone.get(location).content == found.content
    page = alone.get("/metrics").text
    assert 'ctcd_requests_total{model="machine_condition",route="/predictions/{request_id}",status="200"} 2.0' in page
    assert 'ctcd_requests_waiting{model="machine_condition"} 0.0' in page


@pytest.mark.slow
def test_the_time_in_the_queue_is_in_the_log(alone: TestClient, asynchronous: Settings) -> None:
    """The duration of a prediction is that from its request to its answer."""
    with waited_longer(RequestQueue, asynchronous.store_url, rows=len(ROWS)):
        accepted = alone.post("/predictions", content=GOOD, headers={"content-type": "application/json"})
        wait(lambda: alone.get(accepted.headers["location"]).status_code == 200)


@pytest.mark.slow
def test_a_request_is_on_disk_when_it_is_accepted(asynchronous: Settings) -> None:
    """A service that ends at once answers it after its next start."""
    with patch.object(answering.Answering, "step", lambda _self: False), served(asynchronous) as client:
        location = request(client).headers["location"]
        with sqlite3.connect(asynchronous.requests) as db:
            assert db.execute("SELECT id FROM requests").fetchall() == [(location.rpartition("/")[2],)]
        assert client.get(location).status_code == 202
    with served(asynchronous) as client:
        assert answered(client, location).status_code == 200
    assert len(logged_ids(asynchronous.store_url)) == len(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b'{"data": {}}', 422),
        (b'{"data": []}', 422),
        (b'{"data": [1]}', 422),
        (b"x" * 2_000, 413),
    ],
)
def test_what_a_batch_refuses_is_not_accepted(asynchronous: Settings, content: bytes, status: int) -> None:
    """With the same problem, and nothing is kept."""
    small = asynchronous.model_copy(update={"batch_max_bytes": 1_024})
    with served(small) as client:
        both = [client.post(path, content=content) for path in ("/predictions", "/predict_batch")]
        assert [each.status_code for each in both] == [status, status]
        assert both[0].content == both[1].content
        assert ProblemDetails.model_validate_json(both[0].content).status == status
        assert (
            client.post("/predictions", json={"data": [EXAMPLE]}, headers={"content-type": "text/csv"}).status_code
            == 415
        )
    with closing(sqlite3.connect(asynchronous.requests)) as db:
        assert db.execute("SELECT count(*) FROM requests").fetchone() == (0,)


def test_an_unknown_or_expired_request_is_not_found(alone: TestClient, asynchronous: Settings) -> None:
    """An answer is kept for the time that the setting says."""
    assert alone.get(f"/predictions/{BAD}").status_code == 404
    location = request(alone).headers["location"]
    answered(alone, location)
    wait(lambda: len(logged_ids(asynchronous.store_url)) == len(ROWS))
    later = time.time() + asynchronous.requests_keep_seconds + 1
    with patch.object(time, "time", lambda: later):
        # As long as its records may not be in the outbox, it is there.
        refused = wait(lambda: (found := alone.get(location)).status_code == 404 and found)
    assert (refused.status_code, refused.headers["content-type"]) == (404, problems.MEDIA_TYPE)


@pytest.mark.slow
def test_a_full_queue_refuses(asynchronous: Settings) -> None:
    """503, with a time after which to try again."""
    with served(asynchronous.model_copy(update={"requests_max": 1})) as client:
        first = request(client)
        assert answered(client, first.headers["location"]).status_code == 200
        refused = request(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.headers["content-type"] == problems.MEDIA_TYPE


def _fail(*_arguments: object) -> None:
    raise ValueError("a value of the request")


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["fails", "too often", "refused"])
def test_a_request_that_cannot_be_answered_does_not_hold_up_the_next(
    alone: TestClient, asynchronous: Settings, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """It has a problem as its answer: the model fails, its workers never end, or the contract has changed meanwhile."""
    with closing(opened(asynchronous.home)) as here:
        if broken == "too often":
            _take_often(here)
        elif broken == "refused":
            here.add(BAD, b'{"data": [{"no_such_column": 1}]}')
        else:
            with patch("ctcd.model.scorer.Scorer.predict", _fail):
                here.add(BAD, GOOD)
                answered(alone, f"/predictions/{BAD}")
        failed = answered(alone, f"/predictions/{BAD}")
    assert failed.status_code == (422 if broken == "refused" else 500)
    assert ProblemDetails.model_validate_json(failed.content).status == failed.status_code
    assert answered(alone, request(alone).headers["location"]).status_code == 200
    assert "a value of the request" not in failed.text + caplog.text


def _take_often(here: RequestQueue) -> None:
    """Add a request that has been taken as often as one may be."""
    here.expire()
    with closing(sqlite3.connect(here.path, isolation_level=None)) as db:
        db.execute(
            "INSERT INTO requests (id, state, received, leased, attempts, answered, size, status, version, variant, body)"
            " VALUES (?, 0, ?, 0, ?, 0, 1, 0, '', '', ?)",
            (BAD, time.time(), MOST_ATTEMPTS, GOOD),
        )


@pytest.mark.slow
def test_nothing_is_answered_while_it_could_not_be_logged(asynchronous: Settings) -> None:
    """With a full outbox the request waits; it is answered once there is room."""
    with served(asynchronous.model_copy(update={"outbox_max_records": 10})) as client:
        with patch("ctcd.serving.prediction_log.outbox.Outbox.usable", lambda _self: False):
            location = request(client).headers["location"]
            time.sleep(3 * answering.POLL_SECONDS)
            assert client.get(location).status_code == 202
        assert answered(client, location).status_code == 200


@pytest.mark.slow
def test_the_metrics_show_what_waits_while_there_are_always_requests(asynchronous: Settings) -> None:
    """That is when it matters, not once there are none."""

    def always(_self: answering.Answering) -> bool:
        time.sleep(0.01)
        return True

    shown = 'ctcd_requests_waiting{model="machine_condition"} 1.0'
    with (
        patch.object(answering, "SHOW_SECONDS", 0.0),
        patch.object(answering.Answering, "step", always),
        served(asynchronous) as client,
    ):
        request(client)
        wait(lambda: shown in client.get("/metrics").text)


@pytest.mark.slow
def test_an_answer_that_the_outbox_refuses_is_logged_later(alone: TestClient, asynchronous: Settings) -> None:
    """It is on disk and can be read; its lease over, it is logged."""
    append = Outbox.append
    refused: list[Any] = []

    def once(outbox: Outbox, *given: Any) -> None:
        if not refused:
            refused.append(given)
            raise OutboxFull("its disk is full")
        append(outbox, *given)

    with patch.object(Outbox, "append", once):
        location = request(alone).headers["location"]
        assert answered(alone, location).status_code == 200
        wait(lambda: logged_ids(asynchronous.store_url))
    assert refused
    assert len(logged_ids(asynchronous.store_url)) == len(ROWS)


@pytest.mark.slow
def test_without_the_setting_there_is_no_such_route(settings: Settings) -> None:
    """Neither in the document, and nothing is kept on disk."""
    with served(settings) as client:
        assert request(client).status_code == client.get("/predictions/x").status_code == 404
        assert not [path for path in client.get("/docs.json").json()["paths"] if "predictions" in path]
    assert not settings.requests.parent.exists()


@pytest.mark.slow
def test_both_routes_need_a_key(asynchronous: Settings) -> None:
    """Like all of the API."""
    with served(asynchronous.model_copy(update={"api_keys": SecretStr(KEY)})) as client:
        assert request(client).status_code == client.get("/predictions/x").status_code == 401

        def with_key(path: str) -> Any:
            return client.get(path, headers={"x-api-key": KEY})

        location = request(client, headers={"x-api-key": KEY}).headers["location"]
        assert wait(lambda: with_key(location).status_code == 200)
