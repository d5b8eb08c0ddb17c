"""The contract as an Open Data Contract Standard document (ODCS v3, Bitol project of the Linux Foundation)."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import best_match
from open_data_contract_standard.model import (
    CustomProperty,
    DataQuality,
    Description,
    EnumValue,
    OpenDataContractStandard,
    SchemaObject,
    SchemaProperty,
)

from ctcd.contract.columns import Role
from ctcd.contract.spec import Column, Contract, Kind

API_VERSION = "v3.2.0"

_LOGICAL_TYPES = {
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIME: "timestamp",
}


def odcs_yaml(contract: Contract) -> str:
    """Return the contract as ODCS YAML.

    Raises:
        jsonschema.ValidationError: the document does not follow the published ODCS schema.
    """
    labels_doc = contract.labels.__doc__ if contract.labels else "The label of a row, from the raw feature table."
    document = OpenDataContractStandard(
        version=contract.version,
        kind="DataContract",
        apiVersion=API_VERSION,
        id=contract.name,
        name=contract.name,
        status="active",
        description=Description(
            purpose="Features and labels for training a model, validated before any stage reads them.",
            limitations="No stage after ingest reads personal columns.",
        ),
        schema=[
            _table(contract, contract.features_table, contract.features.__doc__, contract.feature_columns, rules=True),
            _table(contract, contract.labels_table, labels_doc, contract.label_columns, rules=False),
        ],
    )
    text = document.to_yaml()
    check_odcs(text)
    return text


def check_odcs(text: str) -> None:
    """Validate a document against the JSON schema published by the ODCS project.

    Raises:
        jsonschema.ValidationError: it does not follow the schema.
    """
    if error := best_match(_validator().iter_errors(yaml.safe_load(text))):
        raise error


@cache
def _validator() -> jsonschema.Draft201909Validator:
    schema = files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft201909Validator(json.loads(schema))


def _table(contract: Contract, name: str, doc: str | None, columns: tuple[Column, ...], *, rules: bool) -> SchemaObject:
    share = contract.max_quarantine_share
    quality = [
        DataQuality(
            type="text",
            name="quarantine",
            description=f"Rows that break a rule are quarantined, at most {share:.1%} of one delivery.",
        )
    ]
    if rules:
        quality += [DataQuality(type="text", name=rule.name, description=rule.meaning) for rule in contract.row_rules]
    return SchemaObject(
        name=name,
        physicalType="table",
        description=" ".join((doc or "").split()),
        properties=[_property(contract, column) for column in columns],
        quality=quality,
    )


def _property(contract: Contract, column: Column) -> SchemaProperty:
    options: dict[str, Any] = {}
    if column.minimum is not None:
        options["minimum"] = column.minimum
    if column.maximum is not None:
        options["maximum"] = column.maximum
    if column.pattern is not None:
        options["pattern"] = f"^(?:{column.pattern})$"
    if column.max_length is not None:
        options["maxLength"] = column.max_length
    if column.kind is Kind.DATE:
        options["format"] = "yyyy-MM-dd"
    if column.kind is Kind.TIME:
        options["timezone"] = False
    keys = contract.keys
    return SchemaProperty(
        name=column.name,
        description=column.meaning,
        logicalType="integer" if column.coded else _LOGICAL_TYPES.get(column.kind, "string"),
        logicalTypeOptions=options or None,
        required=not column.nullable,
        primaryKey=column in keys or None,
        primaryKeyPosition=keys.index(column) + 1 if column in keys else None,
        classification="personal" if column.role is Role.PERSONAL else None,
        examples=[column.example],
        enum=[EnumValue(value=str(category)) for category in column.categories] if column.categories else None,
        customProperties=[
            CustomProperty(property="role", value=column.role.value),
            CustomProperty(property="unit", value=column.unit),
        ],
    )
