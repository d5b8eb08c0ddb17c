"""The history of a period or of a second: what answered, what was promoted and deployed, in the configured zone."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from support.instance import CONTRACT, INSTANCE
from support.serving import origin

from ctcd.errors import UsageError
from ctcd.registry.history import Change, What, in_force
from ctcd.settings import Settings
from ctcd.stages import audit
from ctcd.stages.connections import open_store
from ctcd.store.prediction_log import LoggedPrediction, append

ZONE = ZoneInfo("Asia/Tokyo")
DAY = date(2025, 8, 31)
MIDNIGHT = datetime(2025, 8, 31, tzinfo=ZONE)
"""In UTC, that is in the afternoon of the day before."""


def change(hours: float, what: What, version: str, target: str = "", before: str = "") -> Change:
    at = (MIDNIGHT + timedelta(hours=hours)).astimezone(ZoneInfo("UTC"))
    return Change(at=at.isoformat(), what=what, version=version, run_id=f"run {version}", target=target, before=before)


CHANGES = [
    change(-30, What.PROMOTED, "1"),
    change(0, What.PROMOTED, "2"),
    change(1, What.DEPLOYED, "2", "compose (production)"),
    change(2, What.DEPLOYED, "1", "process (local)", "0"),
    change(3, What.STOPPED, "2", "compose (production)"),
    change(23.99, What.ROLLED_BACK, "1"),
    change(24, What.PROMOTED, "3"),
    change(25, What.WITHDRAWN, "3"),
    change(25.1, What.CHALLENGES, "1"),
    change(25.2, What.CHALLENGE_LOST, "1"),
    change(26, What.DEPLOYED, "1", "compose (production)"),
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store with an answer in every hour, and a registry in memory, whose own tests have a real one."""
    settings = Settings(contracts=INSTANCE.folder, home=tmp_path, timezone="Asia/Tokyo")
    monkeypatch.setattr(audit, "open_registry", lambda _: SimpleNamespace(changes=lambda: CHANGES))
    store = open_store(settings)
    first = LoggedPrediction(
        request_id="",
        group=1,
        features={},
        prediction="sound",
        confidence=0.5,
        elapsed_ms=1.0,
        created_at=MIDNIGHT,
        **vars(origin("1")),
    )
    rows = [
        replace(first, request_id=str(hour), created_at=MIDNIGHT + timedelta(hours=hour), model_version=f"{hour}")
        for hour in range(-3, 27)
    ]
    append(store, CONTRACT, rows)
    store.dispose()
    return settings


def test_a_day_is_that_of_the_zone_from_midnight_to_midnight(settings: Settings) -> None:
    """What happens exactly at midnight is of the day that begins."""
    found = audit.history(settings, begin=DAY, end=DAY)
    assert (found.begin, found.end) == ("2025-08-31T00:00:00+09:00", "2025-09-01T00:00:00+09:00")
    assert [each.model_version for each in found.answering] == [str(hour) for hour in range(24)]
    assert found.last_before is not None
    assert found.last_before.model_version == "-1"
    assert list(found.changes) == CHANGES[1:6]
    assert (found.champion, found.deployed) == ("1", {"process (local)": "1"})


@pytest.mark.parametrize(
    ("hours", "answered", "champion"),
    [(-40, [], None), (-1, ["-1"], "1"), (0, ["0"], "2"), (23, ["23"], "2"), (24.5, [], "3"), (25.5, [], None)],
)
def test_every_second_has_its_version(
    settings: Settings, hours: float, answered: list[str], champion: str | None
) -> None:
    """The one that answered in it; without a request, the last that did before it, and the champion at that time."""
    moment = MIDNIGHT + timedelta(hours=hours, microseconds=250_000)
    for at in (moment, moment.replace(tzinfo=None)):
        found = audit.history(settings, at=at)
        assert [each.model_version for each in found.answering] == answered
        assert found.champion == champion
        last = str(int(min(hours, 26) // 1) - bool(answered)) if hours > -3 else None
        assert (found.last_before.model_version if found.last_before else None) == last


@pytest.mark.parametrize(
    ("hours", "deployed"),
    [
        (0.5, {"process (local)": "0"}),
        (1.5, {"process (local)": "0", "compose (production)": "2"}),
        (2.5, {"process (local)": "1", "compose (production)": "2"}),
        (3.5, {"process (local)": "1"}),
        (26.5, {"process (local)": "1", "compose (production)": "1"}),
    ],
)
def test_what_was_stopped_runs_no_more(settings: Settings, hours: float, deployed: dict[str, str]) -> None:
    """A target has what was deployed to it last and was not stopped, before the first record what that replaced."""
    assert audit.history(settings, at=MIDNIGHT + timedelta(hours=hours)).deployed == deployed


@pytest.mark.parametrize(
    ("first", "champion"),
    [
        (change(0, What.PROMOTED, "8", before="7"), "7"),
        (change(0, What.PROMOTED, "8"), None),
        (change(0, What.ROLLED_BACK, "6", before="7"), "7"),
        (change(0, What.WITHDRAWN, "7"), "7"),
        (change(0, What.DEPLOYED, "8", "compose (local)", "7"), "8"),
    ],
)
def test_what_the_first_change_replaced_was_there_before(first: Change, champion: str | None) -> None:
    """Before the first change on record the champion was the one that it replaced; a deployment says nothing about it."""
    changes = [first, change(1, What.PROMOTED, "9", before="8")]
    assert in_force(changes, MIDNIGHT - timedelta(days=1))[0] == champion
    assert in_force(changes, MIDNIGHT + timedelta(hours=2))[0] == "9"


def test_a_history_is_by_default_that_of_the_last_days(settings: Settings) -> None:
    """Until now."""
    found = audit.history(settings)
    begin, end = datetime.fromisoformat(found.begin), datetime.fromisoformat(found.end)
    assert end - begin == timedelta(days=7)
    assert abs(datetime.now(ZONE) - end) < timedelta(minutes=1)
    assert (found.answering, found.champion) == ((), None)


def test_each_step_of_a_challenger_has_a_line(settings: Settings) -> None:
    """It ends where the registry says that the next one began."""
    store = open_store(settings)
    known = LoggedPrediction(
        request_id="a",
        group=1,
        features={},
        prediction="sound",
        confidence=0.5,
        elapsed_ms=1.0,
        created_at=MIDNIGHT + timedelta(hours=25.05),
        **vars(origin("1", variant="challenger")),
    )
    later = MIDNIGHT + timedelta(hours=25.15)
    append(store, CONTRACT, [known, replace(known, request_id="b", created_at=later)])
    store.dispose()
    found = audit.history(settings, begin=MIDNIGHT, end=MIDNIGHT + timedelta(hours=26)).answering
    assert [(each.model_version, each.answers) for each in found if each.variant == "challenger"] == [("1", 1)] * 2


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        ("2025-10-26T02:59:59", "2025-10-26T02:00:00+01:00"),
        ("2025-10-26T02:59:59+01:00", "2025-10-26T03:00:00+01:00"),
        ("2025-03-30T01:59:59", "2025-03-30T03:00:00+02:00"),
    ],
)
def test_a_second_is_one_where_the_clock_is_changed(settings: Settings, at: str, ends: str) -> None:
    """The last one before summer time begins or ends in the configured zone is no longer than others."""
    found = audit.history(settings.model_copy(update={"timezone": "Europe/Berlin"}), at=datetime.fromisoformat(at))
    begin, end = map(datetime.fromisoformat, (found.begin, found.end))
    assert (begin.replace(tzinfo=None).isoformat(), end - begin) == (at[:19], timedelta(seconds=1))
    assert found.end == ends


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (DAY, DAY - timedelta(days=1)),
        (MIDNIGHT, MIDNIGHT),
        (MIDNIGHT, MIDNIGHT.replace(tzinfo=None)),
        (DAY + timedelta(days=1), MIDNIGHT + timedelta(hours=3)),
    ],
)
def test_a_period_that_ends_before_it_begins_is_refused(settings: Settings, begin: date, end: date) -> None:
    """Instead of an empty history, or of no such answer."""
    for stage in (audit.history, audit.replay):
        with pytest.raises(UsageError, match=r"^--from, --to: the period begins at 2025-.*\+09:00 and ends at 2025-"):
            stage(settings, begin=begin, end=end)


def test_a_period_in_the_future_is_refused(settings: Settings) -> None:
    """A history without an end ends now."""
    with pytest.raises(UsageError, match="the period begins at 2999-12-31"):
        audit.history(settings, begin=date(2999, 12, 31))
