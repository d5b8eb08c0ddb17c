"""The contract as a JSON document, which is locked and compared between revisions."""

import ast
import hashlib
import inspect
import textwrap
from typing import Any

from pydantic import BaseModel

from ctcd.contract.spec import Column, Contract, Kind, RowRule, names

FORMAT = 1
"""Version of the document's layout."""

TABLE_FIELDS = (
    "features_table",
    "labels_table",
    "personal_table",
    "snapshot_table",
    "predictions_table",
    "snapshot_date",
)

Document = dict[str, Any]


def canonical(contract: Contract, response: type[BaseModel]) -> Document:
    """Return everything that a contract and the API's response promise; hints for synthetic data are omitted."""
    schema = response.model_json_schema()
    return {
        "format": FORMAT,
        "name": contract.name,
        "version": contract.version,
        "max_quarantine_share": contract.max_quarantine_share,
        "tables": {field: getattr(contract, field) for field in TABLE_FIELDS},
        "keys": names(contract.keys),
        "features": {column.name: _column(column) for column in contract.feature_columns},
        "labels": {column.name: _column(column) for column in contract.label_columns},
        "row_rules": {rule.name: _rule(contract, rule) for rule in contract.row_rules},
        "response": {
            name: {"type": field.get("type", "object"), "required": name in schema.get("required", ())}
            for name, field in schema["properties"].items()
        },
    }


def _rule(contract: Contract, rule: RowRule) -> Document:
    # The code of a rule may change while its description stays: hash the code without comments and layout.
    code = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(getattr(contract.features, rule.name)))))
    return {"meaning": rule.meaning, "logic": hashlib.sha256(code.encode()).hexdigest()[:16]}


def _column(column: Column) -> Document:
    # How a category is written is named only where it is not text, so that documents of earlier releases stay the same.
    written = (
        {"written": column.written.value} if column.kind is Kind.CATEGORY and column.written is not Kind.TEXT else {}
    )
    return {
        **written,
        "kind": column.kind.value,
        "role": column.role.value,
        "unit": column.unit,
        "meaning": column.meaning,
        "nullable": column.nullable,
        "minimum": column.minimum,
        "maximum": column.maximum,
        "categories": list(column.categories) if column.categories else None,
        "pattern": column.pattern if column.list_of is None else None,
        "max_length": column.max_length,
        "entries": list(column.list_of.items) if column.list_of else None,
        "empty": column.list_of.empty if column.list_of else None,
        "separator": column.list_of.separator if column.list_of else None,
        "counted_by": column.list_of.counted_by if column.list_of else None,
    }
