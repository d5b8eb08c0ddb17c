"""The command that drafts an instance from a table."""

import json as json_module
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ctcd.cli.contract import relock
from ctcd.cli.options import JsonOutput
from ctcd.cli.output import emit, err, out, table
from ctcd.cli.views import show_next, with_contracts
from ctcd.contract.columns import Role
from ctcd.errors import UsageError, number_of
from ctcd.settings import load_settings

if TYPE_CHECKING:
    from ctcd.drafts.columns import Found
    from ctcd.drafts.draft import Draft

SHOWN = 3
"""Categories that are shown of a column, at most."""
REPLACED = ("lock", "migrations", "examples")
"""Folders of an instance that a draft replaces, besides its files."""
PACKAGES = {
    "__init__.py": '"""The instance: one team\'s contracts for data, API, model, service and monitoring, stated here and nowhere else."""\n',
    "py.typed": "",
    "migrations/__init__.py": '"""Migrations of the store\'s schema; see `ctcd.store.migrations`."""\n',
    "migrations/versions/__init__.py": '"""One module per revision."""\n',
}


def init(
    data: Annotated[
        Path,
        typer.Argument(
            dir_okay=False,
            exists=True,
            help="Table with features and label: CSV, CSV.gz or Parquet.",
            show_default=False,
        ),
    ],
    label: Annotated[str, typer.Option("--label", help="Column to be predicted.", show_default=False)],
    key: Annotated[
        str | None, typer.Option("--key", help="Column that identifies a row.", show_default="row number in the file")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Column that identifies the entity of a row, such as a machine.",
            show_default="each row is its own",
        ),
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", help="Column with the day of a row.", show_default="day of the ingest")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the contract.", show_default="the name of the file")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", file_okay=False, help="Folder to write to.", show_default="CTCD_CONTRACTS"),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the instance that is in the folder.")] = False,
    json: JsonOutput = False,
) -> None:
    """Draft contract, policies and first migration from a table; what it cannot know is marked as a draft."""
    from ctcd.contract.instance import load_instance
    from ctcd.drafts.check import namesakes
    from ctcd.drafts.draft import draft
    from ctcd.drafts.policies import file_names

    settings = load_settings()
    folder = (into or settings.contracts).resolve()
    parts = sorted({path.partition("/")[0] for path in PACKAGES} | {"features.py", *file_names(), *REPLACED})
    there = [each for each in parts if os.path.lexists(folder / each)]  # also a link to a disk that is not mounted
    if there and not replace:
        raise UsageError(
            f"already has {', '.join(there)}",
            where=str(folder),
            hint="--replace overwrites that, --into names another folder",
        )
    found = draft(
        data, label=label, key=key, group=group, date=date, name=name, version=_next_version(folder), seed=settings.seed
    )
    if same := namesakes(folder, found.name):
        raise UsageError(same[0], where="features.py, the name", hint="--name gives the contract another")
    with TemporaryDirectory(dir=_existing(folder)) as scratch:
        made, ready, old = (Path(scratch) / each for each in ("contracts", "ready", "old"))
        for path, text in {**PACKAGES, **found.files}.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, encoding="utf-8")
        relock(load_instance(made))
        shutil.copytree(made, ready, ignore=shutil.ignore_patterns("__pycache__"))
        folder.mkdir(parents=True, exist_ok=True)
        old.mkdir()
        # The new parts are complete and on the same disk, so that each is in place, old or new, at nearly any moment.
        # If one cannot be replaced, such as a mount point, the others are put back.
        with ExitStack() as undone:
            for each in parts:
                place, new = folder / each, ready / each
                if each in there:
                    undone.callback(_moved, old / each, place)
                    place.rename(old / each)
                if new.exists():
                    undone.callback(_moved, place, new)
                    new.rename(place)
            undone.pop_all()
    if json:
        emit(_summary(found, folder))
    else:
        _show(found, data, folder)


def _moved(path: Path, back: Path) -> None:
    if os.path.lexists(path) and not os.path.lexists(back):  # an interrupt may come before it was moved
        path.rename(back)


def _existing(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _next_version(folder: Path) -> str:
    """Return the version of a contract that replaces the one in a folder, whose clients it breaks."""
    locked = folder / "lock" / "contract.json"
    if not locked.is_file():
        return "1.0.0"
    try:
        major = int(str(json_module.loads(locked.read_text(encoding="utf-8"))["version"]).partition(".")[0])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("has no version of a contract", where=str(locked), hint="restore or delete it") from error
    return f"{major + 1}.0.0"


def _summary(found: "Draft", folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "name": found.name,
        "rows": found.rows,
        "whole_file": found.complete,
        "quarantined": found.quarantined,
        "columns": [
            {
                "name": each.source,
                "role": each.role.value,
                "kind": each.kind.value,
                "missing": each.missing,
                "distinct": each.distinct,
                "notes": each.notes,
            }
            for each in found.columns
        ],
        "notes": found.notes,
        "baselines": found.baselines,
    }


def _show(found: "Draft", data: Path, folder: Path) -> None:
    table(
        f"{data.name}: {number_of(found.rows, 'row')}{'' if found.complete else ', taken evenly from all'}",
        ("column", "role", "kind", "missing", "distinct", "allowed", "notes"),
        [
            (
                each.source,
                each.role.value,
                each.kind.value,
                f"{each.missing:.1%}" if each.missing else "",
                each.distinct,
                _allowed(each),
                "; ".join(each.notes),
            )
            for each in found.columns
        ],
    )
    scored = {
        "always the most frequent class": found.baselines.majority,
        "logistic regression": found.baselines.logistic,
    }
    table(
        "Holdout",
        ("model", "rows", "accuracy", "macro F1"),
        [(name, each.rows, each.accuracy, each.macro_f1) for name, each in scored.items()],
    )
    for note in found.notes:
        err.print(f"note: {note}")
    if found.quarantined:
        err.print(f"note: ingest will quarantine {number_of(found.quarantined, 'row')}")
    out.print(f"drafted contract {found.name} in {folder}")
    prefix = with_contracts(folder)
    show_next(
        {
            "what has to be confirmed": f"{prefix}.venv/bin/ctcd contract check",
            "the whole loop on synthetic data": f"{prefix}make demo",
            "the whole loop on these rows": f"{prefix}make demo DATA={quote(str(data))}",
        }
    )


def _allowed(found: "Found") -> str:
    from ctcd.drafts.features import plain

    if found.role is Role.PERSONAL:
        return ""  # its lowest and highest value would be those of two persons
    if found.categories and len(found.categories) > SHOWN:
        return f"{', '.join(found.categories[:SHOWN])} and {number_of(len(found.categories) - SHOWN, 'other')}"
    if found.categories:
        return ", ".join(found.categories)
    if found.low is not None:
        return f"{plain(found.low)} to {plain(found.high)}"
    return f"lists of {number_of(len(found.list_of.items), 'entry', 'entries')}" if found.list_of else ""
