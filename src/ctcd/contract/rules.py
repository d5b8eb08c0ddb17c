"""The rules that a contract itself has to keep, before any data are seen."""

import re
from collections import Counter
from collections.abc import Iterator

from ctcd.contract.columns import KEYS, Role, column_name
from ctcd.contract.spec import Column, Contract, Kind, names
from ctcd.errors import UsageError

NAME_LENGTH = 64
"""Longest name of a column or table, in characters: MariaDB's limit."""
MISSING = "(missing)"
"""Category that the model's encoder uses for a missing value."""
OF_SNAPSHOT = ("_label_day", "_newness", "_rank", "snapshot_day", "first_label_day", "last_expired_day")
"""Names that the statements of the store use themselves."""
OF_ANSWER = ("predict", "confidence", "probabilities", "model_version", "request_id")
OF_SCORES = (
    "prediction",
    "confidence",
    "probabilities",
    "model_version",
    "run_id",
    "contract_version",
    "served_by",
    "variant",
    "scored_at",
)
OWN_TABLES = ("quarantine", "sources", "snapshot_profile", "batch_scores", "performance", "drift", "findings")
"""Tables that the store names after the contract."""
_OF_KINDS = {
    "minimum": (Kind.INTEGER, Kind.NUMBER),
    "maximum": (Kind.INTEGER, Kind.NUMBER),
    "categories": (Kind.INTEGER, Kind.TEXT),
    "pattern": (Kind.TEXT,),
    "max_length": (Kind.TEXT,),
}
"""Arguments of `column`, and how the values of the columns that they belong to are written."""
_CONTRACT_NAME = r"[a-z][a-z0-9_]{0,39}"
_VERSION = r"\d+\.\d+\.\d+"


def contract_problems(contract: Contract) -> list[str]:
    """Return what is wrong with a contract, each in one line that names the column and the rule; empty if nothing is."""
    try:
        found = list(_of_roles(contract))
        return found or [
            *_of_contract(contract),
            *_of_names(contract),
            *(line for column in _columns(contract) for rule in (_of, _of_values) for line in rule(column)),
        ]
    except UsageError as error:
        return [str(error)]


def require_sound(contract: Contract, where: str) -> None:
    """Check the rules of a contract.

    Raises:
        UsageError: names every column and rule that is broken.
    """
    found = contract_problems(contract)
    if found:
        raise UsageError("; ".join(found), where=where, hint="docs/changing-the-contract.md explains roles and names")


def _columns(contract: Contract) -> tuple[Column, ...]:
    return (*contract.declared, *(column for column in contract.declared_labels if column.role is Role.LABEL))


def _of_roles(contract: Contract) -> Iterator[str]:
    declared, labels = contract.declared, contract.declared_labels
    for role in KEYS:
        several = [column.name for column in declared if column.role is role]
        if len(several) > 1:
            yield f"{', '.join(several)}: only one column may have the role {role}"
        if labels and several != [column.name for column in labels if column.role is role]:
            yield f"the label table needs the same column with the role {role} as the feature table: {several or 'none'}"
    if labels and contract.key.filled:
        yield f"a label table needs a column with the role {Role.KEY}: without one, nothing says which row a label is of"
    found = [column.name for column in (labels or declared) if column.role is Role.LABEL]
    if len(found) != 1:
        yield f"exactly one column needs the role {Role.LABEL}, not {found or 'none'}"
    if labels and any(column.role is Role.LABEL for column in declared):
        yield "the label is in the label table: no column of the feature table may have its role"
    if not any(column.role is Role.FEATURE for column in declared):
        yield f"no column has the role {Role.FEATURE}"


def _of_contract(contract: Contract) -> Iterator[str]:
    named = re.fullmatch(_CONTRACT_NAME, contract.name)
    if not named:
        yield f"the name {contract.name!r} is not one of at most 40 small letters, digits and underscores"
    if not re.fullmatch(_VERSION, contract.version):
        yield f"the version {contract.version!r} is not MAJOR.MINOR.PATCH"
    classes = contract.label.categories or ()
    if not 2 <= len(classes) <= 100:
        yield f"{contract.label.name}: a label has 2 to 100 categories, not {len(classes)}"
    if contract.label.written not in (Kind.TEXT, Kind.INTEGER, Kind.BOOLEAN):
        yield f"{contract.label.name}: a label is text, a whole number or a boolean, not a {contract.label.written}"
    if not 0 <= contract.max_quarantine_share <= 1:
        yield f"max_quarantine_share is {contract.max_quarantine_share}, not a share from 0 to 1"
    tables = ["alembic_version", *(f"{contract.name}_{table}" for table in OWN_TABLES)]
    tables += [contract.features_table, contract.labels_table, contract.snapshot_table, contract.predictions_table]
    if contract.personal:
        tables.append(contract.personal_table)
    for table, count in Counter(table.lower() for table in tables).items():
        if count > 1:
            yield f"the table name {table!r} is used twice"
        after_contract = not named and table.startswith(contract.name.lower())  # then it is wrong for the same reason
        if not after_contract and not re.fullmatch(r"[a-z_][a-z0-9_]{0,63}", table):
            yield f"the table name {table!r} is not one of at most 64 small letters, digits and underscores"


def _of_names(contract: Contract) -> Iterator[str]:
    all_names = [*names((*contract.feature_columns, contract.label)), contract.snapshot_date]
    for name, count in Counter(name.casefold() for name in all_names).items():
        if count > 1:
            yield f"{name}: two columns have this name, for a database does not tell capitals from small letters"
    for column in contract.keys:
        if column.name.lower() in OF_SCORES:
            yield (
                f"{column.name}: the table of batch scores has a column of this name: give it another with alias=, and "
                "rename it in a store that has it by a migration of your own"
            )
    for column in contract.identity:
        if column.name.lower() in OF_ANSWER:
            yield f"{column.name}: answers have a field of this name: give it another with alias="
    known = {column.name for column in _columns(contract)}
    for column in _columns(contract):
        counter = column.list_of.counted_by if column.list_of else None
        factor = column.simulate.times if column.simulate else None
        for argument, other in (("counted_by", counter), ("times", factor)):
            if other is not None and other not in known:
                yield f"{column.name}: {argument}=: there is no column {other!r}"


def _of(column: Column) -> Iterator[str]:
    name = column.name
    if not name or len(name) > NAME_LENGTH or name != name.strip():
        yield f"{name!r}: a name has 1 to {NAME_LENGTH} characters, and no blanks around it"
    elif (read := column_name(name)) != name:
        yield f"{name!r}: a name has no control character and none of ` ? %: such a header is read as {read!r}"
    if name.lower() in OF_SNAPSHOT:
        yield f"{name}: the store's own statements use this name: give it another with alias="
    if column.role in KEYS and column.nullable:
        yield f"{name}: a column with the role {column.role} may not be nullable"
    if column.role is Role.EVENT_DATE and column.kind is not Kind.DATE:
        yield f"{name}: an event date is a date without a time of day, not a {column.kind}"
    if column.role in (Role.KEY, Role.GROUP) and column.kind not in (Kind.INTEGER, Kind.TEXT):
        yield f"{name}: a {column.role} is a whole number or text, not a {column.kind}"
    if column.role is Role.FEATURE and column.example is None:
        yield f"{name}: a feature needs an example"


def _of_values(column: Column) -> Iterator[str]:
    name = column.name
    for argument, kinds in _OF_KINDS.items():
        filled = argument == "categories" and column.role is Role.LABEL  # those of true and false are filled in
        if getattr(column, argument) is not None and column.written not in kinds and not filled:
            yield f"{name}: {argument}= belongs to {' or '.join(kinds)}, not {column.written}"
    if column.minimum is not None and column.maximum is not None and column.minimum > column.maximum:
        yield f"{name}: the minimum {column.minimum} is above the maximum {column.maximum}"
    for bound in (column.minimum, column.maximum):
        if column.written is Kind.INTEGER and bound is not None and bound % 1:
            yield f"{name}: the bound {bound} of whole numbers is a fraction"
    texts = [str(category) for category in column.categories or ()]
    for text, count in Counter(texts).items():
        if count > 1:
            yield f"{name}: the category {text!r} is there twice"
        if text != text.strip() or not text or text == MISSING:
            yield f"{name}: the category {text!r} is empty, reserved, or has blanks around it, which ingest removes"
        if column.role is Role.LABEL and "?" in text:
            yield f"{name}: the class {text!r} has a question mark, which the data monitor cannot ask for"
    if column.list_of is not None:
        for item in column.list_of.items:
            if item != item.strip().casefold() or not item or column.list_of.separator in item:
                yield f"{name}: the entry {item!r} is not in small letters, or has blanks around it or the separator in it"
