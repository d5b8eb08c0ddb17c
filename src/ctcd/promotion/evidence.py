"""The evidence of a decision, as plain values that are stored with the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow.models
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ctcd.contract.spec import Contract
from ctcd.errors import number_of, shown
from ctcd.model.metrics import ECE_BINS, Scores, confusion_matrix
from ctcd.model.reference import FeatureDrift
from ctcd.promotion.bootstrap import CONFIDENCE, Interval, intervals
from ctcd.promotion.evaluation import Evaluation, Model
from ctcd.promotion.policy import Policy, Slices
from ctcd.promotion.slices import Slicing
from ctcd.registry.versions import IMAGE, RegisteredVersion
from ctcd.store.ingested import Quarantined, SourceFile
from ctcd.training.summary import Part, TrainingReport

EXPLAINED_ROWS = 500
"""Maximum number of rows of the holdout whose SHAP values are computed."""
SHOWN_FILES = 5
"""Number of newest source files named in the lineage."""
THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""Probabilities at which precision and recall of each class are computed."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows whose confidence is in the same bin of the expected calibration error.

    Args:
        confidence: mean probability of the predicted class, 0 to 1.
        accuracy: share of rows, 0 to 1, whose predicted class is the true one.
    """

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """A slice of the holdout.

    Args:
        accuracy: accuracy of the version on the slice, 0 to 1.
        judged: whether it has as many rows as the policy requires.
        lost: accuracy lost compared with the champion, on rows that neither was trained on; None if it is not compared.
    """

    column: str
    name: str
    rows: int
    accuracy: float
    judged: bool
    lost: float | None


@dataclass(frozen=True, kw_only=True)
class Month:
    """The rows of the holdout whose labels are dated in a month.

    Args:
        month: as in 2025-09.
        macro_f1: None if a class does not occur in it.
    """

    month: str
    rows: int
    groups: int
    accuracy: Interval
    macro_f1: Interval | None


@dataclass(frozen=True, kw_only=True)
class DriftSince:
    """The drift of a snapshot since the training of the champion, measured on the holdout.

    Args:
        version: of the champion; empty if nothing was compared.
        rows: size of the holdout.
        effective_rows: number of independent rows that they count as; see `ctcd.model.reference.effective_rows`.
        level: probability of a false alarm of each comparison, 0 to 1.
        features: all monitored features; those beyond a limit, and with the largest PSI, come first.
        unknown: why nothing was compared.
    """

    version: str = ""
    rows: int = 0
    effective_rows: float = 0.0
    level: float = 0.0
    features: tuple[FeatureDrift, ...] = ()
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """The importance of a feature in the model.

    Args:
        change: share, in percent, of the change of the prediction that the feature causes.
        shap: by class, the mean absolute SHAP value, in log-odds.
    """

    name: str
    change: float
    shap: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class About:
    """Facts from the model's files.

    Args:
        features: all features, the most important first; empty if they are not known.
        explained_rows: number of rows of the holdout for which SHAP values were computed.
        unexplained: why there are no features.
        environment: versions of Python and of each package that the model was trained with, by name.
    """

    features: tuple[Feature, ...] = ()
    explained_rows: int = 0
    unexplained: str = ""
    environment: dict[str, str]


_OF_BEFORE = DriftSince(unknown="an earlier release decided this")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The content of the page about a version, besides the decision. It contains only aggregates, no rows or groups.

    Args:
        rows: size of the holdout.
        groups: number of distinct groups in it.
        confidence: coverage of the intervals, 0 to 1.
        scores: by model ("this version", "champion", and each baseline) and metric. Metrics that are not resampled have
            no interval bounds.
        seen: rows of the holdout whose groups the champion was trained on; None without a champion.
        confusion: counts; rows are true classes, columns predicted ones.
        thresholds: thresholds on the probability of a class at which precision and recall are computed.
        precision: by class, at each threshold; None where no row has that probability.
        recall: by class, at each threshold.
        floor: the policy's minimum accuracy of a slice; None if it is disabled.
        max_drop: the policy's maximum loss of a slice compared with the champion; None if it is disabled.
        curve: loss by round; see `Trial.curve`.
        best_round: round at which the training stopped.
        parts: rows, groups and class shares of each part of the snapshot.
        quarantined: rows in the quarantine when the model was trained.
        sources: files that had been ingested when the model was trained, the newest first.
        drift: of the holdout, compared with what the champion was trained on.
        months: scores of the version by month of the label, the oldest first.
        undated: why some or all rows are not assigned to a month; empty if all are.
        parameters: those of the best trial, with the profile and the estimator.
        lineage: what the version was made from, from the source files to the image, by step.
    """

    classes: tuple[str, ...]
    rows: int
    groups: int
    confidence: float
    scores: dict[str, dict[str, Interval]]
    seen: int | None
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[Bin, ...]
    thresholds: tuple[float, ...]
    precision: dict[str, tuple[float | None, ...]]
    recall: dict[str, tuple[float, ...]]
    slices: tuple[SliceScore, ...]
    floor: float | None
    max_drop: float | None
    about: About
    curve: dict[str, tuple[float, ...]]
    best_round: int
    parts: dict[str, Part]
    quarantined: tuple[Quarantined, ...]
    sources: tuple[SourceFile, ...] = ()
    drift: DriftSince = _OF_BEFORE
    months: tuple[Month, ...] = ()
    undated: str = "an earlier release decided this"
    parameters: dict[str, str]
    lineage: tuple[tuple[str, str], ...]


EVIDENCE = TypeAdapter(Evidence)
THIS, CHAMPION = "this version", "champion"
"""Models in `Evidence.scores`."""


def look_into(model: Model, folder: Path, holdout: pd.DataFrame) -> About:
    """Return facts from a model's files: the importance of its features, and its training environment.

    Args:
        model: pyfunc of MLflow; anything else counts as a model that could not be loaded.
        folder: has the files of the logged model, `MLmodel` and `requirements.txt` among them.
        holdout: rows of which some are explained.
    """
    try:
        environment = _environment(folder)
        unwrap = getattr(model, "unwrap_python_model", None)
        scorer = unwrap().scorer if unwrap else None
        if scorer is None:
            return About(environment=environment, unexplained="the model could not be loaded")
        places = np.unique(np.linspace(0, len(holdout) - 1, EXPLAINED_ROWS).astype(np.intp))
        found = scorer.estimator.importance(scorer.estimator.encode_frame(holdout.iloc[places]))
        if found is None:
            reason = f"not available for the estimator {scorer.estimator.name}: only trees have it"
            return About(environment=environment, unexplained=reason)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a model of an instance may raise anything; this is not a rule of the gate
        return About(environment={}, unexplained=shown(error))
    order = np.argsort(-found.change, kind="stable")
    features = tuple(
        Feature(
            name=found.names[place],
            change=float(found.change[place]),
            shap=dict(zip(scorer.classes, found.shap[place].tolist(), strict=True)),
        )
        for place in order.tolist()
    )
    return About(features=features, explained_rows=len(places), environment=environment)


def _environment(folder: Path) -> dict[str, str]:
    described = mlflow.models.Model.load(str(folder))
    python = described.flavors.get("python_function", {}).get("python_version", "unknown")
    pinned = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    return {"python": python, **dict(line.split("==") for line in pinned if line.count("==") == 1)}


def collect(
    candidate: Evaluation,
    champion: Evaluation | None,
    *,
    holdout: pd.DataFrame,
    about: About,
    drift: DriftSince,
    report: TrainingReport,
    policy: Policy,
    contract: Contract,
    version: RegisteredVersion,
    deployed: Sequence[str] = (),
) -> Evidence:
    """Return the evidence about a candidate.

    Args:
        candidate: what the gate has measured of it on the holdout.
        champion: evaluation of the champion on the same rows; None without a champion.
        holdout: the rows that both were evaluated on.
        about: from `look_into`.
        drift: of the holdout, compared with what the champion was trained on.
        report: the report of the candidate's training.
        policy: has the number of rows that a slice needs, and its limits.
        contract: the contract in force.
        version: the candidate in the registry.
        deployed: its deployed artifacts: tags of Bentos, and digests of images.
    """
    best = report.trials[report.best]
    rule = policy.slices if isinstance(policy.slices, Slices) else None
    precision, recall = _by_threshold(candidate)
    limits = (rule.accuracy, rule.max_drop) if rule else (None, None)
    floor, max_drop = (limit if isinstance(limit, float) else None for limit in limits)
    months, undated = _months(candidate, holdout, contract)
    return Evidence(
        classes=candidate.classes,
        rows=len(candidate.truth),
        groups=len(np.unique(candidate.groups)),
        confidence=CONFIDENCE,
        scores={
            THIS: _scores(candidate),
            **({CHAMPION: _scores(champion)} if champion else {}),
            **{name.replace("_", " "): _points(each) for name, each in report.baselines.items()},
        },
        seen=int(champion.seen.sum()) if champion else None,
        confusion=_confusion(candidate),
        calibration=_calibration(candidate),
        thresholds=THRESHOLDS,
        precision=precision,
        recall=recall,
        slices=tuple(_slices(candidate, champion, rule)) if rule else (),
        floor=floor,
        max_drop=max_drop,
        about=about,
        curve={name: tuple(values) for name, values in best.curve.items()},
        best_round=best.iterations,
        parts=report.parts,
        quarantined=report.quarantined,
        sources=report.sources,
        drift=drift,
        months=months,
        undated=undated,
        parameters=_parameters(report),
        lineage=_lineage(report, contract, version, deployed),
    )


def _points(found: Scores) -> dict[str, Interval]:
    """Return the scores by the names that the decision gives them."""
    ranking = {"ROC AUC": found.roc_auc, "average precision": found.average_precision}
    return {
        name: Interval(point=value)
        for name, value in {
            "accuracy": found.accuracy,
            "macro F1": found.macro_f1,
            **{f"recall of {name}": value for name, value in found.recall.items()},
            "log loss": found.log_loss,
            "expected calibration error": found.ece,
            **ranking,
        }.items()
        if value is not None
    }


def _scores(found: Evaluation) -> dict[str, Interval]:
    if found.scores is None:
        return {}
    classes = len(found.classes)
    shape = intervals(found.truth, found.predicted, found.groups, classes=classes)
    labels = ["accuracy", "macro F1", *(f"recall of {name}" for name in found.classes)]
    return _points(found.scores) | dict(zip(labels, shape, strict=True))


def _confusion(found: Evaluation) -> tuple[tuple[int, ...], ...]:
    if found.probabilities is None:
        return ()
    table = confusion_matrix(found.truth, found.predicted, len(found.classes))
    return tuple(tuple(row) for row in table.tolist())


def _calibration(found: Evaluation) -> tuple[Bin, ...]:
    """Return the bins of `expected_calibration_error` that have rows, by confidence."""
    if found.probabilities is None:
        return ()
    sure = found.probabilities[np.arange(len(found.predicted)), found.predicted]
    hit = found.predicted == found.truth
    place = np.clip(np.ceil(sure * ECE_BINS).astype(np.intp) - 1, 0, ECE_BINS - 1)
    return tuple(
        Bin(rows=int(here.sum()), confidence=float(sure[here].mean()), accuracy=float(hit[here].mean()))
        for here in (place == each for each in np.unique(place))
    )


def _by_threshold(found: Evaluation) -> tuple[dict[str, tuple[float | None, ...]], dict[str, tuple[float, ...]]]:
    """Return precision and recall of each class by threshold on its probability."""
    precision: dict[str, tuple[float | None, ...]] = {}
    recall: dict[str, tuple[float, ...]] = {}
    if found.probabilities is None:
        return precision, recall
    for index, name in enumerate(found.classes):
        true = found.truth == index
        chosen = found.probabilities[:, index, None] >= np.array(THRESHOLDS)
        hits, counts = (chosen & true[:, None]).sum(axis=0), chosen.sum(axis=0)
        precision[name] = tuple(float(h / n) if n else None for h, n in zip(hits, counts, strict=True))
        recall[name] = tuple((hits / true.sum()).tolist())
    return precision, recall


def _slices(candidate: Evaluation, champion: Evaluation | None, rule: Slices) -> list[SliceScore]:
    if candidate.probabilities is None:
        return []
    hits = (candidate.predicted == candidate.truth).astype(np.float64)
    lost, unseen = np.zeros(len(hits)), np.zeros(len(hits), dtype=bool)
    if champion is not None and champion.probabilities is not None:
        lost, unseen = (champion.predicted == champion.truth) - hits, ~(candidate.seen | champion.seen)
    found = []
    for slicing in candidate.slices:
        rows, right = _counted(slicing, hits, np.ones(len(hits), dtype=bool))
        compared, drops = _counted(slicing, lost, unseen)
        found += [
            SliceScore(
                column=slicing.column,
                name=name,
                rows=int(rows[place]),
                accuracy=float(right[place] / rows[place]),
                judged=bool(rows[place] >= rule.min_rows),
                lost=float(drops[place] / compared[place]) if compared[place] >= rule.min_rows else None,
            )
            for place, name in enumerate(slicing.names)
            if rows[place]
        ]
    return found


def _months(found: Evaluation, holdout: pd.DataFrame, contract: Contract) -> tuple[tuple[Month, ...], str]:
    """Return the scores by month, and why some rows are not assigned to one."""
    if not contract.dated:
        return (), "the contract has no event date"
    if found.probabilities is None:
        return (), "the version could not be scored"
    if contract.event_date.name not in holdout:
        return (), "the snapshot was taken by a release that kept no dates"
    of_row = holdout[contract.event_date.name].dt.strftime("%Y-%m")
    classes, months = len(found.classes), []
    for month in sorted(of_row.dropna().unique()):
        here = (of_row == month).to_numpy()
        truth, groups = found.truth[here], found.groups[here]
        accuracy, macro_f1, *_ = intervals(truth, found.predicted[here], groups, classes=classes)
        every = len(np.unique(truth)) == classes
        months.append(
            Month(
                month=month,
                rows=int(here.sum()),
                groups=len(np.unique(groups)),
                accuracy=accuracy,
                macro_f1=macro_f1 if every else None,
            )
        )
    without = int(of_row.isna().sum())
    return tuple(months), f"{number_of(without, 'row')} of a release that kept no dates" if without else ""


def _counted(
    slicing: Slicing, values: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the number of wanted rows in each slice, and the sum of their values."""
    place, count = slicing.place[wanted], len(slicing.names)
    sums = np.bincount(place, weights=values[wanted], minlength=count)
    return np.bincount(place, minlength=count), sums.astype(np.float64)


def _parameters(report: TrainingReport) -> dict[str, str]:
    best = report.trials[report.best]
    chosen = {
        "profile": report.profile,
        "estimator": report.estimator,
        "seed": report.seed,
        **best.params,
        "rounds": best.iterations,
        "decides by": report.threshold or "the most probable class",
        "trials": f"{len(report.trials)}, of which number {report.best + 1} was the best",
    }
    return {name: str(value) for name, value in chosen.items()}


def _lineage(
    report: TrainingReport, contract: Contract, version: RegisteredVersion, deployed: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    code = f", estimator's code {report.code_sha256[:12]}" if report.code_sha256 else ""
    files = ", ".join(f"{each.file} ({each.sha256[:12]})" for each in report.sources[:SHOWN_FILES])
    rest = len(report.sources) - SHOWN_FILES
    return (
        (
            "source files",
            f"{files or 'none is on record'}{f', and {rest} that were ingested before' if rest > 0 else ''}",
        ),
        ("feature store", f"{contract.features_table}, {contract.labels_table}"),
        ("snapshot", f"{contract.snapshot_table} of {report.base_dt}, data {report.data_hash}"),
        ("contract", f"{contract.name} {report.contract_version}"),
        ("source", f"git revision {report.git_revision}{code}"),
        ("training run", report.run_id),
        ("model version", f"{version.model_name} {version.version}"),
        ("image", version.tags.get(IMAGE, "none had been released when this was decided")),
        ("deployed", ", ".join(deployed) or "not when this was decided"),
    )
