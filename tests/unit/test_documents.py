"""README and docs name only what exists, and the README tells every verb and exit code."""

import re
from pathlib import Path

import pytest
import typer

from ctcd.cli.app import app
from ctcd.errors import CtcdError

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = {
    target
    for makefile in (ROOT / "Makefile", *(ROOT / "make").glob("*.mk"))
    for target in re.findall(r"^([a-z][a-z-]*):", makefile.read_text(), flags=re.MULTILINE)
}


def shown(document: Path) -> str:
    """Return what a document shows as code: its spans, and its indented lines."""
    return "\n".join(map("".join, re.findall(r"`([^`\n]+)`|^ {4}(.+)$", document.read_text(), flags=re.MULTILINE)))


def commands(command: object) -> dict[str, object]:
    """Return a command's own commands by name; a verb without any has none."""
    return dict(getattr(command, "commands", {}))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_a_document_names_targets_and_verbs_that_exist(document: Path) -> None:
    """A command that a reader copies is there."""
    text = shown(document)
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", text)) <= TARGETS
    verbs = commands(typer.main.get_command(app))
    for verb, below in re.findall(r"\bctcd ([a-z]+)(?: ([a-z]+))?", text):
        assert verb in verbs
        assert not below or not commands(verbs[verb]) or below in commands(verbs[verb])


def test_the_readme_tells_every_verb() -> None:
    """Nothing that the command line can do is left for --help to reveal."""
    told = re.findall(r"^\| (`.+?) \|", README.read_text(), flags=re.MULTILINE)
    verbs = {match for cell in told for match in re.findall(r"`([a-z]+)\b", cell)}
    assert set(commands(typer.main.get_command(app))) <= verbs


def test_the_readme_tells_every_exit_code() -> None:
    """Whoever scripts a verb finds what its exit code means."""
    told = set(re.findall(r"^\| (\d+) \|", README.read_text(), flags=re.MULTILINE))
    assert {str(error.exit_code) for error in CtcdError.__subclasses__()} <= told
