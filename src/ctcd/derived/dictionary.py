"""The data dictionary: the contract as a Markdown page."""

from collections.abc import Iterable

from ctcd import markdown
from ctcd.contract.spec import Column, Contract
from ctcd.errors import number_of


def dictionary_markdown(contract: Contract) -> str:
    """Return the data dictionary as Markdown: one section per table, then the rules over several columns."""
    lines = [
        f"# Data dictionary: {contract.name} {contract.version}",
        "",
        f"Rows that break a rule are quarantined, at most {contract.max_quarantine_share:.1%} of one delivery.",
        "",
    ]
    for table, columns in (
        (contract.features_table, contract.feature_columns),
        (contract.labels_table, contract.label_columns),
    ):
        lines += [f"## `{table}`", "", *_table(columns), ""]
    lines += ["## Rules over several columns", ""]
    lines += [f"- **{rule.name}**: {rule.meaning}" for rule in contract.row_rules]
    return "\n".join(lines) + "\n"


def _table(columns: Iterable[Column]) -> list[str]:
    head = ["| column | role | type | unit | allowed | null | meaning | example |", "|---|---|---|---|---|---|---|---|"]
    rows = [
        (
            f"`{column.name}`",
            column.role.value,
            column.kind.value,
            column.unit,
            _allowed(column),
            "yes" if column.nullable else "no",
            column.meaning,
            str(column.example),
        )
        for column in columns
    ]
    return head + [markdown.row(row) for row in rows]


def _allowed(column: Column) -> str:
    if column.list_of is not None:
        entries = ", ".join(column.list_of.items)
        return f"{column.list_of.empty}, or `{column.list_of.counted_by}` of: {entries}"
    if column.categories:
        return ", ".join(map(str, column.categories))
    bounds = [
        text
        for text in (
            f"≥ {column.minimum:,}" if column.minimum is not None else "",
            f"≤ {column.maximum:,}" if column.maximum is not None else "",
            f"`{column.pattern}`" if column.pattern else "",
            f"up to {number_of(column.max_length, 'character')}" if column.max_length else "",
        )
        if text
    ]
    return ", ".join(bounds) or "any"
