"""Rules about the source itself: what makes the repository a template."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.instance import CONTRACT

from ctcd.contract.spec import names

ROOT = Path(__file__).parents[2]
EXAMPLE_NAMES = {
    *names(CONTRACT.feature_columns),
    *names(CONTRACT.label_columns),
    *(category for column in CONTRACT.model_inputs for category in column.categories or ()),
    *CONTRACT.classes,
} - {
    CONTRACT.key.name,  # "id" and "date" are words, and "Yes", "No", "Good", "Bad" are too
    CONTRACT.event_date.name,
    "name",
    CONTRACT.name,
    "Yes",
    "No",
    "Good",
    "Bad",
    "Standard",
}


SOURCES = sorted(path for folder in ("src", "dags", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def strings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def mentions(source: str) -> list[tuple[int, str]]:
    """Return where a column is named: in a string, a part of SQL say, or as an identifier that is no everyday word."""
    found = [
        (line, name)
        for line, text in strings(source)
        for name in EXAMPLE_NAMES
        if name == text or (" " in text and f" {name} " in f" {text} " and "_" in name)
    ]
    return found + [(line, word) for line, word in identifiers(source) if word in EXAMPLE_NAMES and "_" in word]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_column_of_the_example_is_named_outside_the_contract(path: Path) -> None:
    """Code takes every column name from the contract, so that replacing the contract replaces the example."""
    assert mentions(path.read_text()) == []


def test_a_named_column_is_found() -> None:
    """The rule above notices a column that is named in a string, as an attribute or inside SQL."""
    for source in ("frame['grade']", "frame.grade", "text('select grade from t')"):
        assert mentions(source) == [(1, "grade")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_settings_read_the_environment(path: Path) -> None:
    """No module but settings.py reads an environment variable."""
    if path.name == "settings.py" and path.parent.name == "condition":
        return
    reads = [word for _, word in identifiers(path.read_text()) if word in ("getenv", "environ", "environb")]
    assert reads == []
