"""A change of the contract is classified as what it does to producers and consumers."""

import copy
from collections.abc import Callable

import pytest
from support.instance import CONTRACT, PAYLOAD

from ctcd.derived.canonical import Document, canonical
from ctcd.derived.diff import CONSUMERS, PRODUCERS, Change, Step, compare, to_markdown, version_step
from ctcd.errors import UsageError

BASE = canonical(CONTRACT, PAYLOAD.prediction)

Edit = Callable[[Document], object]


def edited(edit: Edit, version: str = BASE["version"]) -> Document:
    document = copy.deepcopy(BASE)
    edit(document)
    document["version"] = version
    return document


def put(*path: str, value: object) -> Edit:
    def edit(document: Document) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return edit


def new_column(*, nullable: bool) -> Edit:
    return lambda doc: doc["features"].update(tenure={**doc["features"]["vibration"], "nullable": nullable})


BREAKING: dict[str, tuple[Edit, tuple[str, ...]]] = {
    "a removed column": (lambda doc: doc["features"].pop("vibration"), (PRODUCERS, CONSUMERS)),
    "a lowered maximum": (put("features", "hours", "maximum", value=99), (PRODUCERS,)),
    "a raised minimum": (put("features", "hours", "minimum", value=18), (PRODUCERS,)),
    "a new maximum": (put("features", "maker", "max_length", value=10), (PRODUCERS,)),
    "a removed category": (put("features", "grade", "categories", value=["High", "Low"]), (PRODUCERS,)),
    "a closed set": (put("features", "maker", "categories", value=["Acme"]), (PRODUCERS,)),
    "a removed list entry": (put("features", "parts", "entries", value=["bearing"]), (PRODUCERS,)),
    "a newly required field": (put("features", "shift", "nullable", value=False), (PRODUCERS,)),
    "a new required field": (new_column(nullable=False), (PRODUCERS,)),
    "a field that may now be missing": (put("features", "hours", "nullable", value=True), (CONSUMERS,)),
    "another unit": (put("features", "power", "unit", value="kUSD/year"), (PRODUCERS, CONSUMERS)),
    "codes that are no longer text": (put("features", "grade", "written", value="integer"), (PRODUCERS, CONSUMERS)),
    "another type": (put("features", "hours", "kind", value="number"), (PRODUCERS, CONSUMERS)),
    "personal data in a feature": (put("features", "operator", "role", value="feature"), (PRODUCERS, CONSUMERS)),
    "another pattern": (put("features", "maker", "pattern", value="[A-Z]+"), (PRODUCERS,)),
    "a new class": (
        put("labels", "condition", "categories", value=["failing", "worn", "sound", "new"]),
        (CONSUMERS,),
    ),
    "classes in another order": (
        put("labels", "condition", "categories", value=["worn", "failing", "sound"]),
        (CONSUMERS,),
    ),
    "a new row rule": (
        lambda doc: doc["row_rules"].update(adult={"meaning": "grown up", "logic": "0"}),
        (PRODUCERS,),
    ),
    "a changed row rule": (put("row_rules", "one_entry_per_part", "logic", value="0"), (PRODUCERS,)),
    "a renamed table": (put("tables", "features_table", value="features"), (PRODUCERS, CONSUMERS)),
    "another key": (put("keys", value=["reading"]), (PRODUCERS, CONSUMERS)),
    "less quarantine": (put("max_quarantine_share", value=0.001), (PRODUCERS,)),
    "a dropped response field": (lambda doc: doc["response"].pop("confidence"), (CONSUMERS,)),
    "a response field of another type": (put("response", "confidence", "type", value="string"), (CONSUMERS,)),
    "a response field that may be left out": (put("response", "predict", "required", value=False), (CONSUMERS,)),
}

COMPATIBLE: dict[str, tuple[Edit, Step]] = {
    "a new optional field": (new_column(nullable=True), Step.MINOR),
    "a widened maximum": (put("features", "hours", "maximum", value=30_000), Step.MINOR),
    "a widened minimum": (put("features", "hours", "minimum", value=0), Step.MINOR),
    "a dropped maximum": (put("features", "hours", "maximum", value=None), Step.MINOR),
    "a new category": (
        put("features", "grade", "categories", value=["High", "Fair", "Low", "None"]),
        Step.MINOR,
    ),
    "an opened set": (put("features", "grade", "categories", value=None), Step.MINOR),
    "a dropped pattern": (put("features", "maker", "pattern", value=None), Step.MINOR),
    "a dropped row rule": (lambda doc: doc["row_rules"].pop("one_entry_per_part"), Step.MINOR),
    "more quarantine": (put("max_quarantine_share", value=0.05), Step.MINOR),
    "a new response field": (
        lambda doc: doc["response"].update(note={"type": "string", "required": False}),
        Step.MINOR,
    ),
    "other words": (put("features", "hours", "meaning", value="full hours in operation"), Step.PATCH),
    "other words for a row rule": (put("row_rules", "one_entry_per_part", "meaning", value="as many"), Step.PATCH),
    "categories in another order": (
        put("features", "grade", "categories", value=["Low", "Fair", "High"]),
        Step.PATCH,
    ),
}


@pytest.mark.parametrize(("edit", "breaks"), BREAKING.values(), ids=BREAKING)
def test_a_breaking_change_requires_a_major_step_and_names_whom_it_breaks(edit: Edit, breaks: tuple[str, ...]) -> None:
    """A breaking change is refused without a major step and accepted with one."""
    comparison = compare(BASE, edited(edit, "1.1.0"))
    assert comparison.demanded is Step.MAJOR
    assert comparison.changes[0].breaks == breaks
    assert not comparison.accepted
    assert compare(BASE, edited(edit, "2.0.0")).accepted


@pytest.mark.parametrize(("edit", "step"), COMPATIBLE.values(), ids=COMPATIBLE)
def test_a_compatible_change_requires_a_smaller_step(edit: Edit, step: Step) -> None:
    """A compatible change requires a minor or patch step and no more."""
    comparison = compare(BASE, edited(edit))
    assert [(change.step, change.breaks) for change in comparison.changes] == [(step, ())]
    assert not comparison.accepted
    assert compare(BASE, edited(edit, {Step.MINOR: "1.1.0", Step.PATCH: "1.0.1"}[step])).accepted


@pytest.mark.slow
def test_every_leaf_of_the_document_is_compared() -> None:
    """No part of the locked document can change without a change being reported."""

    def leaves(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if isinstance(value, dict):
            return [leaf for key, part in value.items() for leaf in leaves(part, (*path, key))]
        return [path]

    for path in leaves(BASE):
        if path in (("version",), ("format",)):
            continue
        value: object = BASE
        for part in path:
            value = value[part]  # type: ignore[index] # a path of a JSON document
        other: object = [*value, "new"] if isinstance(value, list) else f"{value}x"
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, (int, float)):
            other = value + 1
        elif value is None and path[-1] in ("categories", "entries"):
            other = ["new"]
        elif value is None:
            other = 5
        assert compare(BASE, edited(put(*path, value=other))).changes, path


def test_no_change_requires_no_step() -> None:
    """The same contract compares as unchanged."""
    comparison = compare(BASE, BASE)
    assert comparison.changes == ()
    assert comparison.accepted


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.2.0", "1.1.9", "contract: version 1.1.9 is behind 1.2.0 (a version may only increase)"),
        ("1.0.0", "1.0", "contract: version '1.0' is not MAJOR.MINOR.PATCH"),
        ("1.0.0", "one", "contract: version 'one' is not MAJOR.MINOR.PATCH"),
    ],
)
def test_a_version_that_decreases_or_is_malformed_is_refused(old: str, new: str, message: str) -> None:
    """A version is three numbers and may only increase."""
    with pytest.raises(UsageError) as refused:
        version_step(old, new)
    assert str(refused.value) == message


def test_a_document_of_another_layout_is_refused() -> None:
    """Two layouts are never compared field by field."""
    with pytest.raises(UsageError, match="layout"):
        compare({**BASE, "format": 0}, BASE)


def test_the_report_shows_every_change_with_the_worst_first() -> None:
    """As Markdown: a table that a bar in a text cannot break, and the verdict."""

    def edit(document: Document) -> None:
        put("features", "hours", "meaning", value="hours | full")(document)
        put("features", "maker", "pattern", value=None)(document)
        document["features"].pop("vibration")
        document["response"].pop("confidence")

    assert to_markdown(compare(BASE, edited(edit, "1.1.0"))).splitlines() == [
        f"### Contract {BASE['version']} to 1.1.0",
        "",
        "| change | where | what | breaks |",
        "| --- | --- | --- | --- |",
        "| breaking | features.vibration | removed | producers, consumers |",
        "| breaking | response.confidence | removed | consumers |",
        "| compatible | features.maker.pattern | dropped | nobody |",
        "| compatible | features.hours.meaning | reworded to 'hours \\| full' | nobody |",
        "",
        "**refused: the changes require a major step of the version; it made a minor step**",
    ]


def test_the_report_on_nothing_is_the_verdict() -> None:
    """Two equal contracts give the verdict and no table."""
    version = BASE["version"]
    assert to_markdown(compare(BASE, BASE)) == f"### Contract {version} to {version}\n\n**the contract is unchanged**"


@pytest.mark.parametrize(
    ("edit", "change"),
    [
        (
            put("features", "grade", "categories", value=["High", "New"]),
            Change("features.grade.categories", "removed Fair, Low", Step.MAJOR, (PRODUCERS,)),
        ),
        (
            put("features", "grade", "written", value="integer"),
            Change("features.grade.written", "changed from 'text' to 'integer'", Step.MAJOR, (PRODUCERS, CONSUMERS)),
        ),
        (put("max_quarantine_share", value=None), Change("max_quarantine_share", "{was} dropped", Step.MINOR)),
        (
            put("features", "maker", "maximum", value=5),
            Change("features.maker.maximum", "5 added", Step.MAJOR, (PRODUCERS,)),
        ),
        (
            lambda doc: doc["response"].update(note={"type": "string", "required": True}),
            Change("response.note", "added", Step.MINOR),
        ),
    ],
)
def test_a_change_is_reported_with_its_values(edit: Edit, change: Change) -> None:
    """A change has its path, description, required version step and whom it breaks."""
    expected = Change(change.where, change.what.format(was=BASE["max_quarantine_share"]), change.step, change.breaks)
    assert expected in compare(BASE, edited(edit)).changes


def test_a_refused_document_names_its_layout_and_the_wanted_one() -> None:
    """The refusal to compare with an old revision gives the reason."""
    with pytest.raises(UsageError, match=r"layout 0 is not \d") as refused:
        compare({**BASE, "format": 0}, BASE)
    assert refused.value.where == "contract document"


def test_another_kind_is_reported_once() -> None:
    """A whole number that becomes a code is written as before: only its kind changed."""
    codes = {**BASE["features"]["hours"], "kind": "category", "written": "integer"}
    found = compare(BASE, edited(put("features", "hours", value=codes)))
    assert [change.where for change in found.changes] == ["features.hours.kind"]
