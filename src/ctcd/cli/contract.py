"""Commands about the contract itself."""

import json as json_module
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctcd.cli.options import JsonOutput, epilog, group
from ctcd.cli.output import emit, out, table
from ctcd.errors import GateRefused, UsageError, number_of
from ctcd.git import git
from ctcd.settings import load_settings
from ctcd.stages.connections import instance
from ctcd.urls import sqlite_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctcd.contract.instance import Instance
    from ctcd.drafts.check import Problem

contract = group("Check the contract, lock what is derived from it, and compare it with a revision.")


@contract.command(epilog=epilog("ctcd contract lock --check"))
def lock(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end in exit code 4 if a file would change.")
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Check the contract, rewrite the files that are derived from it, and add the migration that it requires."""
    from ctcd.drafts.check import problems

    found = instance(load_settings())
    _refuse(problems(found))
    target = found.lock
    files, changed = relock(found, check=check)
    if json:
        emit({"folder": str(target), "files": files, "changed": changed})
    elif changed:
        out.print(f"{'out of date' if check else 'rewritten'} in {target}: {', '.join(changed)}")
    else:
        out.print(f"{target} follows the contract: {number_of(len(files), 'file')}")
    if check and changed:
        raise GateRefused(f"out of date: {', '.join(changed)}", where=str(target), hint="run: ctcd contract lock")


def relock(found: "Instance", *, check: bool = False) -> tuple[list[str], list[str]]:
    """Rewrite what is derived from a contract, or only compare it.

    Returns:
        the names of the derived files, and of what is new or changed.
    """
    from ctcd.derived.lock import derive, stale, write
    from ctcd.serving import broker
    from ctcd.serving.http import openapi

    described = (each(found.contract, found.payload) for each in (openapi.document, broker.document))
    files = derive(found, *described)
    migration = _next_migration(found, check=check)  # first, for it may be refused: then nothing is written
    changed = stale(files, found.lock) if check else write(files, found.lock)
    return sorted(files), [*changed, *migration]


@contract.command("check", epilog=epilog("ctcd contract check --model"))
def check_contract(
    model: Annotated[
        bool,
        typer.Option(
            "--model", help="Also check that every estimator of training.toml does what the engine relies on."
        ),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """List the drafts in the contract, and check that contract, policies, payload and synthetic data fit each other.

    Ends in exit code 2 if anything is wrong.
    """
    from ctcd.drafts.check import Problem, problems

    found = instance(load_settings())
    wrong = list(problems(found))
    estimators = []
    if model and not wrong:
        from ctcd.drafts.conformance import check_estimators

        estimators = check_estimators(found)
        wrong += [
            Problem(where=f"estimator {each.estimator}, {rule}", what=problem)
            for each in estimators
            for rule, problem in each.broken.items()
        ]
    drafts = found.contract.drafts
    if json:
        emit({"folder": str(found.folder), "drafts": dict(drafts), "problems": wrong, "estimators": estimators})
    else:
        for each in estimators:
            table(
                f"Estimator {each.estimator}, fitted with profile {each.profile}",
                ("rule", ""),
                [(rule, problem or "kept") for rule, problem in each.rules.items()],
            )
        if drafts:
            table("Drafts: confirm or correct them, then delete `draft`", ("column", "to be confirmed"), drafts)
        if wrong:
            table(
                "Problems",
                ("where", "what"),
                [(each.where, f"{each.what} ({each.hint})" if each.hint else each.what) for each in wrong],
            )
        else:
            out.print(f"{found.folder}: no problems, {number_of(len(drafts), 'draft')}")
    _refuse(wrong)


def _refuse(wrong: "Sequence[Problem]") -> None:
    if wrong:
        first, more = wrong[0], len(wrong) - 1
        rest = f"; and {more} more" if more else ""
        hints = first.hint, "ctcd contract check lists all" if more else ""
        raise UsageError(f"{first.what}{rest}", where=first.where, hint="; ".join(filter(None, hints)))


@contract.command(epilog=epilog("ctcd contract diff origin/main"))
def diff(
    revision: Annotated[str, typer.Argument(help="Git revision to compare with.")] = "HEAD",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a step summary in CI.")] = False,
    json: JsonOutput = False,
) -> None:
    """Compare the contract with a revision: what changed, what it breaks, and whether the version says so.

    Ends in exit code 4 if a change requires a larger version step than was made.
    """
    from ctcd.derived.canonical import canonical
    from ctcd.derived.diff import HEADINGS, compare, to_markdown

    found = instance(load_settings())
    old = _locked_at(revision, found.folder)
    if old is None:
        out.print(f"{revision} has no locked contract: nothing to compare with")
        return
    comparison = compare(old, canonical(found.contract, found.payload.prediction))
    if json:
        emit({"comparison": comparison, "accepted": comparison.accepted})
    elif markdown:
        typer.echo(to_markdown(comparison))
    else:
        if comparison.changes:
            title = f"Contract {comparison.old_version} to {comparison.new_version}"
            table(title, HEADINGS, [change.cells() for change in comparison.changes])
        out.print(comparison.verdict)
    if not comparison.accepted:
        raise GateRefused(comparison.verdict, where=f"contract since {revision}", hint="raise the contract's version")


def _next_migration(found: "Instance", *, check: bool) -> list[str]:
    """Write the migration to the contract's tables if there are changes; a check writes it into a copy."""
    from ctcd.store.migrations import revision

    with TemporaryDirectory() as scratch:
        versions = found.migrations
        if check:
            versions = copytree(versions, Path(scratch) / versions.name)
        written = revision(
            sqlite_url(Path(scratch) / "store.db"), f"contract {found.contract.version}", found.contract, versions
        )
    return [f"migration {written.name}"] if written else []


def _locked_at(revision: str, folder: Path) -> dict[str, Any] | None:
    from ctcd.derived.lock import CANONICAL

    # What the user gave comes after --end-of-options.
    known = git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if known is None:
        raise UsageError(f"{revision!r} is not a revision of the checkout", hint="give a commit or a branch")
    shown = git(folder, "show", "--end-of-options", f"{known}:./lock/{CANONICAL}")
    if shown is None:
        return None
    document: dict[str, Any] = json_module.loads(shown)
    return document
