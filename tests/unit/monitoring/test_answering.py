"""The prediction log says which version answered in every second."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, select
from support.instance import CONTRACT
from support.serving import origin

from ctcd.monitoring.answering import answering, last_before
from ctcd.monitoring.samples import by_model
from ctcd.scoring.replay import Chosen, _chosen
from ctcd.store.prediction_log import LoggedPrediction, append, shadow_id
from ctcd.store.tables import build_tables
from ctcd.store.warehouse import export_log

BEGAN = datetime(2025, 8, 31, 23, 59, 50, tzinfo=UTC)
HOUR = timedelta(hours=1)


def log(
    store: Engine,
    *answers: tuple[float, str],
    run_id: str = "",
    served_by: str = "bento:v1",
    request_id: str = "",
    variant: str = "champion",
) -> None:
    """Log answers, given as seconds since the beginning and version."""
    known = {"group": 1, "features": {}, "prediction": "sound", "confidence": 0.5, "elapsed_ms": 1.0}
    append(
        store,
        CONTRACT,
        [
            LoggedPrediction(
                **known,  # type: ignore[arg-type] # of the fields above
                **vars(origin(version, run_id, served_by=served_by, variant=variant)),
                request_id=request_id or f"{seconds} {version} {run_id}",
                created_at=BEGAN + timedelta(seconds=seconds),
            )
            for seconds, version in answers
        ],
    )


def times(
    store: Engine, begin: datetime = BEGAN - HOUR, end: datetime = BEGAN + HOUR
) -> list[tuple[str, str, str, int]]:
    return [
        (each.first[14:19], each.last[14:19], each.model_version, each.answers)
        for each in answering(store, CONTRACT, begin, end)
    ]


def test_a_version_answers_until_only_others_do(store: Engine) -> None:
    """In the second of a swap both answer; a pause ends nothing; whoever comes back begins again. Across midnight, too."""
    log(store, (0.0, "1"), (0.999999, "1"), (8, "1"), (8.5, "2"), (10, "2"), (11, "1"), (11.2, "1"), (12, "2"))
    assert times(store) == [
        ("59:50", "59:58", "1", 3),
        ("59:58", "00:00", "2", 2),
        ("00:01", "00:01", "1", 2),
        ("00:02", "00:02", "2", 1),
    ]
    assert answering(store, CONTRACT, BEGAN, BEGAN + HOUR)[0].first == "2025-08-31T23:59:50+00:00"


def test_a_challenger_answers_beside_the_champion(store: Engine) -> None:
    """However their seconds alternate, each has one line for each step; a swap of the champion still ends its line."""
    for second in range(0, 40, 2):
        log(store, (second, "1" if second < 30 else "3"))
        log(store, (second + 1, "2"), variant="challenger")
    log(store, (7, "1"), (9, "1"), (25, "1"), variant="fallback")
    steps = [BEGAN - HOUR, BEGAN + timedelta(seconds=20.5)]
    found = answering(store, CONTRACT, BEGAN, BEGAN + HOUR, steps=steps)
    assert [
        (each.first[17:19], each.last[17:19], each.model_version, each.variant, each.answers) for each in found
    ] == [
        ("50", "18", "1", "champion", 15),
        ("51", "09", "2", "challenger", 10),
        ("57", "59", "1", "fallback", 2),
        ("11", "29", "2", "challenger", 10),
        ("15", "15", "1", "fallback", 1),
        ("20", "28", "3", "champion", 5),
    ]


def test_a_step_begins_in_the_second_of_its_first_answer(store: Engine) -> None:
    """Steps are times with a zone, in any order; what a challenger answers in the second of one is counted for it."""
    log(store, (0, "2"), (3, "2"), (5, "2"), (9, "2"), variant="challenger")
    seoul = ZoneInfo("Asia/Seoul")
    steps = [(BEGAN + timedelta(seconds=seconds)).astimezone(seoul) for seconds in (5.9, 3)]
    found = answering(store, CONTRACT, BEGAN, BEGAN + HOUR, steps=steps)
    assert [(each.first[17:19], each.last[17:19], each.answers) for each in found] == [
        ("50", "50", 1),
        ("53", "53", 1),
        ("55", "59", 2),
    ]


def test_models_with_the_same_number_and_services_are_told_apart(store: Engine) -> None:
    """A time is that of one training run, in one image or Bento."""
    log(store, (0, "1"), run_id="old")
    log(store, (1, "1"), run_id="new")
    log(store, (2, "1"), run_id="new", served_by="bento:v2")
    found = answering(store, CONTRACT, BEGAN, BEGAN + HOUR)
    assert [(each.run_id, each.served_by, each.answers) for each in found] == [
        ("old", "bento:v1", 1),
        ("new", "bento:v1", 1),
        ("new", "bento:v2", 1),
    ]


def test_a_period_has_its_beginning_and_not_its_end(store: Engine) -> None:
    """An answer exactly at the end belongs to the next period."""
    log(store, (0, "1"), (1, "2"), (2, "3"))
    assert [each[2] for each in times(store, BEGAN + timedelta(seconds=1), BEGAN + timedelta(seconds=2))] == ["2"]
    assert times(store, BEGAN + HOUR, BEGAN + 2 * HOUR) == []


def test_the_last_answer_before_a_time_is_found(store: Engine) -> None:
    """It names the version that answered last; before the first answer there is none."""
    log(store, (0.2, "1"), (5.5, "2"), (5.7, "2"))
    last = last_before(store, CONTRACT, BEGAN + timedelta(seconds=60))
    assert last is not None
    assert (last.model_version, last.last, last.answers) == ("2", "2025-08-31T23:59:55+00:00", 2)
    inside = last_before(store, CONTRACT, BEGAN + timedelta(seconds=5.6))
    assert inside is not None
    assert inside.answers == 1
    assert last_before(store, CONTRACT, BEGAN) is None


def test_what_a_shadow_has_scored_is_no_answer(store: Engine, tmp_path: Path) -> None:
    """Nobody was told it: history, periods of monitoring, replay and export leave it out; its request id finds it."""
    given = {"champion": "1", "challenger": "2", "fallback": "1"}
    for number, (variant, version) in enumerate({**given, "shadow": "2", "shadow_failed": "1"}.items()):
        request_id = f"{number % 3}d1b4f0e-5a53-4a39-9a55-1f0f6f3c2a7{number % 3}"
        log(
            store,
            (number, version),
            request_id=shadow_id(request_id) if variant.startswith("shadow") else request_id,
            variant=variant,
        )
    assert [(each.variant, each.model_version) for each in answering(store, CONTRACT, BEGAN, BEGAN + HOUR)] == list(
        given.items()
    )
    last = last_before(store, CONTRACT, BEGAN + HOUR)
    assert last is not None
    assert last.variant == "fallback"
    with store.connect() as connection:
        found = by_model(connection, CONTRACT, (BEGAN, BEGAN + HOUR))
        assert {version: rows for (version, _), (rows, _) in found.items()} == {"1": 2, "2": 1}
        table = build_tables(CONTRACT).predictions
        shadows = select(table.c.variant).where(table.c.request_id.in_(select(shadow_id(table.c.request_id))))
        assert sorted(connection.scalars(shadows)) == ["shadow", "shadow_failed"]
    exported = export_log(store, CONTRACT, [BEGAN.date()], str(tmp_path / "out"), zone=ZoneInfo("UTC"), chunk_rows=2)
    assert [each.rows for each in exported.days] == [3]
    assert len(_chosen(store, CONTRACT, Chosen(begin=BEGAN))) == 3
    assert len(_chosen(store, CONTRACT, Chosen(requests=[shadow_id("0d1b4f0e-5a53-4a39-9a55-1f0f6f3c2a70")]))) == 1
