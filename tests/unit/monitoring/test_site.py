"""The report site says what store, registry and reports say, and can be read without a network."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure
from sqlalchemy import Engine
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.stores import TABLES

from ctcd import html_report
from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.validation import examine_chunks
from ctcd.contract.validation_page import validation_page
from ctcd.errors import NotFound
from ctcd.monitoring import plots
from ctcd.monitoring.findings import close_finding, raise_finding
from ctcd.monitoring.page import FOLDER as DATA_MONITOR
from ctcd.monitoring.site import VALIDATION, VERSIONS, SiteReport, write_site
from ctcd.promotion.plots import INK
from ctcd.registry.versions import RegisteredVersion
from ctcd.settings import Settings
from ctcd.stages import site as stage

DAY, NOW = date(2025, 9, 1), datetime(2025, 9, 10, tzinfo=UTC)
ATTACK = "<script>attack()</script>"
ENDS = {"accuracy_low": 0.61, "accuracy_high": 0.79, "macro_f1_low": 0.5, "macro_f1_high": 0.7}
GONE = "7"
"""A version whose run has been deleted."""


class Shown(HTMLParser):
    """The rows of a page's table, its facts, its links, and its tags."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: dict[str, list[str]] = {}
        self.links: list[str] = []
        self._in = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.texts.setdefault(tag, []).append("")
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._in and data.strip():
            self.texts[self._in][-1] += data
            if self._in in ("td", "th"):
                self.rows[-1][-1] += data


def registry(*versions: RegisteredVersion) -> Any:
    """Return a registry in memory; `tests/integration/cli` writes the site of a real one, which takes seconds to make."""
    pages = {"2": {"1.html": "<p>evidence of 2", "2.html": "<p>again"}}

    def decision_pages(version: str) -> dict[str, str]:
        if version == GONE:
            raise NotFound("Run 'r' not found", where="MLflow")
        return pages.get(version, {})

    def find(alias: str) -> RegisteredVersion | None:
        return next((each for each in versions if alias in each.aliases), None)

    return SimpleNamespace(versions=lambda: list(versions), decision_pages=decision_pages, find=find)


def version(number: str, *aliases: str, **tags: str) -> RegisteredVersion:
    return RegisteredVersion(
        model_name="m",
        version=number,
        run_id="r",
        aliases=aliases,
        created_at=f"2025-09-0{number}T03:30:05.678000+00:00",
        tags=tags,
        uri="",
    )


def written(store: Engine, folder: Path, *versions: RegisteredVersion) -> SiteReport:
    return write_site(
        store, registry(*versions), CONTRACT, reports=folder / "reports", load=folder / "load", into=folder / "site"
    )


def performance(first: date, model: str, **changes: Any) -> dict[str, Any]:
    row = {
        "period": "weekly", "first_day": first, "last_day": date.fromordinal(first.toordinal() + 6), "model_version": model,
        "run_id": f"run-{model}", "predictions": 4_000, "labelled": 3_200, "accuracy": 0.71239, "macro_f1": 0.65431,
        "recall": {}, "confusion": [], "computed_at": NOW,
    }  # fmt: skip
    return row | changes


def drift(first: date, feature: str, *drifted: str, **changes: Any) -> dict[str, Any]:
    row = {
        "period": "weekly", "first_day": first, "last_day": date.fromordinal(first.toordinal() + 6), "source": "predictions",
        "model_version": "2", "run_id": "r", "feature": feature, "rows": 1_234, "effective_rows": 1_000.0, "psi": 0.3,
        "distance": 0.25678, "distance_limit": 0.12345, "missing": 0.0, "reference_missing": 0.0, "unseen": None,
        "reference_unseen": None, "drifted": list(drifted), "computed_at": NOW,
    }  # fmt: skip
    return row | changes


@pytest.mark.slow
def test_the_site_says_what_is_on_record(store: Engine, tmp_path: Path) -> None:
    """Cell by cell: weeks, drifted columns, versions, findings, snapshots and load tests; the overview says the verdict of each."""
    before = date(2025, 8, 25)
    scores = {
        "labelled": 300,
        "accuracy": 0.71,
        "low": 0.6,
        "high": 0.8,
        "macro_f1": 0.65,
        "macro_f1_low": 0.5,
        "macro_f1_high": 0.7,
    }
    estimate = {"estimated_accuracy": 0.72349, "estimated_macro_f1": 0.66}
    with store.begin() as connection:
        known: dict[str, Any] = {
            "accuracy_low": 0.7, "accuracy_high": 0.725, "accuracy_error": 0.0111, "macro_f1_error": -0.02,
            "recall": {"sound": 0.9, "worn": 0.5, "broken": None},
            "recall_interval": {"sound": [0.85, 0.95], "worn": [0.4, 0.6], "broken": None},
            "slices": {"grade": {"Fair": scores}},
        }  # fmt: skip
        rows = [
            performance(before, "1", **known),
            performance(date(2025, 8, 18), "1", slices={"grade": {"Poor": scores}}),
        ]
        rows.append(performance(DAY, "2", accuracy=None, macro_f1=None, labelled=0, **estimate))
        daily = performance(DAY, "2") | {"period": "daily", "accuracy": 0.1}
        for row in (*rows, daily):  # one by one, as they have different columns
            connection.execute(TABLES.performance.insert(), row)
        moved = [drift(before, "power", "missing"), drift(DAY, "hours", "distribution", "missing"), drift(DAY, "wear")]
        moved += [
            drift(date(2025, 9, 9), each, *of, period="daily", last_day=date(2025, 9, 9), **shares)
            for each, of, shares in (
                ("hours", (), {}),
                ("wear", ("unseen",), {"missing": 0.0212, "unseen": 0.25, "reference_unseen": 0.001}),
            )
        ]
        connection.execute(TABLES.drift.insert(), moved)
    evidence = {"psi": 0.123456, "rows": 1_234, "limits": {"psi": None, "bins": [1, 2]}}
    kept = raise_finding(store, CONTRACT, kind="drift", subject=ATTACK, evidence=evidence, day=DAY)
    done = raise_finding(store, CONTRACT, kind="labels", subject="late", evidence={}, day=DAY)
    close_finding(store, CONTRACT, done.id, reason="holidays", by="ann", day=DAY)
    frame = snapshot_frame(CONTRACT, rows=20)
    for day, hours in (("2025-09-01", 0), ("2025-08-25", 5)):
        frame["hours"] = hours
        checked = examine_chunks([frame], snapshot_schema(CONTRACT), CONTRACT, where="x")
        html_report.write(validation_page(checked), checked, tmp_path / "reports" / "validation", day)
    (tmp_path / "load").mkdir()
    measured = {"shape": "smoke", "requests": 900, "p99_ms": 21.5, "errors": {}}
    (tmp_path / "load" / "smoke.json").write_text(json.dumps({"passed": False, "measured": measured, "findings": []}))
    (tmp_path / "load" / "baseline-smoke.json").write_text(json.dumps(measured))

    refused = json.dumps(["macro F1 is low", ATTACK])
    report = written(
        store, tmp_path, version("2", gate="refused", gate_reasons=refused), version("1", "champion", gate="passed")
    )

    site = tmp_path / "site"
    pages = {
        name: Shown(site / f"{name}.html") for name in ("data", "performance", "drift", "decisions", "findings", "load")
    }
    both, sliced = "accuracy 0.7235\nmacro F1 0.6600", "0.7100 [0.6000, 0.8000]"
    recall, error = "sound 0.9000 [0.8500, 0.9500]\nworn 0.5000 [0.4000, 0.6000]", "accuracy +0.0111\nmacro F1 -0.0200"
    week, accuracy = "2025-08-25 to 2025-08-31", "0.7124 [0.7000, 0.7250]"
    assert pages["performance"].rows[1:4] == [
        ["2025-09-01 to 2025-09-07", "2", "run-2", "4,000", "0 (0.0%)", "", "", "", both, ""],
        [week, "1", "run-1", "4,000", "3,200 (80.0%)", accuracy, "0.6543", recall, "", error],
        ["2025-08-18 to 2025-08-24", "1", "run-1", "4,000", "3,200 (80.0%)", "0.7124", "0.6543", "", "", ""],
    ]
    assert pages["performance"].rows[5:] == [
        [week, "1", "run-1", "grade", "Fair", "300", sliced, "0.6500 [0.5000, 0.7000]"]
    ]
    assert pages["drift"].rows[1:] == [
        [
            *("2025-09-09", "2", "r", "predictions", "wear", "1,234", "0.2568", "0.1235"),
            *("2.12% (0.00%)", "25.00% (0.10%)", "unseen"),
        ],
        [
            "2025-09-01 to 2025-09-07",
            "2",
            "r",
            "predictions",
            "hours",
            "1,234",
            "0.2568",
            "0.1235",
            "0.00% (0.00%)",
            "",
            "distribution, missing",
        ],
        [week, "2", "r", "predictions", "power", "1,234", "0.2568", "0.1235", "0.00% (0.00%)", "", "missing"],
    ]
    assert pages["drift"].links == ["findings.html", "index.html"]
    assert pages["decisions"].rows[1:] == [
        ["2", "2025-09-02T03:30:05Z", "", f"macro F1 is low\n{ATTACK}", "refused"],
        ["1", "2025-09-01T03:30:05Z", "champion", "", "passed"],
    ]
    assert pages["decisions"].links == ["decisions/2/1.html", "decisions/2/2.html", "index.html"]
    assert (site / "decisions" / "2" / "1.html").read_text() == "<p>evidence of 2"
    numbers = "psi: 0.1235\nrows: 1234\nlimits.psi: None\nlimits.bins.0: 1\nlimits.bins.1: 2"
    assert pages["findings"].rows[1:] == [
        [str(done.id), "labels", "late", "", "2025-09-01", "2025-09-01", "2025-09-01", "ann", "holidays"],
        [str(kept.id), "drift", ATTACK, numbers, "2025-09-01", "2025-09-01", "", "", ""],
    ]
    assert pages["data"].rows[1:] == [
        ["2025-09-01", "validation", "1", "refused"],
        ["2025-08-25", "validation", "0", "accepted"],
    ]
    assert pages["load"].rows[1:] == [["smoke", "requests: 900\np99_ms: 21.5", "failed"]]
    overview = Shown(site / "index.html")
    assert dict(zip(overview.texts["dt"], overview.texts["dd"], strict=True)) == {
        "Data quality": "snapshot of 2025-09-01: refused",
        "Performance by week": "accuracy 0.7124 of version 1 in the week from 2025-08-25; "
        "estimated 0.7235 of version 2 in the week from 2025-09-01",
        "Drift": "1 of 2 columns beyond a limit on 2025-09-09; "
        "1 of 2 columns beyond a limit in the week from 2025-09-01",
        "Decisions": "version 1 is the champion",
        "Findings": "1 open",
        "Load tests": "0 of 1 shapes within their limits",
    }
    assert overview.texts["p"][0] == "look at: data quality, drift, findings, load tests"
    assert report.pages[0] == "index.html"
    assert {str(path.relative_to(site)) for path in site.rglob("*.html")} == set(report.pages)


def painted(
    monkeypatch: pytest.MonkeyPatch, draw: Callable[[list[dict[str, Any]]], Any], weeks: list[Any]
) -> dict[str, Any]:
    """Return the axes of each plot, as matplotlib has them."""
    found: dict[str, Any] = {}

    def paint(name: str, into: Callable[[Any], None]) -> str:
        found[name] = Figure().subplots()
        into(found[name])
        return ""

    monkeypatch.setattr(plots, "svg", paint)
    draw(weeks)
    return found


def test_performance_is_drawn_with_its_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is a line through its weeks, at the right distance in time; a row of an earlier release has no interval."""
    after = date(2025, 9, 15)
    nothing = dict.fromkeys(ENDS)
    weeks = [
        performance(after, "2", accuracy=0.75, **ENDS),
        performance(after, "3", accuracy=None, macro_f1=None, **nothing),
        performance(DAY, "2", **nothing),
    ]
    axes = painted(monkeypatch, plots.performance, weeks)
    assert list(axes) == ["accuracy by week", "macro F1 by week"]
    line, _, [bars] = axes["accuracy by week"].containers[0]
    days = [DAY.toordinal(), after.toordinal()]
    assert [list(each) for each in line.get_data()] == [days, [0.71239, 0.75]]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[0.71239] * 2, pytest.approx([0.61, 0.79])]
    assert [text.get_text() for text in axes["accuracy by week"].get_xticklabels()] == ["2025-09-01", "2025-09-15"]
    assert "version 2, run run-2" in axes["accuracy by week"].get_legend_handles_labels()[1]
    assert plots.performance(weeks[1:2]) == {}


def test_two_runs_of_one_number_are_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered model that was made again has a version 1 again, which is another model."""
    weeks = [performance(DAY, "1", run_id="after"), performance(date(2025, 8, 25), "1", run_id="before")]
    axes = painted(monkeypatch, plots.performance, [each | dict.fromkeys(ENDS) for each in weeks])["accuracy by week"]
    assert axes.get_legend_handles_labels()[1] == ["version 1, run after", "version 1, run before"]
    assert [len(line.get_xdata()) for line, *_ in axes.containers] == [1, 1]


def test_drift_is_drawn_as_a_multiple_of_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns that were furthest beyond their limits, of several versions the one that is; one without a limit is left out."""
    before = date(2025, 8, 25)
    columns = [drift(DAY, f"_c{number}", distance=0.01 * number, distance_limit=0.1) for number in range(20)]
    weeks = [
        *columns,
        drift(DAY, "_c19", model_version="3", distance=0.3, distance_limit=0.1),
        drift(DAY, "shares", distance=0.9, distance_limit=None),
        drift(before, "_c19", distance=0.05, distance_limit=0.1),
    ]
    [axes] = painted(monkeypatch, plots.drift, weeks).values()
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == [f"_c{number}, predictions" for number in range(19, 13, -1)]
    assert [list(each) for each in axes.lines[0].get_data()] == [
        [before.toordinal(), DAY.toordinal()],
        pytest.approx([0.5, 3.0]),
    ]
    assert plots.drift([drift(DAY, "shares", distance=None, distance_limit=None)]) == {}


@pytest.mark.slow
def test_plots_are_on_the_pages_and_the_same_in_each_build(store: Engine, tmp_path: Path) -> None:
    """Those of performance and of drift, in the colours of the page, with a text for whoever does not see them."""
    with store.begin() as connection:
        connection.execute(TABLES.performance.insert(), [performance(DAY, "2"), performance(date(2025, 8, 25), "1")])
        connection.execute(TABLES.drift.insert(), [drift(DAY, "hours", "distribution")])
    texts = []
    for _ in range(2):
        written(store, tmp_path)
        texts.append([(tmp_path / "site" / f"{name}.html").read_text() for name in ("performance", "drift")])
    assert texts[0] == texts[1]
    for page, names in zip(texts[0], (["accuracy by week", "macro F1 by week"], ["drift by week"]), strict=True):
        assert re.findall(r'<svg role="img" aria-label="([^"]+)"', page) == names
        assert INK not in page


def test_a_site_needs_no_network_and_every_link_leads_to_a_page(store: Engine, tmp_path: Path) -> None:
    """Also of a new service about which nothing is known; from each page a link leads back to the overview."""
    report = written(store, tmp_path)
    reached = {link for name in report.pages for link in Shown(tmp_path / "site" / name).links}
    assert reached == set(report.pages)
    for name in report.pages:
        text = (tmp_path / "site" / name).read_text()
        assert "default-src 'none'" in text
        assert "http" not in text.replace("http-equiv", "")
        assert "<script" not in text
    verdicts = Shown(tmp_path / "site" / "index.html").texts["dd"]
    assert verdicts == [
        "no snapshot checked", "no label is known yet", "no day and no week compared yet", "no champion",
        "0 open", "no load test",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("breaches", "passed", "verdict"), [(0, True, "accepted"), (0, False, "refused"), (1, True, "refused")]
)
def test_a_snapshot_is_accepted_if_every_check_accepts_it(
    store: Engine, tmp_path: Path, breaches: int, passed: bool, verdict: str
) -> None:
    """One that refuses the newest snapshot is enough, and what became of earlier ones is no matter."""
    newest: dict[str, Any] = {
        "breaches": [{}] * breaches,
        "passed": passed,
        "checks": [{"verdict": "passed" if passed else "failed"}],
    }
    before: dict[str, Any] = {"breaches": [{}], "passed": False, "checks": [{"verdict": "failed"}] * 2}
    for folder in ("validation", "data-monitor"):
        (tmp_path / "reports" / folder).mkdir(parents=True)
        for day, report in (("2025-09-01", newest), ("2025-08-25", before)):
            (tmp_path / "reports" / folder / f"{day}.json").write_text(json.dumps(report))
            (tmp_path / "reports" / folder / f"{day}.html").touch()
    written(store, tmp_path)
    page = Shown(tmp_path / "site" / "data.html")
    assert page.texts["p"][0] == f"snapshot of 2025-09-01: {verdict}"
    assert page.rows[1:] == [
        ["2025-09-01", "validation", f"{breaches}", "refused" if breaches else "accepted"],
        ["2025-09-01", "data-monitor", f"{1 - passed}", "accepted" if passed else "refused"],
        ["2025-08-25", "validation", "1", "refused"],
        ["2025-08-25", "data-monitor", "2", "refused"],
    ]


def test_labels_that_can_never_be_known_are_not_awaited(store: Engine, tmp_path: Path) -> None:
    """Where requests have neither group nor key, the page says so, and what would change it."""
    contract = replace(CONTRACT)
    vars(contract)["identity"] = ()
    write_site(store, registry(), contract, reports=tmp_path, load=tmp_path, into=tmp_path)
    verdict = Shown(tmp_path / "performance.html").texts["p"][0]
    assert verdict == "no label can be known: requests have neither group nor key (see --group and --key of ctcd init)"


def test_a_version_whose_run_is_gone_is_shown_without_its_evidence(store: Engine, tmp_path: Path) -> None:
    """A deleted run, as by `mlflow gc`, costs the site one link: the other versions have theirs."""
    report = written(store, tmp_path, version(GONE, gate="passed"), version("2", "champion", gate="passed"))
    page = Shown(tmp_path / "site" / "decisions.html")
    assert [row[-1] for row in page.rows[1:]] == ["passed; its evidence is gone", "passed"]
    assert "decisions/2/1.html" in report.pages


def test_a_champion_is_known_however_many_versions_came_after_it(store: Engine, tmp_path: Path) -> None:
    """The champion is named by the registry, not looked for among the versions shown."""
    newer = [version("9") for _ in range(VERSIONS)]
    written(store, tmp_path, *newer, version("1", "champion", gate="passed"))
    page = Shown(tmp_path / "site" / "decisions.html")
    assert len(page.rows) == 1 + VERSIONS
    assert page.texts["p"][0] == "version 1 is the champion"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ['{"passed": tr', "[1, 2]", '{"passed": true}', '{"passed": true, "measured": 3}', "\udcff", "3"],
    ids=["half written", "a list", "nothing measured", "a number measured", "no text", "a number"],
)
def test_a_file_that_is_no_report_of_a_load_test_is_named(store: Engine, tmp_path: Path, text: str) -> None:
    """A half-written or foreign JSON file is marked in the page about load tests; the site is written."""
    (tmp_path / "load").mkdir()
    (tmp_path / "load" / "other.json").write_text(text, errors="surrogateescape")
    written(store, tmp_path)
    page = Shown(tmp_path / "site" / "load.html")
    assert page.rows[1:] == [["other", "no report of a load test", "failed"]]
    assert page.texts["p"][0] == "0 of 1 shapes within their limits"


@pytest.mark.slow
@pytest.mark.parametrize("folder", [VALIDATION, DATA_MONITOR])
@pytest.mark.parametrize(
    "text", ['{"passed": tr', "[1, 2]", "{}", "\udcff"], ids=["half written", "a list", "empty", "no text"]
)
def test_a_file_that_is_no_report_about_a_snapshot_is_named(
    store: Engine, tmp_path: Path, folder: str, text: str
) -> None:
    """It is marked in the page about data; the site is written."""
    (tmp_path / "reports" / folder).mkdir(parents=True)
    (tmp_path / "reports" / folder / "2025-08-31.json").write_text(text, errors="surrogateescape")
    written(store, tmp_path)
    page = Shown(tmp_path / "site" / "data.html")
    assert page.rows[1:] == [["2025-08-31", folder, "", "cannot be read"]]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["reports", "load"])
def test_reports_that_cannot_be_read_are_not_taken_for_none(store: Engine, tmp_path: Path, folder: str) -> None:
    """Else the site would say that nothing needs attention; root may read every folder, so it is a file."""
    (tmp_path / folder).touch()
    with pytest.raises(NotADirectoryError):
        written(store, tmp_path)


def test_a_home_on_a_disk_that_is_not_mounted_is_not_one_without_reports(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link to it leads to nothing, which is an error."""
    home = tmp_path / "home"
    home.symlink_to("disk")
    monkeypatch.setattr(stage, "open_store", lambda _: store)
    monkeypatch.setattr(stage, "open_registry", lambda _: registry())
    monkeypatch.setattr(stage, "instance", lambda _: INSTANCE)
    with pytest.raises(FileNotFoundError):
        stage.write_site(Settings(home=home), tmp_path / "site", load=tmp_path)
    assert not (tmp_path / "site").exists()
