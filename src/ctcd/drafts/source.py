"""Python source of drafts, in the layout that the project's formatter gives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 120
"""Columns of a line."""
_STEP = 4


@dataclass(frozen=True)
class Name:
    """An identifier."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call with keyword arguments; those that are None or empty are left out."""

    function: str
    arguments: Mapping[str, Any]

    def given(self) -> dict[str, Any]:
        """Return the arguments that are written."""
        return {name: value for name, value in self.arguments.items() if value is not None and value not in ("", ())}


def python(value: Any, *, indent: int = 0, before: int = 0, exploded: bool = False) -> str:
    """Return the source of a value, on one line if it fits, otherwise with each part on a line of its own.

    Args:
        value: a name, a call, or a literal of text, numbers, tuples and dictionaries.
        indent: columns by which the statement is indented.
        before: columns in front of the value on its first line.
        exploded: write each part on a line of its own even if all fit on one line.
    """
    opening, parts, closing = _parts(value)
    flat = opening + ", ".join(f"{prefix}{python(part, indent=-(10**6))}" for prefix, part in parts) + closing
    if isinstance(value, tuple) and len(value) == 1:
        flat = f"{flat[:-1]},)"
    if not parts or (not exploded and indent + before + len(flat) < WIDTH):
        return flat
    inner = indent + _STEP
    lines = [f"{' ' * inner}{prefix}{python(part, indent=inner, before=len(prefix))}," for prefix, part in parts]
    return "\n".join([opening, *lines, f"{' ' * indent}{closing}"])


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """Return what opens a value, its parts with what is written in front of each, and what closes it."""
    match value:
        case Call():
            return f"{value.function}(", [(f"{name}=", part) for name, part in value.given().items()], ")"
        case tuple():
            return "(", [("", part) for part in value], ")"
        case dict():
            return "{", [(f"{_text(str(key))}: ", part) for key, part in value.items()], "}"
        case Name():
            text = value.text
        case str():
            text = _text(value)
        case int() if abs(value) >= 10_000:
            text = f"{value:_}"
        case _:
            text = repr(value)
    return text, [], ""


def _text(value: str) -> str:
    # The formatter prefers double quotes, unless the text itself has some; so does repr, if the text has a single one.
    return repr(value) if '"' in value else f'"{repr(chr(39) + value)[2:]}'
