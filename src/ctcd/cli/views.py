"""Reports of the stages as tables."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ctcd.cli.output import out, table
from ctcd.errors import number_of
from ctcd.settings import Settings

if TYPE_CHECKING:
    from ctcd.contract.validation import ValidationReport
    from ctcd.derived.synthetic import SyntheticReport
    from ctcd.promotion.decision import Decision
    from ctcd.scoring.files import BatchReport
    from ctcd.store.ingest import IngestReport
    from ctcd.store.snapshot import SnapshotReport
    from ctcd.training.summary import TrainingReport


SHOWN_REASONS = 8


def show_synthetic(report: "SyntheticReport") -> None:
    """Show the files written and the errors in them."""
    files = (report.features_file, report.labels_file)
    table("Synthetic data", ("file", "rows"), [(path, report.rows) for path in files])
    injected = [(name, kind, count) for name, kinds in report.injected.items() for kind, count in kinds.items()]
    table("Injected errors", ("table", "kind", "rows"), injected)


def show_ingest(report: "IngestReport") -> None:
    """Show the rows written and the rows quarantined."""
    rows = [(each.table, each.read, each.written, each.quarantined) for each in report.tables]
    table(f"Rows from {report.source}", ("table", "read", "written", "quarantined"), rows)
    reasons = [
        (each.table, reason, count)
        for each in report.tables
        for reason, count in [*list(each.reasons.items())[:SHOWN_REASONS], *_rest(each.reasons)]
    ]
    if reasons:
        table("Quarantined rows (all are in the quarantine table)", ("table", "reason", "rows"), reasons)


def _rest(reasons: dict[str, int]) -> list[tuple[str, int]]:
    rest = list(reasons.values())[SHOWN_REASONS:]
    return [(number_of(len(rest), "other reason"), sum(rest))] if rest else []


def show_snapshot(report: "SnapshotReport", group: str) -> None:
    """Show the content of a day's snapshot; `group` is the column that groups its rows."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in report.shares.items())
    table(
        "Training snapshot",
        ("day", "labels from", "rows", f"distinct {group}", "classes", "older rows deleted"),
        [(report.base_dt, report.window_start, report.rows, report.groups, shares, report.deleted)],
    )


def show_validation(report: "ValidationReport") -> None:
    """Show every broken rule with the first rows that break it, and where the report is."""
    if report.breaches:
        _show_breaches(report)
    else:
        out.print(f"{report.where} keeps contract {report.contract_version}: {number_of(report.rows, 'row')}")
    out.print(f"report: {report.page}")


def _show_breaches(report: "ValidationReport") -> None:
    table(
        f"{report.where} breaks {number_of(len(report.breaches), 'rule')} of contract {report.contract_version}",
        ("column", "rule", "rows", "share", "first rows"),
        [
            (
                breach.column,
                breach.rule,
                breach.count,
                f"{breach.share:.2%}",
                "; ".join(example.text for example in breach.examples),
            )
            for breach in report.breaches
        ],
    )


def show_training(report: "TrainingReport", group: str) -> None:
    """Show the split by the column `group`, every trial, and the best one next to the baselines."""
    table(
        f"Split by {group}, seed {report.seed}",
        ("part", "rows", f"distinct {group}", *(f"{name} %" for name in next(iter(report.parts.values())).shares)),
        [
            (name, part.rows, part.groups, *(f"{100 * share:.1f}" for share in part.shares.values()))
            for name, part in report.parts.items()
        ],
    )
    varied = _varied([trial.params for trial in report.trials])
    table(
        f"Trials, profile {report.profile}" + (" (this training existed already)" if report.reused else ""),
        ("trial", *varied, "rounds", "accuracy", "macro F1", "fit s", ""),
        [
            (
                index + 1,
                *(str(trial.params.get(name, "")) for name in varied),
                trial.iterations,
                trial.validation.accuracy,
                trial.validation.macro_f1,
                round(trial.seconds, 1),
                "best" if index == report.best else "",
            )
            for index, trial in enumerate(report.trials)
        ],
    )
    scored = {"this model": report.holdout, **{name.replace("_", " "): each for name, each in report.baselines.items()}}
    binary = {"ROC AUC": "roc_auc", "average precision": "average_precision"} if report.threshold else {}
    table(
        f"Holdout, {report.threshold}" if report.threshold else "Holdout",
        (
            "model",
            "accuracy",
            "macro F1",
            *(f"recall {name}" for name in report.holdout.recall),
            "log loss",
            "ECE",
            *binary,
        ),
        [
            (
                name,
                each.accuracy,
                each.macro_f1,
                *each.recall.values(),
                each.log_loss,
                each.ece,
                *(getattr(each, key) for key in binary.values()),
            )
            for name, each in scored.items()
        ],
    )
    fits = f"the fits of its trials took {report.fit_seconds:.1f} s together"
    out.print(f"training run {report.run_id}, {report.seconds:.1f} s; {fits}")


def _varied(params: list[dict[str, Any]]) -> list[str]:
    return [name for name in params[0] if len({str(each.get(name)) for each in params}) > 1]


def show_decision(decision: "Decision") -> None:
    """Show every rule of the gate with value, limit and verdict."""
    against = f"against champion {decision.champion}" if decision.champion else "no champion yet"
    table(
        f"Gate: version {decision.candidate}, {against}: {decision.status.value}",
        ("rule", "value", "limit", "verdict", "why"),
        [
            (rule.name, rule.value, rule.limit, "passed" if rule.passed else "FAILED", rule.explanation)
            for rule in decision.rules
        ],
    )


def with_contracts(folder: Path) -> str:
    """Return what to write before a command so that it uses the instance of a folder; empty if that is the default."""
    default: Path = Settings.model_fields["contracts"].default
    return "" if folder.resolve() == default.resolve() else f"CTCD_CONTRACTS={quote(str(folder))} "


def show_next(commands: dict[str, str]) -> None:
    """Show commands to go on with, by what they do."""
    out.print("Next", style="bold")
    for what, command in commands.items():
        out.print(f"  {what}:\n    {command}")


def show_batch(report: "BatchReport") -> None:
    """Show what was scored."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in report.shares.items())
    table(
        "Predictions",
        ("source", "rows", "rejected", "classes", "model version", "seconds", "written to"),
        [
            (
                report.source,
                report.rows,
                report.rejected,
                shares,
                report.model_version,
                round(report.seconds, 2),
                report.out,
            )
        ],
    )
