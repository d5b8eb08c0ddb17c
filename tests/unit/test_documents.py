"""README and docs name only what exists, the reference lists everything that exists, and every link resolves."""

import re
import subprocess
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from ctcd.cli.app import COMMANDS, load
from ctcd.contract.instance import load_instance
from ctcd.derived.synthetic import generate
from ctcd.errors import CtcdError
from ctcd.promotion.policy import load_policy
from ctcd.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "commands.md"
ADOPTED = (ROOT / ".copier-answers.yml").exists()
"""Whether this repository is made from the template: then README, SECURITY and CHANGELOG are its adopter's."""
DOCUMENTS = sorted([*ROOT.glob("CONTRIBUTING.md" if ADOPTED else "*.md"), *DOCS.glob("*.md")])
CURRENT = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
"""All but the changelog, which also names what is gone."""
WIDTH = 120
GLOSSARY = {
    *("base date", "candidate", "challenger", "champion", "contract", "data monitor", "dead letter", "engine"),
    *(
        "feature store",
        "finding",
        "floor",
        "gate",
        "group",
        "holdout",
        "injected error",
        "instance",
        "lock",
        "outbox",
        "payload",
    ),
    *("planted defect", "policy", "probe", "profile", "quarantine", "rollback", "slice", "snapshot", "stage", "trial"),
}
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
"""Environment variables, with the one that only the tests read."""
TARGETS = {
    target
    for makefile in (ROOT / "Makefile", *(ROOT / "make").glob("*.mk"))
    for target in re.findall(r"^([a-z][a-z-]*):", makefile.read_text(), flags=re.MULTILINE)
}
METRICS = {
    name
    for module in (ROOT / "src" / "ctcd" / "serving").rglob("*.py")
    for name in re.findall(r'"(ctcd_[a-z_]+)"', module.read_text())
}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
each_current_document = pytest.mark.parametrize("document", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))


def code(text: str) -> str:
    """Return what a document shows as code: its spans, its indented lines, and the lines of its fenced blocks."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line)
        else:
            lines += re.findall(r"`([^`]+)`", line)
    return "\n".join(lines)


def prose(text: str) -> list[tuple[int, str]]:
    """Return the lines of a document with their numbers, without fenced blocks."""
    lines, fenced = [], False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append((number, line))
    return lines


@cache
def all_commands() -> dict[str, frozenset[str]]:
    """Return every command as it is typed, such as `contract lock`, with its options."""
    found = {}
    for name in COMMANDS:
        loaded = load(name)
        for below, command in (getattr(loaded, "commands", None) or {"": loaded}).items():
            options = {option for parameter in command.params for option in parameter.opts}
            found[f"{name} {below}".strip()] = frozenset(options | {"--help"})
    return found


def unknown_calls(shown: str) -> list[str]:
    """Return the calls of `ctcd` in code whose command does not exist, or does not have an option."""
    found = []
    for name, below, rest in re.findall(r"(?<![-\w/.])(?:\.venv/bin/)?ctcd ([a-z]+)(?: ([a-z]+))?([^\n|]*)", shown):
        known = next((each for each in (f"{name} {below}", name) if each in all_commands()), None)
        if known is None and (below or not any(each.startswith(f"{name} ") for each in all_commands())):
            found.append(f"ctcd {name} {below}".strip())
        elif known is not None:
            options = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.partition(" #")[0])
            found += [f"ctcd {known} {option}" for option in options if option not in all_commands()[known]]
    return found


def unknown_names(text: str) -> list[str]:
    """Return the commands, make targets, settings and metrics that a document shows and that do not exist."""
    shown = code(text)
    found = [f"make {target}" for target in re.findall(r"\bmake ([a-z][a-z-]*)", shown) if target not in TARGETS]
    found += unknown_calls(shown.replace("\\\n", " "))
    found += [name for name in re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", text) if name not in SETTINGS]
    metrics = (re.sub(r"_(total|bucket|sum|count)$", "", name) for name in re.findall(r"\bctcd_[a-z_]+", shown))
    return found + [name for name in metrics if name not in METRICS]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = [line.lstrip("#").strip() for _, line in prose(text) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path, text: str) -> list[str]:
    """Return the relative links and anchors of a document that lead nowhere."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(line for _, line in prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve()
        if (path and not file.exists()) or (anchor and anchor not in anchors(file.read_text() if path else text)):
            found.append(target)
    return found


def long_lines(text: str) -> list[int]:
    """Return the numbers of lines of prose that are too long; rows of tables may be longer."""
    return [number for number, line in prose(text) if len(line) > WIDTH and not line.lstrip().startswith("|")]


def tracked_files() -> Iterator[Path]:
    """Yield the text files outside `docs` that may refer to a page."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607 - git of the PATH
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.is_file() and not name.startswith(("docs/", "tests/", "CHANGELOG.md")) and file.suffix != ".png":
            yield file


@each_current_document
def test_a_document_shows_only_what_exists(document: Path) -> None:
    """A command, make target, setting or metric that a reader copies exists."""
    assert unknown_names(document.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        *("    make nothing", "`make nothing`", "```\nmake nothing\n```", "`ctcd nothing`", "`ctcd contract nothing`"),
        *("    .venv/bin/ctcd nothing", "`ctcd train --nothing`", "    ctcd train \\\n      --nothing"),
        *("CTCD_NOTHING", "`ctcd_nothing_total`"),
    ],
)
def test_an_unknown_name_is_found(text: str) -> None:
    """The rule above notices what does not exist, wherever it is shown."""
    assert len(unknown_names(text)) == 1


def test_the_reference_lists_exactly_the_commands_that_exist() -> None:
    """A reader of the table finds every command, each in a row of its own or with its siblings, and no other."""
    cells = re.findall(r"^\| (`ctcd .+?`) \|", REFERENCE.read_text(), flags=re.MULTILINE)
    listed = [match for cell in cells for match in re.findall(r"`ctcd ([a-z ]+)`", cell)]
    assert sorted(listed) == sorted(all_commands())


def test_the_reference_explains_every_exit_code() -> None:
    """Whoever scripts a command finds the meaning of its exit code."""
    explained = re.findall(r"^\| (\d+) \|", REFERENCE.read_text(), flags=re.MULTILINE)
    assert {str(error.exit_code) for error in CtcdError.__subclasses__()} <= set(explained)
    assert len(explained) == len(set(explained))


def test_the_readme_shows_the_two_commands_to_begin_with() -> None:
    """A newcomer finds the demo and the tests on the first page."""
    shown = re.findall(r"^    make ([a-z]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert shown[:2] == ["demo", "test"] or ADOPTED


@each_document
def test_every_link_of_a_document_resolves(document: Path) -> None:
    """A relative link leads to a file, and its anchor to a heading."""
    assert broken_links(document, document.read_text()) == []


def test_a_broken_link_is_found() -> None:
    """The rule above notices a missing file, a missing anchor of another page, and one of the same page."""
    page = DOCS / "page.md"
    text = "# A heading\n[a](none.md) [b](glossary.md#none) [c](#none) [d](#a-heading) [e](https://example.org/x)"
    assert broken_links(page, text) == ["none.md", "glossary.md#none", "#none"]


@each_document
def test_lines_of_a_document_are_wrapped(document: Path) -> None:
    """A reader of the source, or of a diff, sees whole lines."""
    assert long_lines(document.read_text()) == []


def test_a_long_line_is_found() -> None:
    """The rule above counts prose and indented code, but neither tables nor fenced blocks."""
    long = "x" * (WIDTH + 1)
    assert long_lines(f"{long}\n    {long}\n| {long} |\n```\n{long}\n```\nshort") == [1, 2]


def uncopyable(text: str) -> list[str]:
    """Return the commands that have something behind them that is no comment, such as the time that they took."""
    return re.findall(r"^    \$ \S(?:.*\S)? {3,}(?!\\$)[^#\s].*$", text, flags=re.MULTILINE)


@each_current_document
def test_a_shown_command_can_be_copied(document: Path) -> None:
    """A remark behind a command is a comment, so that a shell does not take it for arguments."""
    assert uncopyable(document.read_text()) == []


def test_a_remark_behind_a_command_is_found() -> None:
    """The rule above notices a remark that is no comment."""
    text = "    $ ctcd models      5 s\n    $ ctcd models      # 5 s\n    $ ctcd models  # 5 s\n    │ a      5 s │"
    assert uncopyable(text) == ["    $ ctcd models      5 s"]


@each_current_document
def test_times_are_shown_as_commands_print_them(document: Path) -> None:
    """A command prints times with seconds, and takes them as it prints them; an output without is older than that."""
    assert re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", document.read_text()) == []


def test_the_index_lists_every_page() -> None:
    """A page that the index does not list is not found."""
    linked = re.findall(r"\]\(([a-z-]+\.md)\)", (DOCS / "README.md").read_text())
    assert sorted(linked) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")


def test_the_glossary_defines_the_terms_that_matter() -> None:
    """Each term is a heading with a definition below it, in alphabetical order."""
    entries = re.findall(r"^### (.+)\n\n(?!#)\S", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE)
    headings = re.findall(r"^### (.+)$", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE)
    assert set(entries) >= GLOSSARY
    assert entries == headings == sorted(headings, key=str.lower)


def test_the_contract_of_the_guide_works(tmp_path: Path) -> None:
    """A reader who copies the guide's files gets an instance that loads, whose policy fits, and that can be simulated."""
    guide = (DOCS / "your-own-model.md").read_text()
    for title, name in (("## 1.", "features.py"), ("## 2.", "payload.py")):
        section = guide[guide.index(title) :]
        (tmp_path / name).write_text(re.findall(r"^```python\n(.+?)^```", section, flags=re.MULTILINE | re.DOTALL)[0])
    policy = (ROOT / "tests" / "instance" / "promotion.toml").read_text()
    changes = re.findall(r"^```toml\n(.+?)^```", guide, flags=re.MULTILINE | re.DOTALL)[0]
    for section in re.findall(r"^\[.+?(?=^\[|\Z)", changes, flags=re.MULTILINE | re.DOTALL):
        header = re.escape(section.partition("\n")[0])
        policy = re.sub(rf"^{header}\n.+?(?=^\[|\Z)", section, policy, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "promotion.toml").write_text(policy)
    instance = load_instance(tmp_path)
    load_policy(instance)
    (row,) = instance.payload.row.model_json_schema()["examples"]
    instance.payload.row.model_validate(row)
    tables = generate(instance.contract, rows=200, seed=1, end=date(2025, 8, 31))
    assert set(tables.labels[instance.contract.label.name]) >= set(instance.contract.classes)


@pytest.mark.slow
def test_code_refers_to_pages_that_exist() -> None:
    """A page that a comment, a message or a workflow names exists."""
    missing = {
        f"{file.relative_to(ROOT)}: {page}"
        for file in tracked_files()
        for page in re.findall(r"\bdocs/[\w-]+\.md\b", file.read_text(errors="ignore"))
        if not (ROOT / page).is_file()
    }
    assert missing == set()


def test_images_of_documents_are_small() -> None:
    """A clone does not carry large images."""
    large = {image.name: image.stat().st_size for image in DOCS.iterdir() if image.suffix in {".png", ".svg"}}
    assert large
    assert max(large.values()) < 300_000
