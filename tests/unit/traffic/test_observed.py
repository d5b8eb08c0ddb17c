"""What the prediction log has of champion and challenger, in an embedded store."""

import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, insert, update
from support.instance import CONTRACT
from support.stores import TABLES

from ctcd.contract.traffic import Experiment, Mode, Variant
from ctcd.store.engine import transaction
from ctcd.store.prediction_log import shadow_id
from ctcd.traffic.judging import Seen
from ctcd.traffic.observed import observe

ZONE = ZoneInfo("Asia/Seoul")
DAY = date(2025, 9, 3)
BEGAN = datetime.combine(DAY, time(23, 30), ZONE)
GROUP, KEY, EVENT, LABEL = (each.name for each in (CONTRACT.group, CONTRACT.key, CONTRACT.event_date, CONTRACT.label))
GOOD, BAD = CONTRACT.classes[:2]
NONE = dict.fromkeys(CONTRACT.classes, 0)


def log(store: Engine, *rows: dict[str, Any]) -> None:
    """Log predictions of the champion, each of another group, a minute after the step began, but for what is given."""
    with transaction(store) as connection:
        connection.execute(
            insert(TABLES.predictions),
            [
                {
                    GROUP: number,
                    "features": {},
                    "prediction": GOOD,
                    "confidence": 0.5,
                    "elapsed_ms": 1.0,
                    "created_at": BEGAN + timedelta(minutes=1),
                    "request_id": f"{number:08x}",
                    "model_version": "1",
                    "run_id": "one",
                    "variant": Variant.CHAMPION.value,
                }
                | row
                for number, row in enumerate(rows)
            ],
        )


def observed(store: Engine, mode: Mode = Mode.CANARY, hours: float = 48.0) -> tuple[Seen, Seen]:
    experiment = Experiment(
        id="a",
        version="2",
        mode=mode,
        share=0.5,
        started=BEGAN.isoformat(),
        effective=BEGAN.astimezone(UTC).isoformat(),
    )
    now = BEGAN + timedelta(hours=hours)
    return observe(
        store, CONTRACT, experiment, champion=("1", "one"), challenger=("2", "two"), now=now, zone=ZONE
    )  # fmt: skip


def challenger(variant: Variant = Variant.CHALLENGER, **given: Any) -> dict[str, Any]:
    return {"model_version": "2", "run_id": "two", "variant": variant.value, **given}


def test_each_variant_has_its_own_requests(store: Engine) -> None:
    """A request that the challenger failed to answer counts as its own, though the champion answered it."""
    fallback = {"variant": Variant.FALLBACK.value, "elapsed_ms": 9.0, "prediction": BAD}
    log(store, {}, {"elapsed_ms": 3.0}, {}, challenger(elapsed_ms=5.0), challenger(prediction=BAD), fallback)
    theirs, mine = observed(store)
    assert (theirs.requests, theirs.failed, theirs.classes) == (3, 0, NONE | {GOOD: 3})
    assert (mine.requests, mine.failed, mine.classes) == (3, 1, NONE | {GOOD: 1, BAD: 1})
    assert (theirs.elapsed_ms.tolist(), mine.elapsed_ms.tolist()) == ([1.0, 1.0, 3.0], [1.0, 5.0, 9.0])


def test_a_shadow_that_failed_has_failed_like_a_canary(store: Engine) -> None:
    """Its rows repeat the champion's answer: they are requests of the challenger, and neither answers nor pairs."""
    shadows = [challenger(Variant.SHADOW, request_id=shadow_id(f"{number:08x}")) for number in range(2)]
    failed = [
        {"variant": Variant.SHADOW_FAILED.value, "request_id": shadow_id(f"{number:08x}"), GROUP: 7}
        for number in (2, 3)
    ]
    log(store, {}, {}, {}, {}, *shadows, *failed)
    theirs, mine = observed(store, Mode.SHADOW)
    assert (theirs.requests, theirs.failed, theirs.classes) == (4, 0, NONE | {GOOD: 4})
    assert (mine.requests, mine.failed, mine.failing, mine.classes) == (4, 2, 1.0, NONE | {GOOD: 2})
    assert (mine.paired, mine.agreed) == (2, 2)
    assert observed(store)[1].requests == 0  # a canary counts no shadow


@pytest.mark.parametrize(
    "other",
    [
        {"created_at": BEGAN - timedelta(microseconds=1)},  # before the step
        {"created_at": BEGAN + timedelta(hours=48)},  # after the look
        {"run_id": "another"},  # of a registered model that was made again
        {"model_version": "3"},
        {"variant": Variant.SHADOW.value},
        {"variant": Variant.SHADOW_FAILED.value},
        {"variant": None},  # of a release from before there were variants
    ],
)
def test_other_rows_are_not_counted(store: Engine, other: dict[str, Any]) -> None:
    """Neither before the step nor after the look, nor of other versions or variants."""
    log(store, {}, challenger(), other, challenger() | {"variant": "champion"} | other)
    assert [each.requests for each in observed(store)] == [1, 1]


def test_rows_of_one_group_count_less(store: Engine) -> None:
    """By Kish: three rows of one group and one of another say as much as 1.6."""
    log(store, *({GROUP: 7} for _ in range(3)), {GROUP: 8}, challenger())
    theirs, mine = observed(store)
    assert theirs.requests == 4
    assert theirs.effective == pytest.approx(1.6)
    assert (mine.requests, mine.effective) == (1, 1.0)


def test_failures_of_one_group_count_once(store: Engine) -> None:
    """However often it asks; those of others count as they are."""
    failed = {"variant": Variant.FALLBACK.value}
    log(store, challenger(), *({GROUP: 7} | failed for _ in range(5)))
    assert [each.failing for each in observed(store)] == [math.inf, 1.0]
    log(store, *({"request_id": f"other{number}"} | failed for number in range(3)))
    assert observed(store)[1].failing == pytest.approx(8 * 8 / (5 * 5 + 3))


def test_agreement_is_that_of_the_same_requests(store: Engine) -> None:
    """The shadow's row beside that of the champion is of the same request; one without the other is no pair."""
    shadows = [challenger(Variant.SHADOW, request_id=shadow_id(f"{number:08x}")) for number in range(3)]
    log(store, {}, {"prediction": BAD}, {}, {}, *shadows, challenger(Variant.SHADOW))
    theirs, mine = observed(store, Mode.SHADOW)
    assert (theirs.requests, mine.requests) == (4, 4)
    assert (mine.paired, mine.agreed) == (3, 2)
    assert (theirs.paired, observed(store)[1].requests) == (0, 0)  # a canary counts no shadow


def test_answers_are_compared_with_the_labels_of_their_groups(store: Engine) -> None:
    """Of every day since the step began, in the configured zone; an answer without a label is not counted."""
    late = {"created_at": BEGAN + timedelta(hours=25)}
    log(store, {}, {"prediction": BAD}, late, {}, challenger(), challenger(prediction=BAD), challenger() | late)
    with transaction(store) as connection:
        connection.execute(
            insert(TABLES.labels),
            [
                {KEY: number, GROUP: number, EVENT: DAY + timedelta(days=3), LABEL: GOOD}
                for number in (0, 1, 2, 4, 5, 6)
            ],
        )
    for mode, variant in ((Mode.CANARY, Variant.CHALLENGER), (Mode.SHADOW, Variant.SHADOW)):
        with transaction(store) as connection:
            challengers = TABLES.predictions.c.model_version == "2"
            connection.execute(update(TABLES.predictions).where(challengers).values(variant=variant.value))
        theirs, mine = observed(store, mode)
        assert (theirs.labelled, theirs.right) == (3, 2)
        assert (mine.labelled, mine.right) == (3, 2)


def test_without_requests_nothing_is_known(store: Engine) -> None:
    """Before the first answer, or before the step takes effect."""
    empty = [(each.requests, each.effective, each.classes, each.labelled) for each in observed(store, hours=-0.01)]
    assert empty == [(0, 0.0, NONE, 0)] * 2
