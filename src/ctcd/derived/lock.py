"""The lock folder: files that are derived from an instance and committed, so that changes are reviewed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import RootModel
from sqlalchemy import Dialect
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.schema import CreateIndex, CreateTable

from ctcd.contract.instance import Instance
from ctcd.contract.policy_file import read_policy
from ctcd.contract.spec import Contract
from ctcd.derived.canonical import canonical
from ctcd.derived.dictionary import dictionary_markdown
from ctcd.derived.odcs import odcs_yaml
from ctcd.files import write_text
from ctcd.store.snapshot import snapshot_statements
from ctcd.store.tables import build_tables

CANONICAL = "contract.json"
"""Name of the file that revisions are compared by."""
SNAPSHOT = "snapshot.mariadb.sql"
"""Name of the file with the statements that take a training snapshot on MariaDB, with PyMySQL's named parameters."""
POLICIES = "policies.json"
"""Name of the file with every value of the policies, so that a changed limit shows in two files."""


def derive(instance: Instance, openapi: Mapping[str, Any], asyncapi: Mapping[str, Any]) -> dict[str, str]:
    """Return the content of every lock file by file name.

    Raises:
        UsageError: a policy of the instance cannot be read, or is not TOML.
    """
    contract = instance.contract
    files = {
        CANONICAL: _json(canonical(contract, instance.payload.prediction)),
        POLICIES: _json({path.stem: read_policy(RootModel[dict[str, Any]], path).root for path in instance.policies}),
        "odcs.yaml": odcs_yaml(contract),
        "openapi.json": _json(openapi),
        "asyncapi.json": _json(asyncapi),
        "data-dictionary.md": dictionary_markdown(contract),
        "ddl.mariadb.sql": _ddl(contract, mysql.dialect()),
        "ddl.sqlite.sql": _ddl(contract, sqlite.dialect()),
        SNAPSHOT: _snapshot(contract),
    }
    return {name: text.rstrip() + "\n" for name, text in files.items()}


def stale(files: Mapping[str, str], folder: Path) -> tuple[str, ...]:
    """Return the names of files in `folder` that are missing, differ, or are no longer derived."""
    existing = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return tuple(sorted(name for name in existing | files.keys() if _read(folder / name) != files.get(name)))


def write(files: Mapping[str, str], folder: Path) -> tuple[str, ...]:
    """Make `folder` hold exactly these files, and return the names of those created, changed or removed."""
    changed = stale(files, folder)
    for name in changed:
        if name in files:
            write_text(folder / name, files[name])
        else:
            (folder / name).unlink()
    return changed


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _snapshot(contract: Contract) -> str:
    statements = snapshot_statements(contract)
    # PyMySQL takes named parameters in this style.
    dialect = pymysql.dialect(paramstyle="pyformat")
    texts = [
        str(statement.compile(dialect=dialect)) for statement in (statements.clear, statements.fill, statements.count)
    ]
    return _lines(texts)


def _ddl(contract: Contract, dialect: Dialect) -> str:
    statements = []
    for table in build_tables(contract).metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        statements += [
            str(CreateIndex(index).compile(dialect=dialect)).strip()
            for index in sorted(table.indexes, key=lambda index: str(index.name))
        ]
    return _lines(statements)


def _lines(statements: list[str]) -> str:
    return "".join(f"{line.rstrip()}\n" for statement in statements for line in f"{statement};\n".split("\n"))
