"""Tables in Markdown."""

from collections.abc import Iterable


def row(cells: Iterable[str]) -> str:
    """Return a row of a table; a bar in a cell does not end the cell."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
