"""Files of rows: accepted once they are on disk, scored in parts, each row answered and logged once."""

import csv
import errno
import gzip
import io
import json
import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.instance import CONTRACT
from support.load import wait
from support.queues import waited_longer
from support.serving import EXAMPLE, INFO, logged, logged_ids, row_of, served

from ctcd.contract.payload import FileState
from ctcd.contract.spec import Kind
from ctcd.errors import DataRefused
from ctcd.files import claim
from ctcd.model.scorer import Scorer
from ctcd.model.served import Origin
from ctcd.scoring.files import BatchScorer
from ctcd.serving.http.problems import ProblemDetails
from ctcd.serving.http.routes import FORMATS
from ctcd.serving.requests import answering, files
from ctcd.serving.requests.files import Files, Upload
from ctcd.serving.requests.queue import MOST_ATTEMPTS, PartQueue, QueueFull, Result
from ctcd.settings import Settings
from ctcd.store.sources import Source

CSV, PARQUET = FORMATS
KEY, METRICS_KEY = "api-8rZ1old7fK2mQ9xV4tB", "metrics-3vN8kQ2wLx7bT5yR1p"
ROWS = 25
BAD = {4: {"hours": "-1"}, 11: {"grade": "no such grade"}, 17: {"hours": "x"}}
"""Rows that break the contract, by their place."""
PART = 10


def frame(rows: int = ROWS, bad: dict[int, dict[str, str]] = BAD) -> pd.DataFrame:
    """Return rows as text; some of them are bad."""
    table = pd.DataFrame([row_of(number) for number in range(rows)]).astype(object)
    table[CONTRACT.group.name] = range(1, rows + 1)
    for place, changed in bad.items():
        for name, value in changed.items():
            table.loc[place, name] = value
    return table.astype(str).where(table.notna())


def as_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def as_parquet(table: pd.DataFrame, **more: Any) -> bytes:
    stream = io.BytesIO()
    table.to_parquet(stream, index=False, **more)
    return stream.getvalue()


def send(client: TestClient, content: bytes, kind: str = CSV, **headers: str) -> Any:
    return client.post("/predictions/files", content=content, headers={"content-type": kind, **headers})


def done(client: TestClient, location: str) -> Any:
    return wait(lambda: (found := client.get(location)).status_code != 202 and found)


def read(client: TestClient, location: str) -> list[dict[str, str]]:
    found = client.get(location)
    assert found.status_code == 200, found.text
    assert found.headers["content-type"] == "application/gzip"
    assert int(found.headers["content-length"]) == len(found.content)
    assert not found.content[3], "a name is in it"
    return list(csv.DictReader(io.StringIO(gzip.decompress(found.content).decode())))


@pytest.fixture
def asynchronous(settings: Settings) -> Settings:
    update = {"asynchronous": True, "requests_lease_seconds": 1.0, "served_by": "an image"}
    return settings.model_copy(update=update)


@pytest.fixture
def alone(asynchronous: Settings) -> Iterator[TestClient]:
    """A service of the test's own, with small parts."""
    with (
        patch.object(answering, "REST_SECONDS", 0.02),
        patch.object(files, "PART_ROWS", PART),
        served(asynchronous) as client,
    ):
        yield client


def nothing_left(settings: Settings) -> bool:
    return not list((settings.requests.parent / "files").glob("*"))


def sizes_of(settings: Settings) -> tuple[int, int]:
    """Return the bytes that the files' queue counts, and those of the answers in it."""
    with closing(sqlite3.connect(settings.requests.with_name("files.db"))) as db:
        counted, bodies = db.execute("SELECT sum(size), sum(length(body)) FROM requests").fetchone()
        return counted, bodies


def parts_of(settings: Settings) -> list[str]:
    with closing(sqlite3.connect(settings.requests.with_name("files.db"))) as db:
        return [each for (each,) in db.execute("SELECT id FROM requests ORDER BY id")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CSV, PARQUET])
def test_a_file_is_scored_like_in_batch(
    alone: TestClient, asynchronous: Settings, scorer: Scorer, tmp_path: Path, kind: str
) -> None:
    """Each good row has the prediction of `ctcd predict` and is logged once, as it is told; each bad one is in the rejected rows."""
    write = as_csv if kind == CSV else as_parquet
    accepted = send(alone, write(frame()), kind)
    file = accepted.headers["x-request-id"]
    location = f"/predictions/files/{file}"
    assert (accepted.status_code, accepted.headers["location"]) == (202, location)
    assert accepted.json() == {"request_id": file, "location": location}
    found = done(alone, location)
    assert found.status_code == 200
    state = FileState.model_validate_json(found.content, strict=True)
    assert state == FileState(
        request_id=file,
        rows=ROWS,
        predicted=ROWS - len(BAD),
        refused=len(BAD),
        result=f"{location}/result",
        rejected=f"{location}/rejected",
    )
    suffix = FORMATS[kind]
    good = tmp_path / f"good{suffix}"
    good.write_bytes(write(frame().drop(index=[*BAD])))
    origin = Origin(model_version=INFO.version, run_id=INFO.run_id, contract_version="", served_by="", variant="")
    BatchScorer(scorer, origin, CONTRACT, chunk_rows=7).score_file(good, tmp_path / "out.csv")
    expected = pd.read_csv(tmp_path / "out.csv")
    rows = read(alone, state.result)
    result = pd.DataFrame(rows)
    assert result[CONTRACT.group.name].astype(int).tolist() == expected[CONTRACT.group.name].tolist()
    for name in expected.columns.drop(["contract_version", "served_by", "variant", "run_id"]):
        if expected[name].dtype == np.float64:
            np.testing.assert_allclose(result[name].astype(float), expected[name], rtol=0, atol=1e-9)
        else:
            assert result[name].tolist() == expected[name].astype(str).tolist()
    assert set(result["variant"]) == {"champion"}
    number = {place: place + 1 for place in range(ROWS) if place not in BAD}
    assert result["request_id"].tolist() == [f"{file.replace('-', '')[:28]}{each:08d}" for each in number.values()]
    rejected = read(alone, state.rejected)
    first = 2 if kind == CSV else 1
    assert [int(each["line"]) for each in rejected] == [place + first for place in BAD]
    assert [each["reasons"].split()[0] for each in rejected] == ["hours", "grade", "hours"]
    assert [each["hours"] for each in rejected if each["reasons"].startswith("hours")] == ["-1", "x"]
    wait(lambda: len(logged_ids(asynchronous.store_url)) >= len(rows))
    log = logged(asynchronous.store_url)
    assert Counter(each["request_id"] for each in log) == Counter(result["request_id"])
    labels = r'^ctcd_predictions_total{.*version="7",prediction="(\w+)",variant="champion"} (\S+)$'
    shown = re.findall(labels, alone.get("/metrics").text, re.MULTILINE)
    assert {name: float(value) for name, value in shown} == Counter(result["prediction"])
    known = {each["request_id"]: each for each in log}
    for row in rows:
        told = known[row["request_id"]]
        for name in ("prediction", *vars(origin)):
            assert row[name] == told[name] != ""
        assert float(row["confidence"]) == pytest.approx(told["confidence"], abs=1e-12)
        probabilities = {name: float(row[f"probability_{name}"]) for name in CONTRACT.classes}
        assert probabilities == pytest.approx(told["probabilities"], abs=1e-12)
    assert alone.get(location).content == found.content
    assert not list((asynchronous.requests.parent / "files").rglob("*.arrow"))
    # What is on disk counts towards the limit of the queue's size.
    counted, bodies = sizes_of(asynchronous)
    kept = list((asynchronous.requests.parent / "files").rglob("*.csv.gz"))
    assert counted == bodies + sum(path.stat().st_size for path in kept)
    assert len(kept) == 2 * math.ceil(ROWS / PART)


@pytest.mark.slow
def test_a_key_that_a_spreadsheet_has_rounded_is_rejected(alone: TestClient) -> None:
    """As in `ctcd predict`: it may stand for several keys; the other rows are predicted."""
    key = next(each.name for each in CONTRACT.keys if each.kind is Kind.INTEGER and each != CONTRACT.group)
    table = frame(3, {}).assign(**{key: ["2600", "2.6E+03", "2601.0"]})
    location = send(alone, as_csv(table)).headers["location"]
    assert done(alone, location).json()["predicted"] == 2
    [rejected] = read(alone, f"{location}/rejected")
    assert (rejected[key], rejected["reasons"]) == ("2.6E+03", f"{key} is written with an exponent")


@pytest.mark.slow
def test_the_time_in_the_queue_is_in_the_log(alone: TestClient, asynchronous: Settings) -> None:
    """The duration of a prediction is that from the upload to its answer."""
    with waited_longer(PartQueue, asynchronous.store_url, rows=3):
        done(alone, send(alone, as_csv(frame(3, {}))).headers["location"])


@pytest.mark.slow
def test_a_file_says_how_far_it_is(alone: TestClient) -> None:
    """And its result is pending like itself, until all of it is there."""
    with patch.object(answering.Answering, "step", lambda _self: False):
        location = send(alone, as_csv(frame())).headers["location"]
        for path in (location, f"{location}/result", f"{location}/rejected"):
            found = alone.get(path)
            assert (found.status_code, found.headers["location"], found.headers["retry-after"]) == (202, location, "1")
            assert (found.json()["rows"], found.json()["predicted"], found.json()["refused"]) == (ROWS, 0, 0)
    assert done(alone, location).status_code == 200


@pytest.mark.slow
def test_a_file_is_on_disk_when_it_is_accepted(asynchronous: Settings) -> None:
    """A service that ends at once scores it after its next start."""
    with patch.object(answering.Answering, "step", lambda _self: False), served(asynchronous) as client:
        location = send(client, as_csv(frame())).headers["location"]
        assert parts_of(asynchronous) == [f"{location.rpartition('/')[2]}/000000"]
    with served(asynchronous) as client:
        assert done(client, location).status_code == 200
    assert len(logged_ids(asynchronous.store_url)) == ROWS - len(BAD)


def without(name: str) -> bytes:
    return as_csv(frame().drop(columns=name))


def nested() -> bytes:
    table = frame(2, {})
    table["grade"] = pd.Series([[1], [2]])
    return as_parquet(table)


def damaged() -> bytes:
    content = as_parquet(frame(80, {}), compression="gzip")
    return content[:40] + bytes(20) + content[60:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "kind", "status", "detail"),
    [
        (without("grade"), CSV, 422, "missing columns: grade"),
        (as_csv(frame().assign(surname="x")), CSV, 422, "columns that are not in the contract: surname"),
        (as_parquet(frame().assign(surname="x")), PARQUET, 422, "columns that are not in the contract: surname"),
        (as_csv(frame().iloc[:0]), CSV, 422, "the file has no rows"),
        (as_parquet(frame().iloc[:0]), PARQUET, 422, "the file has no rows"),
        (b"", CSV, 422, "the file is empty"),
        (b"no file", PARQUET, 422, "truncated or not a Parquet file"),
        (as_csv(frame()).replace(b"Fair", b'"Fair', 1), CSV, 422, ""),
        (as_csv(frame()).replace(b"Fair", b"\xff", 1), CSV, 422, "not UTF-8 text"),
        (as_csv(frame()) + b"," * 20_000, CSV, 422, "a row has more than"),
        (as_parquet(frame(2, {}).assign(shift="x" * 20_000)), PARQUET, 422, "row 1 has more than"),
        (nested(), PARQUET, 422, "column grade holds list"),
        (as_csv(frame(101, {})), CSV, 413, "at most 100 rows, not 101"),
        (as_parquet(frame(101, {})), PARQUET, 413, "at most 100 rows, not 101"),
        (as_csv(frame(100, {})) + b" " * 50_000, CSV, 413, "at most 40000 bytes, not"),
        (
            as_parquet(frame(90, {}).assign(shift="y" * 10_000), use_dictionary=False, compression="gzip"),
            PARQUET,
            413,
            "decompressed",
        ),
        (as_parquet(frame(50, {}).assign(shift="x" * 10_000)), PARQUET, 413, "decompressed"),
        (
            as_parquet(frame(2, {}), use_dictionary=False, column_encoding={"grade": "DELTA_BYTE_ARRAY"}),
            PARQUET,
            422,
            "column grade is encoded as DELTA_BYTE_ARRAY",
        ),
        (damaged(), PARQUET, 422, "a damaged Parquet file"),
        (
            as_csv(frame()),
            "text/plain",
            415,
            "text/csv or application/vnd.apache.parquet (Content-Type), not text/plain",
        ),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused_at_once(
    asynchronous: Settings, content: bytes, kind: str, status: int, detail: str
) -> None:
    """With what is wrong with it, and nothing of it stays."""
    small = asynchronous.model_copy(
        update={"upload_max_rows": 100, "upload_max_bytes": 40_000, "batch_max_bytes": 16_384}
    )
    with served(small) as client:
        refused = send(client, content, kind)
        assert refused.status_code == status, refused.text
        assert detail in ProblemDetails.model_validate_json(refused.content).detail
        assert nothing_left(small)
        assert send(client, as_csv(frame(2, {}))).status_code == 202
    assert len(parts_of(small)) == 1


@pytest.mark.slow
def test_a_file_of_unknown_length_is_cut_off(asynchronous: Settings) -> None:
    """At the largest size that is allowed."""

    def pieces() -> Iterator[bytes]:
        yield as_csv(frame())
        yield b"x" * 50_000

    with served(asynchronous.model_copy(update={"upload_max_bytes": 40_000})) as client:
        refused = client.post("/predictions/files", content=pieces(), headers={"content-type": CSV})
        assert (refused.status_code, nothing_left(asynchronous)) == (413, True)
    assert "at most 40000 bytes" in refused.text


@pytest.mark.slow
def test_a_name_that_is_not_in_the_contract_is_not_logged(
    asynchronous: Settings, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a value of a file without a header."""
    with served(asynchronous) as client:
        assert send(client, as_csv(frame().assign(Smith=1).drop(columns="grade"))).status_code == 422
    out = capsys.readouterr()
    assert "Smith" not in out.out + out.err + caplog.text
    assert '"grade"' in out.out


def answered(client: TestClient, path: str) -> bool:
    return bool(client.get(path, headers={"x-api-key": KEY}).status_code == 200)


@pytest.mark.slow
def test_only_a_key_of_the_api_sees_a_file(asynchronous: Settings) -> None:
    """Not one for the metrics, and nobody without a key."""
    keyed = asynchronous.model_copy(update={"api_keys": SecretStr(KEY), "metrics_keys": SecretStr(METRICS_KEY)})
    with served(keyed) as client:
        assert send(client, as_csv(frame())).status_code == 401
        assert send(client, as_csv(frame()), **{"x-api-key": METRICS_KEY}).status_code == 401
        location = send(client, as_csv(frame()), **{"x-api-key": KEY}).headers["location"]
        for path in (location, f"{location}/result", f"{location}/rejected"):
            wrong = [client.get(path, headers=each).status_code for each in ({}, {"x-api-key": METRICS_KEY})]
            assert wrong == [401, 401]
            assert wait(partial(answered, client, path))


@pytest.mark.slow
def test_an_unknown_or_expired_file_is_not_found(alone: TestClient, asynchronous: Settings) -> None:
    """The parts of a file expire together, with all that is on disk."""
    for path in ("", "/result", "/rejected"):
        assert alone.get(f"/predictions/files/2acfb25a-b729-43d7-8f27-b96332e26ac1{path}").status_code == 404
    location = send(alone, as_csv(frame())).headers["location"]
    done(alone, location)
    wait(lambda: len(logged_ids(asynchronous.store_url)) == ROWS - len(BAD))
    later = time.time() + asynchronous.requests_keep_seconds + 1
    with patch.object(time, "time", lambda: later), patch.object(answering, "SWEEP_SECONDS", 0.0):
        wait(lambda: alone.get(location).status_code == 404)
        assert alone.get(f"{location}/result").status_code == 404
        wait(lambda: nothing_left(asynchronous))
    assert parts_of(asynchronous) == []


def test_a_file_that_was_broken_off_is_deleted_at_the_start(asynchronous: Settings) -> None:
    """The folder that a killed upload left; not that of one in progress."""
    folder = asynchronous.requests.parent / "files"
    (folder / "left").mkdir(parents=True)
    (folder / "left" / "upload.csv").write_bytes(b"x")
    running = folder / "running"
    running.mkdir()
    lock = claim(running / files.LOCK)
    assert lock
    with served(asynchronous):
        wait(lambda: not (folder / "left").exists())
        assert running.exists()


@pytest.mark.slow
def test_a_full_queue_or_disk_refuses(asynchronous: Settings) -> None:
    """413 as soon as a file could never fit, else 503 or 507, and nothing of it stays."""
    with patch.object(files, "PART_ROWS", PART), served(asynchronous.model_copy(update={"requests_max": 2})) as client:
        with patch.object(files, "_save", wraps=files._save) as saved:
            refused = send(client, as_csv(frame(1_000, {})))
        assert (refused.status_code, "at most 2 parts" in refused.text, nothing_left(asynchronous)) == (413, True, True)
        assert saved.call_count == 3

        def full(*_arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with patch.object(files, "_save", full):
            refused = send(client, as_csv(frame(5, {})))
        assert (refused.status_code, nothing_left(asynchronous)) == (507, True)
        for _ in range(2):
            assert send(client, as_csv(frame(5, {}))).status_code == 202
        refused = send(client, b"")
        assert refused.status_code == 503  # before it is read


@pytest.mark.slow
def test_a_disk_that_is_full_for_long_loses_no_file(alone: TestClient) -> None:
    """An attempt that fails for want of space is not one of those after which a part is given up."""
    fails, write = iter(range(8 * MOST_ATTEMPTS)), files._write

    def full(*arguments: Any, **more: Any) -> None:
        if next(fails, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **more)

    with patch.object(files, "_write", full):
        assert done(alone, send(alone, as_csv(frame())).headers["location"]).status_code == 200


@pytest.mark.slow
def test_a_foreign_file_in_the_folder_is_left_alone(
    alone: TestClient, asynchronous: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no upload, and keeps nothing else from being deleted."""
    folder = asynchronous.requests.with_name("files")
    (folder / "left").mkdir(parents=True)
    (folder / "foreign").touch()
    with patch.object(answering, "SWEEP_SECONDS", 0):
        wait(lambda: not (folder / "left").exists())
        assert (folder / "foreign").exists()
        time.sleep(0.5)  # several sweeps
    assert "cannot be" not in caplog.text
    assert done(alone, send(alone, as_csv(frame())).headers["location"]).status_code == 200


def test_uploads_have_a_limit(asynchronous: Settings) -> None:
    """So that their memory is bounded."""
    with patch("ctcd.serving.http.handlers.UPLOADS", 0), served(asynchronous) as client:
        refused = send(client, as_csv(frame()))
    assert (refused.status_code, "too many uploads" in refused.text) == (503, True)


@pytest.mark.slow
def test_a_part_that_fails_is_the_answer(alone: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """The model fails on a row: the client is told, the next file is scored."""

    def fail(*_arguments: object) -> None:
        raise ValueError("a value of the file")

    with patch("ctcd.model.scorer.Scorer.predict", fail):
        location = send(alone, as_csv(frame())).headers["location"]
        failed = done(alone, location)
    assert failed.status_code == 500
    assert alone.get(f"{location}/result").status_code == 500
    assert "a value of the file" not in failed.text + caplog.text
    assert done(alone, send(alone, as_csv(frame())).headers["location"]).status_code == 200


@pytest.mark.slow
def test_a_part_is_kept_until_its_result_is_on_disk(alone: TestClient, asynchronous: Settings) -> None:
    """The disk is full while it is scored: it is taken again, and logged once."""
    write = files._write
    failures = iter([True, False, True])

    def sometimes(*arguments: Any, **more: Any) -> None:
        if next(failures, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **more)

    with patch.object(files, "_write", sometimes):
        location = send(alone, as_csv(frame())).headers["location"]
        assert done(alone, location).status_code == 200
    rows = read(alone, f"{location}/result")
    wait(lambda: len(logged_ids(asynchronous.store_url)) >= len(rows))
    assert sorted(logged_ids(asynchronous.store_url)) == sorted(each["request_id"] for each in rows)
    assert len(rows) == ROWS - len(BAD)


@pytest.mark.slow
def test_the_result_of_the_first_worker_counts(asynchronous: Settings) -> None:
    """One that was slower than its lease changes neither the result nor the counts."""
    with patch.object(answering.Answering, "step", lambda _self: False), served(asynchronous) as client:
        location = send(client, as_csv(frame())).headers["location"]
        queue = PartQueue(
            asynchronous.requests.with_name("files.db"),
            most=10,
            most_bytes=10**9,
            keep_seconds=1_000,
            lease_seconds=0.01,
        )
        with closing(queue):
            slow = queue.take()
            time.sleep(0.02)
            fast = queue.take()
            assert slow
            assert fast
            for taken, predicted in ((fast, ROWS), (slow, 0)):
                body = {"rows": ROWS, "predicted": predicted, "refused": ROWS - predicted, "attempt": taken.attempts}
                queue.finish(taken, Result(status=200, body=json.dumps(body).encode()))
        assert client.get(location).json()["predicted"] == ROWS


def test_the_parts_of_a_file_expire_together(tmp_path: Path) -> None:
    """When the last one has been kept for its time: half a result is none."""
    keep = 1_000.0
    with closing(PartQueue(tmp_path / "files.db", most=9, most_bytes=999, keep_seconds=keep, lease_seconds=9)) as here:
        here.add_parts("a", [(1, b'{"rows": 1}')] * 2)
        for later in (0.0, keep + 1):
            now = time.time() + later
            with patch.object(time, "time", lambda now=now: now):
                here.expire()
                assert len(here.parts("a")) == 2
                taken = here.take()
                assert taken
                here.finish(taken, Result(status=200, body=b"{}"))
                here.expire()
                assert [each.status for each in here.parts("a")] == ([200, 0] if later == 0.0 else [200, 200])
        now += keep + 1
        with patch.object(time, "time", lambda: now):
            assert here.parts("a") == []
            here.expire()
        assert here.files() == set()


@pytest.mark.slow
def test_each_attempt_has_a_result_of_its_own(alone: TestClient, asynchronous: Settings) -> None:
    """A slow worker that ends after another one does not replace the predictions that were logged."""
    answer = Files.answer

    def twice(self: Files, taken: Any) -> Any:
        slow = replace(taken, attempts=taken.attempts + 1)
        found = answer(self, taken)
        with patch.object(files, "_write", lambda path, *_arguments, **_more: path.write_bytes(b"another result")):
            answer(self, slow)
        return found

    with patch.object(Files, "answer", twice):
        location = send(alone, as_csv(frame())).headers["location"]
        assert done(alone, location).status_code == 200
        assert len(read(alone, f"{location}/result")) == ROWS - len(BAD)
    assert len(list((asynchronous.requests.parent / "files").rglob("*.result.csv.gz"))) == 2 * 3


@pytest.mark.slow
def test_a_part_that_ends_its_workers_is_given_up(asynchronous: Settings) -> None:
    """After some attempts."""
    with served(asynchronous) as client:
        with patch.object(answering.Answering, "step", lambda _self: False):
            location = send(client, as_csv(frame())).headers["location"]
            with closing(sqlite3.connect(asynchronous.requests.with_name("files.db"))) as db:
                db.execute("UPDATE requests SET attempts = ?", (MOST_ATTEMPTS,))
                db.commit()
        assert done(client, location).status_code == 500


@pytest.mark.slow
def test_requests_come_before_files(alone: TestClient) -> None:
    """A file waits while there are requests, and while half of the outbox is not free."""
    order: list[str] = []
    take, score = Files.answer, answering.Answering._score

    def answer(self: Files, taken: Any) -> Any:
        order.append("file")
        return take(self, taken)

    def request(self: answering.Answering, taken: Any) -> Any:
        order.append("request")
        return score(self, taken)

    with patch.object(Files, "answer", answer), patch.object(answering.Answering, "_score", request):
        with patch.object(answering.Answering, "step", lambda _self: False):
            location = send(alone, as_csv(frame())).headers["location"]
            accepted = alone.post("/predictions", json={"data": [EXAMPLE]}).headers["location"]
        done(alone, location)
        done(alone, accepted)
    assert order == ["request", "file", "file", "file"]


@pytest.mark.slow
def test_a_file_leaves_half_of_the_outbox_to_other_predictions(asynchronous: Settings) -> None:
    """While more than that waits for the store, no part is scored."""
    with served(asynchronous.model_copy(update={"outbox_max_records": 40})) as client:
        asked: list[int] = []

        def room_for(_self: object, rows: int) -> bool:
            asked.append(rows)
            return rows < 30

        with patch("ctcd.serving.prediction_log.outbox.Outbox.room_for", room_for):
            location = send(client, as_csv(frame())).headers["location"]
            assert len(parts_of(asynchronous)) == 3  # of a quarter of the outbox each
            wait(lambda: asked.count(30) > 3)
            assert client.get(location).json()["predicted"] == 0
        assert done(client, location).status_code == 200


def test_the_parts_of_a_file_are_added_together(tmp_path: Path) -> None:
    """Or none of them, if there is no room for all."""
    with closing(PartQueue(tmp_path / "files.db", most=3, most_bytes=100, keep_seconds=9, lease_seconds=9)) as queue:
        with pytest.raises(QueueFull):
            queue.add_parts("a", [(1, b"{}")] * 4)
        with pytest.raises(QueueFull):
            queue.add_parts("a", [(60, b"{}")] * 2)
        assert queue.files() == set()
        queue.add_parts("a", [(1, b"{}")] * 3)
        assert queue.files() == {"a"}
        with pytest.raises(QueueFull):
            queue.require_room()


def test_parts_and_results_are_on_disk_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client was told is kept, so a crash of the machine leaves neither an empty part nor an empty result."""
    source, steps = tmp_path / "rows.csv", list[str]()
    source.write_bytes(as_csv(frame()))
    replace_file = Path.replace

    def synced(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.strip(".").partition(".")[0])

    def renamed(unfinished: Path, target: Path) -> Path:
        steps.append("rename")
        return replace_file(unfinished, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    table = Source("", source, most_text=1_000_000)
    files._save(tmp_path / "part.arrow", next(table.chunks(ROWS)), len(table.columns))
    assert steps[:2] == ["part", "rename"]
    steps.clear()
    with files._compressed(tmp_path / "result.csv.gz") as stream:
        stream.write(b"x")
    assert steps[:2] == ["result", "rename"]


def test_the_folder_of_a_file_is_on_disk_before_the_file_is_accepted(asynchronous: Settings) -> None:
    """A crash of the machine could otherwise leave parts in the queue whose folder has no name."""
    found, steps = Files(asynchronous, CONTRACT, batches=None), list[str]()  # type: ignore[arg-type] # nothing is scored
    with (
        closing(found.queue),
        patch.object(files, "sync", lambda path: steps.append(path.name)),
        patch.object(PartQueue, "add_parts", lambda _queue, file, parts: steps.append(f"{len(parts)} part of {file}")),
    ):
        upload = Upload(found, "a", ".csv")
        upload.write(as_csv(frame(3, {})))
        assert upload.accept() == 3
        upload.close()
    assert steps == ["files", "1 part of a"]


def test_a_text_that_is_repeated_is_not_written_out(tmp_path: Path) -> None:
    """A Parquet file of a few kilobytes that would be 200 megabytes is refused in little memory."""
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["x" * 100_000]))
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"a": repeated}), bomb, store_schema=False)
    assert bomb.stat().st_size < 100_000
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    try:
        with pytest.raises(DataRefused, match="row 1 has more than 50000 bytes"):
            list(Source("", bomb, most_text=50_000).chunks(10_000))
    finally:
        pa.set_memory_pool(usual)
    assert counted.max_memory() < 20_000_000


def test_many_small_cells_are_bounded(tmp_path: Path) -> None:
    """A header is short, and cells without a text count, too: each takes memory."""
    path = tmp_path / "a.csv"
    path.write_text("a" + "," * 100_000 + "\n")
    with pytest.raises(DataRefused, match="the header or a row has more than 65536 characters"):
        _ = Source("", path, most_text=1_000_000).columns
    path.write_text(",".join(f"c{each}" for each in range(100)) + "\n" + ("," * 99 + "\n") * 50)
    assert [len(each.lines) for each in Source("", path, most_text=1_000).chunks(50)] == [10] * 5


def test_a_text_with_its_length_is_read(tmp_path: Path) -> None:
    """An encoding for which there is no dictionary."""
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"a": ["x", "y"]}), path, use_dictionary=False, column_encoding={"a": "DELTA_LENGTH_BYTE_ARRAY"}
    )
    [chunk] = Source("", path, most_text=1_000).chunks(10)
    assert chunk.cells.column("a").to_pylist() == ["x", "y"]


def test_an_upload_leaves_nothing_if_it_ends_early(asynchronous: Settings) -> None:
    """Its folder is deleted."""
    with served(asynchronous) as client:
        del client
        found = Files(asynchronous, CONTRACT, batches=None)  # type: ignore[arg-type] # nothing is scored
        with closing(found.queue):
            upload = Upload(found, "a", ".csv")
            upload.write(b"hours")
            assert not nothing_left(asynchronous)
            upload.close()
            assert nothing_left(asynchronous)
