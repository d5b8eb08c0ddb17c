"""A decision and its evidence as pages that need nothing from other hosts, and as Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctcd import markdown
from ctcd.errors import number_of
from ctcd.html_report import Figure, Page, Section, row_of
from ctcd.promotion.bootstrap import Interval
from ctcd.promotion.decision import Decision, RuleResult, from_json, shown_value, to_markdown
from ctcd.promotion.evidence import EVIDENCE, THIS, DriftSince, Evidence
from ctcd.times import moment

SHOWN_SLICES, SHOWN_REASONS, SHOWN_SOURCES, SHOWN_DRIFT = 8, 10, 20, 20
"""Number of slices of a column, the worst first, of reasons of quarantined rows, of source files, and of features with
their drift, that a page shows."""
_ALT = {
    "confusion matrix": "Counts by true and predicted class; the share is that of the true class.",
    "calibration": "Rows by confidence, in the bins of the expected calibration error; larger dots are more rows.",
    "precision and recall by threshold": "Each class against the others, if a row counted as one from a probability on.",
    "learning curve": "Loss after each round of the best trial.",
    "feature importance": "CatBoost's PredictionValuesChange.",
    "SHAP values": "Mean absolute SHAP value of each feature, by class; CatBoost's approximation.",
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A decision as it was recorded, and its evidence.

    Args:
        number: its number among the decisions about the version, from 1.
        decided_at: when, ISO 8601, UTC.
        evidence: None in decisions of earlier releases.
    """

    number: int
    decided_at: str
    decision: Decision
    evidence: Evidence | None


def read_judged(text: str) -> Judged:
    """Return a decision that was recorded as JSON."""
    content = json.loads(text)
    found = content.get("evidence")
    return Judged(
        number=content["number"],
        decided_at=content["decided_at"],
        decision=from_json(content),
        evidence=None if found is None else EVIDENCE.validate_python(found),
    )


def description(decision: Decision, evidence: Evidence) -> str:
    """Return verdict, reasons and scores as Markdown in few lines."""
    lines = [f"**{decision.status}**", *(f"- {reason}" for reason in decision.reasons)]
    scores = (f"{metric} {interval_text(found)}" for metric, found in evidence.scores[THIS].items())
    return "\n".join((*lines, "", ", ".join(scores)))


def evidence_page(judged: Judged, evidence: Evidence, plots: Mapping[str, str], name: str) -> Page:
    """Return the page about a decision.

    Args:
        judged: the decision.
        evidence: what the page shows besides verdict and rules.
        plots: from `draw`.
        name: of the registered model, for the title.
    """
    decision = judged.decision
    against = f"version {decision.champion}" if decision.champion else "none yet"
    failed = sum(not rule.passed for rule in decision.rules)
    return Page(
        title=f"{name}, version {decision.candidate}",
        verdict=f"{decision.status}: {len(decision.rules) - failed} of {len(decision.rules)} rules passed",
        good=not failed,
        facts=(
            *(("refused because of", reason) for reason in decision.reasons),
            ("decision", f"{judged.number}, {moment(judged.decided_at)}"),
            ("champion", against),
            ("training run", decision.candidate_run),
            (
                "holdout",
                f"{number_of(evidence.rows, 'row')} of {number_of(evidence.groups, 'group')}, {decision.holdout[:12]}",
            ),
            ("snapshot", dict(evidence.lineage)["snapshot"]),
        ),
        sections=(
            _scores(evidence, decision),
            _plots(evidence, plots),
            _rules(decision.rules),
            *_slices(evidence),
            _months(evidence),
            *_data(evidence),
            _drift(evidence.drift),
            _facts("Parameters", evidence.parameters),
            _facts("Environment", evidence.about.environment),
            _facts("Lineage", dict(evidence.lineage)),
        ),
    )


def short_form(judged: Judged, evidence: Evidence) -> str:
    """Return the decision as Markdown: verdict, rules, scores, and where the page is."""
    header, rows = _score_table(evidence)
    lines = [markdown.row(header), "|---" * len(header) + "|", *map(markdown.row, rows)]
    written = f"Decision {judged.number} about this version, {moment(judged.decided_at)}."
    page = f"Evidence with plots: `gate/{judged.number}.html` of the run, beside this file where it was decided."
    return "\n".join((to_markdown(judged.decision), *lines, "", _interval_note(evidence), "", page, "", written, ""))


def _scores(evidence: Evidence, decision: Decision) -> Section:
    header, rows = _score_table(evidence)
    seen = ""
    if evidence.seen is not None:
        seen = (
            f" The rules that compare leave out {number_of(evidence.seen, 'row')} of groups that the champion was "
            "trained on; this table does not."
        )
    return Section(
        title="Scores on the holdout",
        note=_interval_note(evidence) + (seen if decision.champion else ""),
        header=header,
        rows=tuple(row_of(*row) for row in rows),
    )


def _interval_note(evidence: Evidence) -> str:
    groups = number_of(evidence.groups, "group")
    return f"In brackets: the {evidence.confidence:.0%} interval of the bootstrap over {groups}."


def _score_table(evidence: Evidence) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    metrics = dict.fromkeys(metric for found in evidence.scores.values() for metric in found)
    rows = [(metric, *(interval_text(found.get(metric)) for found in evidence.scores.values())) for metric in metrics]
    return ("metric", *evidence.scores), rows


def interval_text(found: Interval | None) -> str:
    """Return a score with its interval, if it has one."""
    if found is None:
        return "-"
    bounds = f" [{found.lower:.4f}, {found.upper:.4f}]" if found.lower is not None and found.upper is not None else ""
    return f"{found.point:.4f}{bounds}"


def _rules(rules: Sequence[RuleResult]) -> Section:
    ordered = sorted(rules, key=lambda rule: rule.passed)
    return Section(
        title="Rules of the gate",
        note="Those that failed are first.",
        header=("rule", "value", "limit", "why", "verdict"),
        rows=tuple(
            row_of(
                rule.name,
                shown_value(rule.value),
                shown_value(rule.limit),
                rule.explanation,
                "passed" if rule.passed else "FAILED",
                mark="good" if rule.passed else "bad",
            )
            for rule in ordered
        ),
    )


def _plots(evidence: Evidence, plots: Mapping[str, str]) -> Section:
    about = evidence.about
    explained = f"SHAP values are of {number_of(about.explained_rows, 'row')} of the holdout."
    missing = f"Feature importance and SHAP values: {about.unexplained}."
    curve = "" if evidence.curve else " Learning curve: the estimator records no loss by round."
    return Section(
        title="Plots",
        note=(explained if about.features else missing) + curve,
        figures=tuple(Figure(title=name, note=_ALT[name], svg=svg) for name, svg in plots.items()),
    )


def _slices(evidence: Evidence) -> list[Section]:
    limits = [
        f"{what} {limit:g}"
        for what, limit in (("accuracy at least", evidence.floor), ("lost at most", evidence.max_drop))
        if limit is not None
    ]
    sections = []
    for column in dict.fromkeys(each.column for each in evidence.slices):
        found = sorted((each for each in evidence.slices if each.column == column), key=lambda each: each.accuracy)
        judged = [each for each in found if each.judged]
        rest = len(judged) - SHOWN_SLICES
        few = len(found) - len(judged)
        notes = [f"Limits: {', '.join(limits) or 'switched off'}."]
        notes += [f"Better ones left out: {rest}."] if rest > 0 else []
        notes += [f"With too few rows to be judged: {few}."] if few else []
        sections.append(
            Section(
                title=f"Slices by {column}",
                note=" ".join(notes),
                header=("slice", "rows", "accuracy", "lost against the champion"),
                rows=tuple(
                    row_of(each.name, each.rows, f"{each.accuracy:.4f}", _signed(each.lost))
                    for each in judged[:SHOWN_SLICES]
                ),
            )
        )
    return sections


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _months(evidence: Evidence) -> Section:
    few = (
        ["A month without a row of every class has no macro F1."]
        if any(not m.macro_f1 for m in evidence.months)
        else []
    )
    unknown = [f"{'Not all rows' if evidence.months else 'Not known'}: {evidence.undated}."] if evidence.undated else []
    return Section(
        title="Scores by month",
        note=" ".join(["Rows of the holdout by the date of their label.", *few, *unknown]),
        header=("month", "rows", "groups", "accuracy", "macro F1") if evidence.months else (),
        rows=tuple(
            row_of(each.month, each.rows, each.groups, interval_text(each.accuracy), interval_text(each.macro_f1))
            for each in evidence.months
        ),
    )


def _drift(found: DriftSince) -> Section:
    title = "Drift since the last training"
    if found.unknown:
        return Section(title=title, note=f"Not compared: {found.unknown}.")
    moved, rest = sum(bool(each.drifted) for each in found.features), len(found.features) - SHOWN_DRIFT
    note = (
        f"{number_of(found.rows, 'row')} of the holdout, {found.effective_rows:.0f} effective, compared with what "
        f"version {found.version} was trained on: {moved} of {len(found.features)} features are beyond a limit."
    )
    return Section(
        title=title,
        note=note + (f" Left out, because they moved less: {rest}." if rest > 0 else ""),
        header=("feature", "PSI", "distance", "limit", "missing", "before", "unseen", "before", "drifted"),
        rows=tuple(
            row_of(
                each.feature,
                *map(_number, (each.psi, each.distance, each.limit, each.missing, each.reference_missing)),
                *map(_number, (each.unseen, each.reference_unseen)),
                ", ".join(each.drifted) or "no",
                mark="bad" if each.drifted else "",
            )
            for each in found.features[:SHOWN_DRIFT]
        ),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _data(evidence: Evidence) -> tuple[Section, ...]:
    parts = evidence.parts
    refused, sources = evidence.quarantined, evidence.sources
    rest, older = refused[SHOWN_REASONS:], sources[SHOWN_SOURCES:]
    return (
        Section(
            title="Data",
            note="The snapshot's parts share no group. The model was chosen on the validation part.",
            header=("part", "rows", "groups", *evidence.classes),
            rows=tuple(
                row_of(name, part.rows, part.groups, *(f"{part.shares[each]:.1%}" for each in evidence.classes))
                for name, part in parts.items()
            ),
        ),
        Section(
            title="Source files",
            note=(
                "Ingested before the training, the newest first; a row of a later file replaced that with the same key."
                + _left_out(len(older), "older one", sum(each.written for each in older))
                if sources
                else "None is on record: the store was filled by a release that recorded none."
            ),
            header=("table", "file", "SHA-256", "rows", "accepted", "ingested") if sources else (),
            rows=tuple(
                row_of(
                    each.table, each.file, each.sha256, each.read, each.written, f"{each.ingested_at:%Y-%m-%d %H:%M}"
                )
                for each in sources[:SHOWN_SOURCES]
            ),
        ),
        Section(
            title="Rows quarantined",
            note=(
                "In the store when the model was trained."
                + _left_out(len(rest), "other reason", sum(each.rows for each in rest))
                if refused
                else "None was in the store when the model was trained."
            ),
            header=("table", "file", "reason", "rows") if refused else (),
            rows=tuple(row_of(each.table, each.file, each.reason, each.rows) for each in refused[:SHOWN_REASONS]),
        ),
    )


def _left_out(number: int, what: str, rows: int) -> str:
    return f" Left out: {number_of(number, what)}, {number_of(rows, 'row')}." if number else ""


def _facts(title: str, facts: dict[str, str]) -> Section:
    return Section(title=title, note="" if facts else "Not known.", facts=tuple(facts.items()))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a comparison; `part` is the section that it belongs to."""

    part: str
    what: str
    values: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions side by side.

    Args:
        versions: their numbers.
        same_rows: whether both were scored on the same holdout; if not, their scores cannot be compared.
        lines: what the page of each says, line by line.
    """

    versions: tuple[str, str]
    same_rows: bool
    lines: tuple[Line, ...]

    @property
    def note(self) -> str:
        """Whether the scores of both can be compared."""
        if self.same_rows:
            return "both were scored on the same rows"
        return "scored on different rows: a difference of their scores says nothing about the models"


def compare(first: Judged, second: Judged) -> Comparison:
    """Return two versions side by side, each as its newest decision has it."""
    found = [_facts_of(judged) for judged in (first, second)]
    keys = dict.fromkeys(key for each in found for key in each)
    return Comparison(
        versions=(first.decision.candidate, second.decision.candidate),
        same_rows=first.decision.holdout == second.decision.holdout,
        lines=tuple(
            Line(part=part, what=key[1], values=(found[0].get(key, "-"), found[1].get(key, "-")))
            for part in dict.fromkeys(part for part, _ in keys)
            for key in keys
            if key[0] == part
        ),
    )


def _facts_of(judged: Judged) -> dict[tuple[str, str], str]:
    decision, evidence = judged.decision, judged.evidence
    failed = "; ".join(rule.name for rule in decision.rules if not rule.passed)
    facts = {
        ("decision", "verdict"): str(decision.status),
        ("decision", "rules that failed"): failed or "none",
        ("decision", "decided"): f"{judged.number}, {moment(judged.decided_at)}",
        ("decision", "champion"): decision.champion or "none",
        ("decision", "holdout"): decision.holdout[:12],
    }
    if evidence is None:
        return facts
    facts |= {("scores", name): interval_text(found) for name, found in evidence.scores[THIS].items()}
    facts |= {("rules", rule.name): shown_value(rule.value) for rule in decision.rules}
    facts |= {
        (f"slices by {each.column}", each.name): f"{each.accuracy:.4f}" for each in evidence.slices if each.judged
    }
    facts |= {("scores by month", each.month): interval_text(each.accuracy) for each in evidence.months}
    facts |= {("data", name): number_of(part.rows, "row") for name, part in evidence.parts.items()}
    facts |= {("parameters", name): value for name, value in evidence.parameters.items()}
    facts |= {("environment", name): value for name, value in evidence.about.environment.items()}
    return facts | {("lineage", name): value for name, value in evidence.lineage}


def comparison_page(comparison: Comparison, judged: Sequence[Judged], name: str) -> Page:
    """Return the page of a comparison, with the plots of both versions side by side."""
    from ctcd.promotion.plots import draw

    header = ("what", *(f"version {version}" for version in comparison.versions))
    plots: list[dict[str, Any]] = [draw(each.evidence) if each.evidence else {} for each in judged]
    figures = [
        Section(
            title=kind[0].upper() + kind[1:],
            note=_ALT[kind],
            figures=tuple(
                Figure(title=f"version {version}", svg=drawn[kind])
                for version, drawn in zip(comparison.versions, plots, strict=True)
                if kind in drawn
            ),
        )
        for kind in dict.fromkeys(kind for drawn in plots for kind in drawn)
    ]
    sections = [
        Section(
            title=part.capitalize(),
            header=header,
            rows=tuple(row_of(line.what, *line.values) for line in comparison.lines if line.part == part),
        )
        for part in dict.fromkeys(line.part for line in comparison.lines)
    ]
    return Page(
        title=f"{name}, version {comparison.versions[0]} and version {comparison.versions[1]}",
        verdict=comparison.note,
        good=comparison.same_rows,
        sections=(*sections[:2], *figures, *sections[2:]),
    )
