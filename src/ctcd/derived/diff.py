"""Comparing two revisions of a contract: every change, whom it breaks, and the version step that it requires."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ctcd import markdown
from ctcd.derived.canonical import FORMAT, Document
from ctcd.errors import UsageError

PRODUCERS = "producers"
"""Systems that fill the tables or send requests."""
CONSUMERS = "consumers"
"""Systems that read the tables or the responses, including the model."""

HEADINGS = ("change", "where", "what", "breaks")


class Step(IntEnum):
    """A step of a semantic version, ordered by size."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True)
class Change:
    """One difference between two revisions.

    Args:
        where: path of the changed part, such as `features.<column>.maximum`.
        step: version step that the change requires; MAJOR means a breaking change.
        breaks: who breaks: producers, consumers, both or neither.
    """

    where: str
    what: str
    step: Step
    breaks: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """Return the change as a row below `HEADINGS`."""
        effect = "breaking" if self.step is Step.MAJOR else "compatible"
        return (effect, self.where, self.what, ", ".join(self.breaks) or "nobody")


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two revisions.

    Args:
        changes: every difference, the breaking ones first.
        demanded: version step that the changes require.
        made: version step from the old to the new version.
    """

    old_version: str
    new_version: str
    changes: tuple[Change, ...]
    demanded: Step
    made: Step

    @property
    def accepted(self) -> bool:
        """Whether the version was increased as far as the changes require."""
        return self.made >= self.demanded

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if not self.changes:
            return "the contract is unchanged"
        demanded, made = (f"a {step.name.lower()} step" if step else "no step" for step in (self.demanded, self.made))
        outcome = "accepted" if self.accepted else "refused"
        return f"{outcome}: the changes require {demanded} of the version; it made {made}"


def compare(old: Document, new: Document) -> Comparison:
    """Compare two canonical documents of a contract.

    Raises:
        UsageError: a document has another layout, or a version is not MAJOR.MINOR.PATCH or decreased.
    """
    for document in (old, new):
        if document.get("format") != FORMAT:
            raise UsageError(f"layout {document.get('format')!r} is not {FORMAT}", where="contract document")
    changes = sorted(_changes(old, new), key=lambda change: (-change.step, change.where))
    return Comparison(
        old_version=old["version"],
        new_version=new["version"],
        changes=tuple(changes),
        demanded=max((change.step for change in changes), default=Step.NONE),
        made=version_step(old["version"], new["version"]),
    )


def to_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown: a table of changes and the verdict."""
    lines = [f"### Contract {comparison.old_version} to {comparison.new_version}", ""]
    if comparison.changes:
        rows = [HEADINGS, ("---",) * len(HEADINGS), *(change.cells() for change in comparison.changes)]
        lines += map(markdown.row, rows)
        lines.append("")
    return "\n".join([*lines, f"**{comparison.verdict}**"])


def version_step(old: str, new: str) -> Step:
    """Return the most significant part in which the semantic version `new` is ahead of `old`.

    Raises:
        UsageError: a version is not MAJOR.MINOR.PATCH, or `new` is behind `old`.
    """
    before, after = _parse(old), _parse(new)
    if after < before:
        raise UsageError(f"version {new} is behind {old}", where="contract", hint="a version may only increase")
    for step, was, now in zip((Step.MAJOR, Step.MINOR, Step.PATCH), before, after, strict=True):
        if now > was:
            return step
    return Step.NONE


def _parse(version: str) -> tuple[int, int, int]:
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise UsageError(f"version {version!r} is not MAJOR.MINOR.PATCH", where="contract")
    major, minor, patch = map(int, parts)
    return major, minor, patch


def _changes(old: Document, new: Document) -> Iterator[Change]:
    both = (PRODUCERS, CONSUMERS)
    for field in ("name", "keys"):
        if old[field] != new[field]:
            yield Change(field, f"changed from {old[field]} to {new[field]}", Step.MAJOR, both)
    for field, name in old["tables"].items():
        if new["tables"][field] != name:
            yield Change(f"tables.{field}", f"renamed from {name} to {new['tables'][field]}", Step.MAJOR, both)
    yield from _bound("", "max_quarantine_share", old, new, tightened_when_lower=True)
    for table in ("features", "labels"):
        yield from _columns(table, old[table], new[table])
    yield from _rules(old["row_rules"], new["row_rules"])
    yield from _response(old["response"], new["response"])


def _columns(table: str, old: dict[str, Document], new: dict[str, Document]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(f"{table}.{name}", "removed", Step.MAJOR, (PRODUCERS, CONSUMERS))
    for name in new.keys() - old.keys():
        if new[name]["nullable"]:
            yield Change(f"{table}.{name}", "added; it may be missing", Step.MINOR)
        else:
            yield Change(f"{table}.{name}", "added and required", Step.MAJOR, (PRODUCERS,))
    for name in old.keys() & new.keys():
        yield from _column(f"{table}.{name}", old[name], new[name])


def _column(where: str, old: Document, new: Document) -> Iterator[Change]:
    # Only a category says how it is written, and not if that is text: another kind says enough.
    written = ("written",) if old["kind"] == new["kind"] else ()
    for field in ("kind", *written, "role", "unit", "separator", "empty", "counted_by"):
        was, now = (document.get(field, "text" if field == "written" else None) for document in (old, new))
        if was != now:
            what = f"changed from {was!r} to {now!r}"
            yield Change(f"{where}.{field}", what, Step.MAJOR, (PRODUCERS, CONSUMERS))
    if old["meaning"] != new["meaning"]:
        yield Change(f"{where}.meaning", f"reworded to {new['meaning']!r}", Step.PATCH)
    if old["nullable"] and not new["nullable"]:
        yield Change(f"{where}.nullable", "now required", Step.MAJOR, (PRODUCERS,))
    if new["nullable"] and not old["nullable"]:
        yield Change(f"{where}.nullable", "may now be missing", Step.MAJOR, (CONSUMERS,))
    yield from _bound(f"{where}.", "minimum", old, new, tightened_when_lower=False)
    yield from _bound(f"{where}.", "maximum", old, new, tightened_when_lower=True)
    yield from _bound(f"{where}.", "max_length", old, new, tightened_when_lower=True)
    yield from _set(where, "categories", old, new)
    yield from _set(where, "entries", old, new)
    if old["pattern"] != new["pattern"]:
        if new["pattern"] is None:
            yield Change(f"{where}.pattern", "dropped", Step.MINOR)
        else:
            # Whether one pattern accepts everything that another accepts is not decided here: treat it as narrowed.
            what = f"changed from {old['pattern']!r} to {new['pattern']!r}"
            yield Change(f"{where}.pattern", what, Step.MAJOR, (PRODUCERS,))


def _bound(prefix: str, field: str, old: Document, new: Document, *, tightened_when_lower: bool) -> Iterator[Change]:
    was, now = old[field], new[field]
    if was == now:
        return
    where = f"{prefix}{field}"
    if now is None:
        yield Change(where, f"{was} dropped", Step.MINOR)
    elif was is None:
        yield Change(where, f"{now} added", Step.MAJOR, (PRODUCERS,))
    elif (now < was) == tightened_when_lower:
        yield Change(where, f"narrowed from {was} to {now}", Step.MAJOR, (PRODUCERS,))
    else:
        yield Change(where, f"widened from {was} to {now}", Step.MINOR)


def _set(where: str, field: str, old: Document, new: Document) -> Iterator[Change]:
    was, now = old[field], new[field]
    if was == now:
        return
    where = f"{where}.{field}"
    if was is None or now is None:
        opened = now is None
        step, breaks = (Step.MINOR, ()) if opened else (Step.MAJOR, (PRODUCERS,))
        yield Change(where, "now an open set" if opened else f"closed to {now}", step, breaks)
        return
    is_label = old["role"] == new["role"] == "label"
    removed, added = _minus(was, now), _minus(now, was)
    if removed:
        yield Change(where, f"removed {', '.join(removed)}", Step.MAJOR, (PRODUCERS,))
    if added and is_label:
        yield Change(where, f"added {', '.join(added)}: unknown to consumers of the label", Step.MAJOR, (CONSUMERS,))
    elif added:
        yield Change(where, f"added {', '.join(added)}", Step.MINOR)
    if not removed and not added:
        step, breaks = (Step.MAJOR, (CONSUMERS,)) if is_label else (Step.PATCH, ())
        yield Change(where, f"reordered to {', '.join(map(str, now))}", step, breaks)


def _minus(left: list[Any], right: list[Any]) -> list[str]:
    return [str(value) for value in left if value not in right]


def _rules(old: dict[str, Document], new: dict[str, Document]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(f"row_rules.{name}", f"dropped: {old[name]['meaning']}", Step.MINOR)
    for name in new.keys() - old.keys():
        yield Change(f"row_rules.{name}", f"added: {new[name]['meaning']}", Step.MAJOR, (PRODUCERS,))
    for name in old.keys() & new.keys():
        if old[name]["logic"] != new[name]["logic"]:
            # Whether the new code refuses more rows is not decided here: treat it as narrowed.
            yield Change(f"row_rules.{name}", f"changed: {new[name]['meaning']}", Step.MAJOR, (PRODUCERS,))
        elif old[name]["meaning"] != new[name]["meaning"]:
            yield Change(f"row_rules.{name}", f"reworded to {new[name]['meaning']!r}", Step.PATCH)


def _response(old: dict[str, Document], new: dict[str, Document]) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change(f"response.{name}", "removed", Step.MAJOR, (CONSUMERS,))
    for name in new.keys() - old.keys():
        yield Change(f"response.{name}", "added", Step.MINOR)
    for name in old.keys() & new.keys():
        if old[name]["type"] != new[name]["type"]:
            what = f"type changed from {old[name]['type']} to {new[name]['type']}"
            yield Change(f"response.{name}", what, Step.MAJOR, (CONSUMERS,))
        elif old[name]["required"] and not new[name]["required"]:
            yield Change(f"response.{name}", "may now be omitted", Step.MAJOR, (CONSUMERS,))
