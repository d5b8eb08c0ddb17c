import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score
from support.evaluations import CLASSES, DAY, evaluation, policy
from support.instance import CONTRACT
from support.small_contracts import NAMED, write_instance

from ctcd.errors import CtcdError
from ctcd.html_report import render
from ctcd.model.metrics import scores
from ctcd.model.reference import FeatureDrift
from ctcd.promotion import gate, plots
from ctcd.promotion.bootstrap import CONFIDENCE, intervals
from ctcd.promotion.decision import decide
from ctcd.promotion.evaluation import Evaluation
from ctcd.promotion.evidence import THIS, About, DriftSince, Evidence, Feature, SliceScore, collect
from ctcd.promotion.page import SHOWN_SLICES, Judged, compare, comparison_page, evidence_page, read_judged, short_form
from ctcd.registry.versions import IMAGE, RegisteredVersion
from ctcd.store.ingested import Quarantined, SourceFile
from ctcd.training.summary import Part, TrainingReport
from ctcd.training.trial import Trial

BASELINE = scores(list(CLASSES), np.full((3, 3), 1 / 3), CLASSES)
CURVE = {"round": [1.0, 2.0, 3.0], "training": [1.0, 0.7, 0.5], "validation": [1.0, 0.8, 0.9]}
SOURCES = tuple(
    SourceFile(
        table="readings",
        file=f"{name}.csv",
        sha256=digit * 64,
        read=1_234,
        written=1_217,
        ingested_at=datetime(2025, 8, int(digit), 7, 30, tzinfo=UTC),
    )
    for name, digit in (("june", "2"), ("may", "1"))
)
DECIDED = "2025-09-01T03:30:05+00:00"
DRIFT = DriftSince(
    version="6",
    rows=600,
    effective_rows=250.5,
    level=0.0004,
    features=tuple(
        FeatureDrift(
            feature=name,
            psi=psi,
            distance=psi / 2,
            limit=0.1234,
            missing=psi / 3,
            reference_missing=psi / 5,
            unseen=unseen,
            reference_unseen=unseen,
            drifted=drifted,
        )
        for name, psi, unseen, drifted in (
            ("maker", 0.3141, 0.0271, ("distribution", "unseen")),
            ("hours", 0.0161, None, ()),
        )
    ),
)
REFUSED = Quarantined(table="readings", file="june.csv", reason="hours is below 1", rows=17)
ABOUT = About(
    features=tuple(
        Feature(name=name, change=change, shap=dict.fromkeys(CLASSES, change / 100))
        for name, change in (("hours", 61.25), ("maker", 38.75))
    ),
    explained_rows=500,
    environment={"python": "3.11.2", "catboost": "1.2.10"},
)
FIRST_GROUP = 700_000_000


class Tables(HTMLParser):
    """Reads a page: names and values, and the rows of the table, below each heading."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.texts: list[str] = []
        self._heading, self._in, self._name = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self._in = tag
        if tag == "tr":
            self.rows.setdefault(self._heading, []).append([])
        elif tag in ("td", "th"):
            self.rows[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = "" if tag == self._in else self._in

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in in ("h1", "h2"):
            self._heading = data
        elif self._in in ("td", "th"):
            self.rows[self._heading][-1][-1] += data
        elif self._in == "dt":
            self._name = data
        elif self._in == "dd":
            self.facts.setdefault(self._heading, {})[self._name] = data

    def column(self, heading: str, name: str) -> dict[str, str]:
        """Return a column of a table by the first cell of each row."""
        header, *rows = self.rows[heading]
        return {row[0]: row[header.index(name)] for row in rows}


def candidate(**changes: Any) -> Evaluation:
    made = evaluation(hit=0.85, run="7")
    return replace(made, groups=made.groups + FIRST_GROUP, **changes)


def champion(**changes: Any) -> Evaluation:
    made = evaluation(hit=0.7, run="6", seed=1)
    seen = np.arange(len(made.truth)) < 100
    return replace(made, truth=candidate().truth, groups=candidate().groups, seen=seen, **changes)


def report(**changes: Any) -> TrainingReport:
    trial = Trial(params={"depth": 6}, validation=BASELINE, iterations=2, seconds=1.0, curve=CURVE)
    known: dict[str, Any] = {
        "run_id": "run-7",
        "reused": False,
        "fingerprint": "f",
        "data_hash": "d" * 64,
        "base_dt": DAY,
        "profile": "fast",
        "seed": 5,
        "contract_version": CONTRACT.version,
        "git_revision": "abc",
        "parts": {
            name: Part(rows=rows, groups=9, shares=dict.fromkeys(CLASSES, 1 / 3)) for name, rows in PARTS.items()
        },
        "trials": (trial,),
        "best": 0,
        "holdout": BASELINE,
        "baselines": {"majority_class": BASELINE},
        "fit_seconds": 1.0,
        "seconds": 2.0,
        "quarantined": (REFUSED,),
        "sources": SOURCES,
    }
    return TrainingReport(**known | changes)


PARTS = {"train": 1_800, "validation": 601, "holdout": 600}


def dated(rows: int = 600) -> pd.DataFrame:
    """Return the dates of a holdout: a third of its rows in each of three months, August first."""
    days = [date(2025, 8 - month, 15) for month in range(3) for _ in range(rows // 3)]
    return pd.DataFrame({CONTRACT.event_date.name: pd.to_datetime(pd.Series(days))})


def evidence_of(
    one: Evaluation, other: Evaluation | None, about: About = ABOUT, holdout: pd.DataFrame | None = None, **more: Any
) -> Evidence:
    version = RegisteredVersion(
        model_name=CONTRACT.name, version="7", run_id="run-7", aliases=(), created_at="", tags={}, uri=""
    )
    known: dict[str, Any] = {
        "about": about,
        "drift": DRIFT,
        "report": report(),
        "contract": CONTRACT,
        "version": version,
    }
    rows = dated() if holdout is None else holdout
    return collect(one, other, holdout=rows, policy=policy(), **known | more)


def judge(one: Evaluation, other: Evaluation | None = None, about: About = ABOUT) -> tuple[Judged, dict[str, str]]:
    """Return a decision with its evidence, and the content of its files by their ending."""
    evidence = evidence_of(one, other, about)
    made = Judged(number=3, decided_at=DECIDED, decision=decide(one, other, policy()), evidence=evidence)
    texts, _ = gate._files(made, evidence, CONTRACT)
    return made, {name.partition(".")[2]: text for name, text in texts.items()}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """The files of a decision about a candidate that has a champion."""
    return judge(candidate(), champion())[1]


def test_every_number_on_the_page_is_the_one_in_the_decision(files: dict[str, str]) -> None:
    """Scores, rules, slices, data, parameters, environment and lineage: cell by cell, as the document has them."""
    page, content = Tables(files["html"]), json.loads(files["json"])
    evidence = content["evidence"]
    for model, found in evidence["scores"].items():
        shown = page.column("Scores on the holdout", model)
        assert len(found) == len(shown) == 7
        for metric, score in found.items():
            bounds = [score["point"], *(score[end] for end in ("lower", "upper") if score[end] is not None)]
            assert re.findall(r"[\d.]+", shown[metric]) == [f"{value:.4f}" for value in bounds]
    ours = {rule["name"]: rule["value"] for rule in content["rules"]}
    for rule in content["rules"]:
        name = rule["name"]
        number = rule["value"]
        if isinstance(number, float) and number != int(number):
            assert page.column("Rules of the gate", "value")[name] == f"{number:.4f}"
        assert page.column("Rules of the gate", "why")[name] == rule["explanation"]
        assert page.column("Rules of the gate", "verdict")[name] == ("passed" if rule["passed"] else "FAILED")
        if name in evidence["scores"][THIS]:
            assert evidence["scores"][THIS][name]["point"] == ours[name]
    for part in evidence["slices"]:
        heading = f"Slices by {part['column']}"
        assert page.column(heading, "rows")[part["name"]] == str(part["rows"])
        assert page.column(heading, "accuracy")[part["name"]] == f"{part['accuracy']:.4f}"
        assert page.column(heading, "lost against the champion")[part["name"]] == f"{part['lost']:+.4f}"
    assert page.column("Data", "rows") == {name: str(rows) for name, rows in PARTS.items()}
    assert page.rows["Rows quarantined"][1] == ["readings", "june.csv", "hours is below 1", "17"]
    month = {each["month"]: each for each in evidence["months"]}
    assert page.column("Scores by month", "rows") == {name: str(each["rows"]) for name, each in month.items()}
    assert page.column("Scores by month", "groups") == {name: str(each["groups"]) for name, each in month.items()}
    for metric, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1")):
        assert {
            name: re.findall(r"[\d.]+", shown) for name, shown in page.column("Scores by month", metric).items()
        } == {name: [f"{each[key][end]:.4f}" for end in ("point", "lower", "upper")] for name, each in month.items()}
    assert [row[:6] for row in page.rows["Source files"][1:]] == [
        [
            *(str(each[name]) for name in ("table", "file", "sha256", "read", "written")),
            each["ingested_at"][:16].replace("T", " "),
        ]
        for each in evidence["sources"]
    ]
    moved = evidence["drift"]
    values = ["psi", "distance", "limit", "missing", "reference_missing", "unseen", "reference_unseen"]
    assert page.rows["Drift since the last training"][1:] == [
        [
            each["feature"],
            *("-" if each[name] is None else f"{each[name]:.4f}" for name in values),
            ", ".join(each["drifted"]) or "no",
        ]
        for each in moved["features"]
    ]
    assert (
        f"{moved['rows']} rows of the holdout, 250 effective, compared with what version {moved['version']} was trained on: "
        "1 of 2 features are beyond a limit."
    ) in page.texts
    assert evidence["seen"] == 100
    assert any("leave out 100 rows of groups that the champion was trained on" in text for text in page.texts)
    assert page.facts["Parameters"] == evidence["parameters"]
    assert page.facts["Environment"] == evidence["about"]["environment"]
    assert page.facts["Lineage"] == dict(evidence["lineage"])
    assert page.facts["Lineage"]["training run"] == content["candidate_run"]
    verdict = f"{content['status']}: {sum(rule['passed'] for rule in content['rules'])} of {len(content['rules'])}"
    assert f"{verdict} rules passed" in page.texts
    good = all(rule["passed"] for rule in content["rules"])
    assert f'<body class="{"good" if good else "bad"}">' in files["html"]


def test_the_short_form_has_the_same_scores_and_says_where_the_page_is(files: dict[str, str]) -> None:
    """The Markdown, for summaries and logs, has verdict, rules and scores of every model."""
    page = Tables(files["html"])
    for metric, shown in page.column("Scores on the holdout", THIS).items():
        assert f"| {metric} | {shown} |" in files["md"]
    assert files["md"].startswith("# Version 7: promote")
    assert "`gate/3.html`" in files["md"]
    assert "Decision 3 about this version, 2025-09-01T03:30:05Z." in files["md"]


@pytest.mark.slow
def test_a_bar_in_a_name_divides_no_cell_of_the_short_form() -> None:
    """A class with `|` in its name has its score in one row with as many cells as the heading."""
    made, _ = judge(candidate(), champion())
    assert made.evidence is not None
    found = made.evidence.scores[THIS]
    scores = made.evidence.scores | {THIS: found | {"recall of a|b": found["accuracy"]}}
    text = short_form(made, replace(made.evidence, scores=scores))
    (line,) = (line for line in text.splitlines() if "recall of a" in line)
    assert line.startswith(r"| recall of a\|b | 0.")
    assert len(re.split(r"(?<!\\)\|", line)) == 2 + 1 + len(scores)


@pytest.mark.slow
def test_legends_name_every_class_that_is_drawn() -> None:
    """Also one that begins with `_`, which matplotlib takes for a label to be hidden."""
    names = ("_hidden", "_nolegend_", "c")
    about = replace(ABOUT, features=(Feature(name="hours", change=1.0, shap=dict.fromkeys(names, 1.0)),))
    drawn = plots.draw(replace(evidence_of(candidate(classes=names), None), about=about))
    for plot in ("precision and recall by threshold", "SHAP values"):
        assert [name for name in names if f">{name}</text>" in drawn[plot]] == list(names)


@pytest.mark.slow
def test_a_plot_says_how_many_classes_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as many classes as can be told apart are drawn; the legend says how many more there are."""
    found = evidence_of(candidate(), None)
    whole = plots.draw(found)
    monkeypatch.setattr(plots, "MAX_CLASSES", 2)
    drawn = plots.draw(found)
    for plot in ("precision and recall by threshold", "SHAP values"):
        assert ">classes left out: 1</text>" in drawn[plot]
        assert "left out" not in whole[plot]


@pytest.mark.slow
def test_plots_draw_the_numbers_of_the_decision(files: dict[str, str]) -> None:
    """The confusion matrix has the counts, row by row, and the bars the names of the features."""
    found = read_judged(files["json"]).evidence
    assert found is not None
    drawn = plots.draw(found)
    assert list(drawn) == [
        "confusion matrix",
        "calibration",
        "precision and recall by threshold",
        "learning curve",
        "feature importance",
        "SHAP values",
    ]
    placed = re.findall(r'translate\(([\d.]+) ([\d.]+)\)">(\d+)</', drawn["confusion matrix"])
    rows = sorted({float(y) for _, y, _ in placed})
    counts = [
        [int(text) for _, text in sorted((float(x), text) for x, y, text in placed if float(y) == row)] for row in rows
    ]
    assert counts == [list(row) for row in found.confusion]
    for name in ("feature importance", "SHAP values"):
        assert all(f">{feature.name}</text>" in drawn[name] for feature in found.about.features)
    assert "stopped at 2" in drawn["learning curve"]
    assert all(drawn[name] in files["html"] for name in drawn)


@pytest.mark.slow
def test_two_builds_are_the_same_byte_by_byte(files: dict[str, str]) -> None:
    """All files of a decision are the same when they are built again, also from the recorded document."""
    again = judge(candidate(), champion())[1]
    assert again == files
    read = read_judged(files["json"])
    assert read.evidence is not None
    assert {
        name.partition(".")[2]: text for name, text in gate._files(read, read.evidence, CONTRACT)[0].items()
    } == files


@pytest.mark.slow
def test_a_decision_on_record_has_its_page() -> None:
    """The document, which makes a decision one that is on record, is written after its page and everything else."""
    made, _ = judge(candidate(), champion())
    assert made.evidence is not None
    texts, drawn = gate._files(made, made.evidence, CONTRACT)
    assert list(texts) == ["3.html", "3.md", "3.json"]
    assert sorted(drawn) == sorted(f"3/{name.replace(' ', '_')}.svg" for name in plots.draw(made.evidence))


def test_the_page_needs_nothing_else_and_follows_the_colours_of_the_reader(files: dict[str, str]) -> None:
    """No script, no address to load from, no colour that a dark page swallows, and no id twice."""
    page = files["html"]
    addresses = set(re.findall(r"https?://[^\"' ]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, which nobody loads
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert plots.INK not in page
    assert "currentColor" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))


def test_no_group_is_on_the_page(files: dict[str, str]) -> None:
    """Page, document and Markdown have counts of groups, but none of their names."""
    for text in files.values():
        assert str(FIRST_GROUP)[:5] not in text


def test_what_could_not_be_scored_has_a_page_too() -> None:
    """A model that raises is refused, and its page says why, without scores and plots of it."""
    broken = candidate(scores=None, predicted=np.empty(0, dtype=np.intp), probabilities=None, problem="ValueError")
    _, texts = judge(broken, champion(), About(environment={}, unexplained="the model could not be loaded"))
    page = Tables(texts["html"])
    assert page.facts["machine_condition, version 7"]["refused because of"]
    assert page.column("Rules of the gate", "verdict")["rows scored"] == "FAILED"
    assert "the model could not be loaded" in texts["html"]
    assert json.loads(texts["json"])["evidence"]["confusion"] == []


@pytest.mark.slow
def test_failed_rules_come_first() -> None:
    """The reader of a refusal sees why before anything else, and the page has its colour."""
    _, texts = judge(candidate(row_p95_ms=99.0), champion())
    assert '<body class="bad">' in texts["html"]
    page = Tables(texts["html"])
    assert page.rows["Rules of the gate"][1][0] == "one row, p95 in ms"
    assert "99 is above its limit 40" in page.facts["machine_condition, version 7"]["refused because of"]


@pytest.mark.slow
def test_slices_are_those_that_the_rules_judge() -> None:
    """The lowest accuracy and the largest loss of a column are the values of the rules about it."""
    made, _ = judge(candidate(), champion())
    assert made.evidence is not None
    values = {rule.name: rule.value for rule in made.decision.rules}
    for column in dict.fromkeys(each.column for each in made.evidence.slices):
        found = [each for each in made.evidence.slices if each.column == column]
        assert min(each.accuracy for each in found) == pytest.approx(values[f"accuracy of the worst {column}"])
        lost = values[f"accuracy lost in the worst {column}, against the champion"]
        assert max(each.lost for each in found if each.lost is not None) == pytest.approx(lost)


def test_a_page_shows_the_worst_slices() -> None:
    """Of more than it has room for, those with the lowest accuracy, the worst first; it says how many it leaves out."""
    evidence = evidence_of(candidate(), champion())
    slices = tuple(
        SliceScore(column="maker", name=f"{number}", rows=99, accuracy=number / 100, judged=True, lost=None)
        for number in reversed(range(SHOWN_SLICES + 4))
    )
    judged = Judged(number=1, decided_at=DECIDED, decision=decide(candidate(), champion(), policy()), evidence=evidence)
    page = evidence_page(judged, replace(evidence, slices=slices), {}, "m")
    [section] = [each for each in page.sections if each.title == "Slices by maker"]
    assert [row.cells[0] for row in section.rows] == [f"{number}" for number in range(SHOWN_SLICES)]
    assert "Better ones left out: 4." in section.note


def test_curves_are_those_of_scikit_learn() -> None:
    """Confusion matrix, precision and recall by threshold are scikit-learn's; the bins sum up to the calibration error."""
    one = candidate()
    found = evidence_of(one, None)
    assert found.confusion == tuple(map(tuple, confusion_matrix(one.truth, one.predicted).tolist()))
    assert one.probabilities is not None
    assert one.scores is not None
    for index, name in enumerate(CLASSES):
        for place in (3, 9, 14):
            chosen = one.probabilities[:, index] >= found.thresholds[place]
            precision = found.precision[name][place]
            if chosen.any():
                assert precision == pytest.approx(precision_score(one.truth == index, chosen))
            else:
                assert precision is None
            assert found.recall[name][place] == pytest.approx(recall_score(one.truth == index, chosen))
    gaps = sum(each.rows * abs(each.confidence - each.accuracy) for each in found.calibration)
    assert gaps / found.rows == pytest.approx(one.scores.ece)


@pytest.mark.slow
def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 samples of a model of known accuracy, about the stated share has it within the interval; groups count once."""
    random, covered = np.random.default_rng(3), 0
    for _ in range(200):
        hit = np.repeat(random.random(150) < 0.8, 4)  # the rows of a group are right or wrong together
        truth = random.integers(3, size=600)
        found = intervals(truth, np.where(hit, truth, (truth + 1) % 3), np.arange(600) // 4, classes=3)
        assert found[0].point == pytest.approx(hit.mean())
        assert found[0].lower is not None
        assert found[0].upper is not None
        covered += found[0].lower <= 0.8 <= found[0].upper
    assert covered / 200 == pytest.approx(CONFIDENCE, abs=0.04)


def test_a_page_that_fails_is_no_verdict() -> None:
    """It is an error that names the reason, and not a refusal of the model."""
    with (
        pytest.raises(
            CtcdError, match="version 7: the evidence of the decision cannot be written: ZeroDivision"
        ) as found,
        gate._written("7"),
    ):
        raise ZeroDivisionError
    assert found.value.exit_code == 1


@pytest.mark.slow
def test_two_versions_are_compared_line_by_line(files: dict[str, str]) -> None:
    """Each line has what the page of either version says; versions with other rows are said not to be comparable."""
    first = read_judged(files["json"])
    other, texts = judge(champion(holdout="1" * 64))
    found = compare(first, read_judged(texts["json"]))
    assert (found.versions, found.same_rows) == (("7", "6"), False)
    assert "says nothing" in found.note
    assert compare(first, first).same_rows
    lines = {(line.part, line.what): line.values for line in found.lines}
    both = [Tables(each["html"]).column("Scores on the holdout", THIS) for each in (files, texts)]
    for metric in both[0]:
        assert lines["scores", metric] == (both[0][metric], both[1][metric])
    assert lines["decision", "verdict"] == (first.decision.status, other.decision.status)
    assert lines["parameters", "depth"] == ("6", "6")
    page = render(comparison_page(found, (first, other), CONTRACT.name))
    assert page.count("<svg") == 12
    assert Tables(page).column("Scores", "version 6")["accuracy"] == both[1]["accuracy"]


def test_a_decision_of_an_earlier_release_can_be_compared(files: dict[str, str]) -> None:
    """It has no evidence: its verdict is shown, and the rest is left empty."""
    content = json.loads(files["json"])
    del content["evidence"]
    old = read_judged(json.dumps(content))
    lines = {(line.part, line.what): line.values for line in compare(old, read_judged(files["json"])).lines}
    assert lines["decision", "verdict"] == ("promote", "promote")
    assert lines["scores", "accuracy"][0] == "-"
    assert comparison_page(compare(old, old), (old, old), CONTRACT.name).sections


def test_the_lineage_names_what_is_known_and_what_is_not() -> None:
    """From the files to the image: a version that was released before has its image's digest."""
    steps = dict(evidence_of(candidate(), None).lineage)
    assert list(steps) == ["source files", "feature store", "snapshot", "contract", "source", "training run", "model version", "image", "deployed"]  # fmt: skip
    assert steps["source files"] == f"june.csv ({'2' * 12}), may.csv ({'1' * 12})"
    assert steps["snapshot"] == f"{CONTRACT.snapshot_table} of {date.isoformat(DAY)}, data {'d' * 64}"
    assert "none had been released" in steps["image"]
    assert steps["deployed"] == "not when this was decided"
    released = RegisteredVersion(
        model_name=CONTRACT.name, version="7", run_id="r", aliases=(), created_at="", tags={IMAGE: "sha256:1"}, uri=""
    )
    found = dict(evidence_of(candidate(), None, version=released, deployed=("model:abc", "sha256:1")).lineage)
    assert (found["image"], found["deployed"]) == ("sha256:1", "model:abc, sha256:1")
    old = dict(evidence_of(candidate(), None, report=report(sources=SOURCES * 3)).lineage)["source files"]
    assert old.endswith(", and 1 that were ingested before")
    assert (
        dict(evidence_of(candidate(), None, report=report(sources=())).lineage)["source files"] == "none is on record"
    )


@pytest.mark.slow
def test_scores_by_month_are_those_of_the_rows_of_the_month() -> None:
    """Each with its interval, the oldest first; a month that lacks a class has an accuracy only."""
    one = candidate()
    found = evidence_of(one, None)
    assert [each.month for each in found.months] == ["2025-06", "2025-07", "2025-08"]
    assert found.undated == ""
    for each, rows in zip(found.months, (slice(400, 600), slice(200, 400), slice(200)), strict=True):
        truth, predicted = one.truth[rows], one.predicted[rows]
        assert (each.rows, each.groups) == (200, len(set(one.groups[rows])))
        assert each.macro_f1 is not None
        assert each.accuracy.point == pytest.approx((truth == predicted).mean())
        assert each.macro_f1.point == pytest.approx(f1_score(truth, predicted, average="macro"))
        for score in (each.accuracy, each.macro_f1):
            assert score.lower is not None
            assert score.upper is not None
            assert score.lower < score.point < score.upper
    july = np.arange(600) // 200 == 1
    without = candidate(truth=np.where(july & (one.truth == 2), 0, one.truth))
    made, texts = judge(without)
    assert made.evidence is not None
    assert [each.macro_f1 is None for each in made.evidence.months] == [False, True, False]
    assert Tables(texts["html"]).column("Scores by month", "macro F1")["2025-07"] == "-"


@pytest.mark.slow
def test_a_page_without_months_says_why(tmp_path: Path) -> None:
    """There are none without an event date, and of a snapshot of an earlier release."""
    timeless = write_instance(NAMED, tmp_path / "named").contract
    before, unscored = dated().drop(columns="day"), candidate(probabilities=None, scores=None)
    for one, changes, why in (
        (candidate(), {"contract": timeless}, "the contract has no event date"),
        (candidate(), {"holdout": before}, "the snapshot was taken by a release that kept no dates"),
        (unscored, {}, "the version could not be scored"),
    ):
        found = evidence_of(one, None, **changes)
        assert (found.months, found.undated) == ((), why)
        made = Judged(number=1, decided_at=DECIDED, decision=decide(one, None, policy()), evidence=found)
        assert f"Not known: {why}." in render(evidence_page(made, found, {}, "x"))


def test_rows_without_a_date_are_in_no_month() -> None:
    """The page says how many of them there are."""
    rows = dated()
    rows.iloc[:7, 0] = pd.NaT
    found = evidence_of(candidate(), None, holdout=rows)
    assert [each.rows for each in found.months] == [200, 200, 193]
    assert found.undated == "7 rows of a release that kept no dates"


def test_a_decision_of_before_there_were_months_has_a_page(files: dict[str, str]) -> None:
    """What an earlier release did not record is said not to be known."""
    content = json.loads(files["json"])
    for name in ("sources", "drift", "months", "undated"):
        del content["evidence"][name]
    old = read_judged(json.dumps(content))
    assert old.evidence is not None
    page = render(evidence_page(old, old.evidence, {}, "x"))
    assert "Not compared: an earlier release decided this." in page
    assert "Not known: an earlier release decided this." in page


@pytest.mark.slow
def test_a_name_is_shown_as_it_is_and_is_no_markup() -> None:
    """Classes, features and slices may have any characters: they are neither formulas nor HTML, and fail no decision."""
    odd = "<b>$x_1$ & 50%</b>"
    one = candidate(
        classes=(odd, *CLASSES[1:]), slices=tuple(replace(each, names=(odd, "|")) for each in candidate().slices)
    )
    about = replace(ABOUT, features=(Feature(name=odd, change=1.0, shap=dict.fromkeys(one.classes, 1.0)),))
    found = replace(evidence_of(one, None), about=about, parts={})
    for drawn in plots.draw(found).values():
        ElementTree.fromstring(drawn)  # noqa: S314 - made here
        assert "<b>" not in drawn
    assert odd in "".join(ElementTree.fromstring(plots.draw(found)["confusion matrix"]).itertext())  # noqa: S314 - as above
    made = Judged(number=1, decided_at=DECIDED, decision=decide(one, None, policy()), evidence=found)
    page = render(evidence_page(made, found, plots.draw(found), odd))
    assert "<b>" not in page
    assert odd in "".join(Tables(page).texts)


@pytest.mark.slow
def test_few_names_of_many_fit_into_a_plot() -> None:
    """A model of forty features has the most important ones in its plots, and all in the document."""
    many = tuple(Feature(name=f"f{i}", change=40.0 - i, shap=dict.fromkeys(CLASSES, 1.0)) for i in range(40))
    drawn = plots.draw(replace(evidence_of(candidate(), None), about=replace(ABOUT, features=many)))
    assert ">f11</text>" in drawn["feature importance"]
    assert ">f12</text>" not in drawn["feature importance"]
