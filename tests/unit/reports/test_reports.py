import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.frames import clean_tables, snapshot_frame
from support.instance import CONTRACT
from support.schemas import features_schema

from ctcd import html_report
from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.validation import ValidationReport, examine_chunks
from ctcd.contract.validation_page import validation_page
from ctcd.errors import UsageError
from ctcd.monitoring.outcome import Check, DataMonitorReport
from ctcd.monitoring.page import data_monitor_page

ATTACK = "<script>alert('x')</script>&\"<img src=x onerror=y>"


class Texts(HTMLParser):
    """Reads a page's tags, attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def broken() -> ValidationReport:
    """The report on a snapshot with some broken rules, one of them with a value that is HTML."""
    frame = snapshot_frame(CONTRACT, rows=50)
    frame.loc[[3, 5, 7, 9], "hours"] = 0
    frame.loc[4, "maker"] = ATTACK
    return examine_chunks([frame], snapshot_schema(CONTRACT), CONTRACT, where="machine_readings_labelled of 2025-08-31")


def test_a_data_owner_finds_rule_column_count_share_and_rows(broken: ValidationReport, tmp_path: Path) -> None:
    """The page and the JSON document name every broken rule, how often it is broken, and the first rows."""
    html_report.write(validation_page(broken), broken, tmp_path / "validation", "day")
    page = Texts((tmp_path / "validation" / "day.html").read_text())
    shown = "\n".join(page.texts)
    for part in ("breaks 2 rules", "hours", "is below 1", "8.000%", "maker", "does not match the contract's pattern"):
        assert part in shown
    first = broken.breaches[0].examples[0]
    assert f"reading {first.keys['reading']}, machine {first.keys['machine']}, day {first.keys['day']}: '0'" in shown
    document = json.loads((tmp_path / "validation" / "day.json").read_text())
    assert document == json.loads(json.dumps(asdict(broken)))
    assert document["breaches"][0]["count"] == 4


def test_the_page_is_self_contained_and_runs_nothing(broken: ValidationReport) -> None:
    """A value that is HTML is shown as text; there is no script, and nothing is loaded from anywhere."""
    html = html_report.render(validation_page(broken))
    page = Texts(html)
    assert repr(ATTACK) in "".join(page.texts)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert page.addresses == []
    assert "default-src 'none'" in html
    assert not re.search(r"https?://", html)


@pytest.mark.slow
def test_good_data_has_a_page_too() -> None:
    """The page of a report without breaches states that and has no table."""
    frame = snapshot_frame(CONTRACT, rows=20)
    page = html_report.render(validation_page(examine_chunks([frame], snapshot_schema(CONTRACT), CONTRACT, where="x")))
    assert "satisfies the contract" in page
    assert "<table" not in page


def test_no_personal_value_reaches_a_file(tmp_path: Path) -> None:
    """Rows with broken personal values are counted and located; the values are in neither file."""
    features, _ = clean_tables(CONTRACT, rows=20)
    personal = features.assign(operator="Secret" * 30, badge="Hidden-1")
    report = examine_chunks([personal], features_schema(CONTRACT), CONTRACT, where="x")
    html_report.write(validation_page(report), report, tmp_path, "x")
    text = (tmp_path / "x.html").read_text() + (tmp_path / "x.json").read_text()
    assert "is longer than 100 characters" in text
    assert "Secret" not in text
    assert "Hidden" not in text


def test_files_are_replaced_in_one_step(
    broken: ValidationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails leaves the older report whole, and no temporary file."""
    html_report.write(validation_page(broken), broken, tmp_path, "x")
    before = (tmp_path / "x.json").read_bytes()
    html_report.write(validation_page(broken), broken, tmp_path, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.html", "x.json"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        html_report.write(validation_page(broken), broken, tmp_path, "x")
    assert (tmp_path / "x.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.html", "x.json"]


def check(column: str, verdict: str, **values: object) -> Check:
    return Check(**{  # type: ignore[arg-type]  # defaults of a test
        "column": column, "rule": "is not missing", "limit": "no missing value", "observed": "", "failed": 0,
        "verdict": verdict, "compares": False, **values,
    })  # fmt: skip


def test_the_watch_has_a_page_with_the_failed_rules_first(tmp_path: Path) -> None:
    """Failed rules stand first, those that were not compared next; the link to all days is one within the folder."""
    report = DataMonitorReport(
        where="snapshot of 2025-08-31",
        snapshot="2025-08-31",
        compared_with=None,
        passed=False,
        checks=(
            check("one", "passed"),
            check("two", "not compared", observed="first snapshot"),
            check("three", "failed", observed=ATTACK, failed=3),
        ),
        page=str(tmp_path / "data-monitor" / "2025-08-31.html"),
    )
    assert [row.cells[0] for row in data_monitor_page(report).rows] == ["three", "two", "one"]
    html_report.write(data_monitor_page(report), report, tmp_path / "data-monitor", "2025-08-31")
    assert Path(report.page).is_file()
    page = Texts(Path(report.page).read_text())
    assert ATTACK in "".join(page.texts)
    assert "script" not in page.tags
    assert page.addresses == ["index.html"]
    assert "refused, 1 of 3 rules broken" in page.texts
    assert json.loads(Path(report.page).with_suffix(".json").read_text())["checks"][2]["failed"] == 3


@pytest.mark.parametrize("passed", [True, False])
def test_a_page_has_the_colour_of_its_verdict(broken: ValidationReport, passed: bool) -> None:
    """Whoever only glances at a refusal does not take it for a pass."""
    colour = f'<body class="{"good" if passed else "bad"}">'
    sound = examine_chunks([snapshot_frame(CONTRACT, rows=20)], snapshot_schema(CONTRACT), CONTRACT, where="x")
    assert colour in html_report.render(validation_page(sound if passed else broken))
    monitored = DataMonitorReport(
        where="x", snapshot="2025-08-31", compared_with=None, passed=passed, checks=(), page=""
    )
    assert colour in html_report.render(data_monitor_page(monitored))
