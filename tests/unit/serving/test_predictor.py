"""Predictions are committed before they are answered, and many are scored together."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from support.instance import CONTRACT
from support.serving import EXAMPLE, INFO, row_of

from ctcd.errors import UsageError
from ctcd.model.scorer import Scorer
from ctcd.model.served import Served
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox, OutboxFull
from ctcd.serving.predictor import MAX_WAIT, Answer, Predictor, Waiting
from ctcd.serving.traffic import Models


@dataclass
class Parts:
    outbox: Outbox
    predictor: Predictor
    batches: list[int]


@pytest.fixture
def parts(scorer: Scorer, tmp_path: Path) -> Iterator[Parts]:
    outbox = Outbox.claim(tmp_path, max_records=1_000)
    batches: list[int] = []
    predictor = Predictor(Served(scorer=scorer, info=INFO), outbox, CONTRACT, on_batch=batches.append)
    yield Parts(outbox, predictor, batches)
    predictor.close()
    outbox.close()


async def ask(predictor: Predictor, number: int) -> Answer:
    return await predictor.predict(row_of(number), request_id=f"request-{number}", started=time.perf_counter())


async def ask_many(predictor: Predictor, count: int) -> list[Answer]:
    return await asyncio.gather(*(ask(predictor, number) for number in range(count)))


def test_an_answer_is_on_disk_when_it_is_given(parts: Parts) -> None:
    """The record has the request id, the row, the prediction, the version of the model and the time taken."""

    async def check() -> None:
        answer = await ask(parts.predictor, 5)
        assert parts.outbox.depth == 1
        record = records.decode(parts.outbox.oldest(1)[0][1])[0]
        assert (record.request_id, record.group, record.model_version) == ("request-5", EXAMPLE["machine"], "7")
        assert (record.prediction, record.confidence) == (answer.prediction, answer.confidence)
        assert dict(record.features) == {name: value for name, value in row_of(5).items() if name != "machine"}
        assert 0 < record.elapsed_ms < 10_000
        assert record.created_at.utcoffset() is not None

    asyncio.run(check())


def test_each_answer_of_a_batch_has_its_own_time(parts: Parts) -> None:
    """From when its own request arrived, and not another one that was scored with it."""

    async def check() -> None:
        began = time.perf_counter()
        waits = {f"request-{number}": float(number) for number in range(3)}
        asked = (parts.predictor.predict(EXAMPLE, request_id=each, started=began - ago) for each, ago in waits.items())
        await asyncio.gather(*asked)
        took = (time.perf_counter() - began) * 1_000
        found = [each for _, body in parts.outbox.oldest(3) for each in records.decode(body)]
        assert {each.request_id for each in found} == set(waits)
        for each in found:
            assert 0 <= each.elapsed_ms - waits[each.request_id] * 1_000 <= took

    asyncio.run(check())
    assert max(parts.batches) > 1


def test_answers_are_those_of_the_scorer_however_requests_fall_together(parts: Parts, scorer: Scorer) -> None:
    """Each of many concurrent requests gets the probabilities of its own row, from fewer calls of the model."""
    answers = asyncio.run(ask_many(parts.predictor, 200))
    expected = scorer.probabilities_of([row_of(number) for number in range(200)])
    assert (expected[1:] != expected[:-1]).any(axis=1).all()
    given = np.array([[answer.probabilities[name] for name in scorer.classes] for answer in answers])
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-12)
    for answer, probabilities in zip(answers, expected, strict=True):
        assert answer.prediction == scorer.classes[int(probabilities.argmax())]
        assert answer.confidence == pytest.approx(probabilities.max(), abs=1e-12)
    assert sum(parts.batches) == 200
    assert len(parts.batches) < 200


def test_a_full_outbox_gives_no_answer(parts: Parts) -> None:
    """Of more requests than there is room for, as many as fit are answered and logged, and the others are refused."""
    parts.outbox.max_records = 3

    async def check() -> list[Answer | BaseException]:
        return await asyncio.gather(*(ask(parts.predictor, number) for number in range(5)), return_exceptions=True)

    outcomes = asyncio.run(check())
    assert [isinstance(outcome, Answer) for outcome in outcomes] == [True, True, True, False, False]
    assert all(isinstance(outcome, OutboxFull) for outcome in outcomes[3:])
    assert parts.outbox.depth == 3


def test_a_failed_batch_does_not_affect_later_ones(parts: Parts) -> None:
    """Only the requests of a batch that cannot be scored fail."""

    async def check() -> None:
        with pytest.raises(UsageError, match="hours"):
            await parts.predictor.predict({"machine": 1}, request_id="bad", started=0.0)
        assert parts.outbox.depth == 0
        assert (await ask(parts.predictor, 1)).model_version == "7"

    asyncio.run(check())


@pytest.mark.parametrize("fault", [SystemExit, StopIteration, ArithmeticError])
def test_a_batch_may_fail_with_anything(parts: Parts, fault: type[BaseException]) -> None:
    """Not even what a future refuses to hold, or what would end a thread, keeps later requests from being answered."""

    def failing(_size: int) -> None:
        raise fault(fault.__name__)

    async def check() -> None:
        parts.predictor._on_batch = failing
        with pytest.raises(Exception, match=fault.__name__):
            await asyncio.wait_for(ask(parts.predictor, 1), 20)
        parts.predictor._on_batch = parts.batches.append
        assert (await asyncio.wait_for(ask(parts.predictor, 2), 20)).model_version == "7"

    asyncio.run(check())


def test_a_machine_without_another_thread_still_answers(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that scores was started with the service, not with the first request."""

    def refused(_self: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refused)
    assert asyncio.run(ask(parts.predictor, 1)).model_version == "7"


def test_a_cancelled_request_does_not_affect_others(parts: Parts) -> None:
    """The other requests of its batch are answered."""

    async def check() -> None:
        gone = asyncio.ensure_future(ask(parts.predictor, 1))
        others = [asyncio.ensure_future(ask(parts.predictor, number)) for number in range(2, 5)]
        await asyncio.sleep(0)
        gone.cancel()
        assert len(await asyncio.gather(*others)) == 3

    asyncio.run(check())


def test_a_swapped_scorer_answers_under_its_own_version(parts: Parts, scorer: Scorer) -> None:
    """Every answer names the version that scored it, even if the model is swapped while requests wait."""

    async def check() -> set[str]:
        asked = [asyncio.ensure_future(ask(parts.predictor, number)) for number in range(50)]
        await asyncio.sleep(0)
        parts.predictor.models = Models(Served(scorer=replace(scorer, params={}), info=replace(INFO, version="8")))
        asked += [asyncio.ensure_future(ask(parts.predictor, number)) for number in range(50, 100)]
        answers = await asyncio.gather(*asked)
        assert answers[-1].model_version == "8"
        return {answer.model_version for answer in answers}

    versions = asyncio.run(check())
    logged = {records.decode(body)[0].model_version for _, body in parts.outbox.oldest(1_000)}
    assert versions == logged
    assert "8" in versions


class SlowDisk(Outbox):
    """An outbox on a slow disk."""

    def append(self, bodies: Sequence[bytes], rows: Sequence[int] | None = None) -> None:
        time.sleep(0.03)
        super().append(bodies, rows)


@pytest.mark.slow
def test_concurrent_requests_are_committed_together(scorer: Scorer, tmp_path: Path) -> None:
    """On a slow disk, clients share commits instead of forming groups that alternate."""
    outbox = SlowDisk.claim(tmp_path, max_records=1_000)
    batches: list[int] = []
    predictor = Predictor(Served(scorer=scorer, info=INFO), outbox, CONTRACT, on_batch=batches.append)

    async def client(number: int) -> None:
        for _ in range(10):
            await ask(predictor, number)
            await asyncio.sleep(number / 4_000)  # the time to receive the answer and send the next request

    async def check() -> None:
        await asyncio.gather(*(client(number) for number in range(8)))

    asyncio.run(check())
    predictor.close()
    outbox.close()
    assert sum(batches) == 80
    assert len(batches) <= 15, batches


def test_the_next_batch_waits_while_answers_are_sent(parts: Parts) -> None:
    """The more answers there are to send, the longer the next requests are waited for, up to a limit."""

    async def wait_after(requests: int) -> float:
        row = Waiting(EXAMPLE, "request", 0.0, asyncio.get_running_loop().create_future())
        row.answer.cancel()
        parts.predictor._resolve([row] * requests, {}, 0.001)
        return parts.predictor._wait

    assert asyncio.run(wait_after(1)) == pytest.approx(0.000_6)
    assert asyncio.run(wait_after(20)) == pytest.approx(0.002_5)
    assert asyncio.run(wait_after(100)) == MAX_WAIT == 0.005


def test_a_single_client_does_not_wait_for_others(parts: Parts) -> None:
    """Once the others are gone, a single client is answered at once."""

    async def check() -> None:
        await ask_many(parts.predictor, 20)
        await ask(parts.predictor, 1)
        parts.predictor._wait = 60.0  # waiting would not end
        await asyncio.wait_for(ask(parts.predictor, 2), 10)

    asyncio.run(check())
    assert parts.batches[-2:] == [1, 1]
