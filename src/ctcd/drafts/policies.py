"""The drafts of the policies: floors halfway between a trivial model and a logistic regression, and slices of enough rows."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ctcd.contract.columns import Role
from ctcd.contract.spec import Contract, Kind
from ctcd.drafts.columns import Found
from ctcd.drafts.features import rounded
from ctcd.model.metrics import Scores
from ctcd.model.threshold import Threshold
from ctcd.promotion.slices import EACH_VALUE
from ctcd.training.split import Split

SLICE_ROWS = (50, 30)
"""Minimum number of rows of a slice: the first value that yields any slices is used."""
SLICED = 3
"""Maximum number of sliced columns."""
LEAST_RECALL = 0.02
"""Minimum recall of the regression for a class to get a floor."""
BANDS = 3
"""Maximum number of slices of a numeric column."""
_TEMPLATES = Environment(  # noqa: S701 - it renders TOML and Python, no HTML
    loader=PackageLoader("ctcd", "templates/instance"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
)


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Scores of the majority class and of a logistic regression on the holdout."""

    majority: Scores
    logistic: Scores

    @property
    def chance(self) -> float:
        """Standard error of the regression's accuracy on the holdout."""
        share = min(max(self.logistic.accuracy, 0.1), 0.9)
        return math.sqrt(share * (1 - share) / self.logistic.rows)


def drafted_threshold(split: Split, contract: Contract) -> Threshold | None:
    """Return the threshold 0.5 for the rarer of two classes; None if there are more classes."""
    rarest = str(split.train[contract.label.name].value_counts().index[-1])
    return Threshold(positive=rarest, value=0.5) if len(contract.classes) == 2 else None


def policies(
    contract: Contract, columns: Iterable[Found], split: Split, found: Baselines, threshold: Threshold | None
) -> dict[str, str]:
    """Return the content of the policies and of `payload.py` by file name; the threshold is that of the baselines."""
    holdout, rows = split.holdout, len(split.holdout)
    slice_rows, slices = _slices(columns, holdout)
    shares = holdout[contract.label.name].value_counts(normalize=True)
    # A holdout of few groups may have less of the most frequent class than the other rows; the next one may not.
    labels = pd.concat([part[contract.label.name] for part in split.parts().values()])
    trivial = max(found.majority.accuracy, float(labels.value_counts(normalize=True).iloc[0]))
    facts: dict[str, Any] = {
        "rows": f"{rows:,}",
        "majority": _shown(found.majority),
        "most_frequent": f"{trivial:.2f}",
        "logistic": _shown(found.logistic),
        "chance": f"{found.chance:.2f}",
        "floors": {
            "accuracy": _floor(trivial, found.logistic.accuracy, found),
            # Random guessing by class frequency has a macro F1 of about one divided by the number of classes.
            "macro_f1": _floor(max(found.majority.macro_f1, 1 / len(contract.classes)), found.logistic.macro_f1, found),
            "recall": {toml_key(name): _half(found.logistic.recall[name]) for name in contract.classes},
        },
        "binary": threshold
        and {
            "positive": _toml_text(threshold.positive),
            "threshold": threshold.value,
            **{
                name: _floor(getattr(found.majority, name), getattr(found.logistic, name), found)
                for name in ("roc_auc", "average_precision")
            },
        },
        "compared": min(100, max(30, rows // 2)),
        "slices": {toml_key(name): json.dumps(cut) for name, cut in slices.items()},
        "slice_rows": slice_rows,
        "slice_accuracy": max(0.05, round(found.logistic.accuracy - 1 / math.sqrt(slice_rows), 2)),
        "max_ece": round(min(0.4, max(0.08, found.logistic.ece + 3 * found.chance)), 2),
        "min_class_share": min(0.02, max(0.001, round(float(shares.min()) / 2, 3))),
        "classes": len(contract.classes),
        "inputs": len(contract.model_inputs),
        "iterations": 2000 if len(contract.classes) * len(contract.model_inputs) < 200 else 500,
        "row_name": "Row",
    }
    return {name: _TEMPLATES.get_template(f"{name}.j2").render(facts) for name in file_names()}


def file_names() -> list[str]:
    """Return the names of the policies' files and of `payload.py`."""
    return sorted(name.removesuffix(".j2") for name in _TEMPLATES.list_templates())


def _floor(trivial: float, regression: float, found: Baselines) -> str:
    gap = (regression - trivial) / 2
    if gap < 1.5 * found.chance:
        reason = f"a regression reaches {regression:.2f}, a trivial model {trivial:.2f}: chance alone may be as much"
        return _disabled(reason)
    return f"{trivial + gap:.{2 if gap > 0.01 else 3}f}"  # rounding does not lower it to the trivial score


def _half(recall: float) -> str:
    if recall < LEAST_RECALL:
        return _disabled(f"a regression reaches {recall:.2f}: nothing says what a model can")
    return str(round(recall / 2, 2))


def _disabled(reason: str) -> str:
    return f'{{ disabled = true, reason = "{reason}" }}'


def _slices(columns: Iterable[Found], holdout: pd.DataFrame) -> tuple[int, Mapping[str, Any]]:
    """Return the minimum number of rows of a slice, and how to slice the columns, protected ones first."""
    inputs = sorted((each for each in columns if each.role is Role.FEATURE), key=lambda each: not each.protected)
    for least in SLICE_ROWS:
        cuts = {each.source: cut for each in inputs if (cut := _cut(each, holdout[each.source], least))}
        if cuts:
            break
    return least, dict(list(cuts.items())[:SLICED])


def _cut(found: Found, values: "pd.Series[Any]", least: int) -> Any:
    """Return how to slice a column so that two slices have enough rows; None if that cannot be done."""
    if found.number and not found.categories:
        bands = min(BANDS, int(values.notna().sum()) // (2 * least))
        ranks = [band / bands for band in range(1, bands)] if bands > 1 else []
        edges = sorted({float(rounded(float(values.quantile(rank)), 2)) for rank in ranks})
        if len(levels := sorted(set(values.dropna()))) <= BANDS:
            edges = [float(level) for level in levels[1:]]
        place = np.searchsorted(edges, values.dropna().to_numpy(dtype=float), side="right")
        return edges if edges and np.sum(np.bincount(place) >= least) > 1 else None
    if not found.categories and found.kind is not Kind.BOOLEAN:
        return None
    return EACH_VALUE if (values.value_counts() >= least).sum() > 1 else None


def toml_key(name: str) -> str:
    """Return a key of a TOML table."""
    if name.isascii() and name.replace("_", "").replace("-", "").isalnum():
        return name
    return _toml_text(name)


def _toml_text(text: str) -> str:
    # TOML has no surrogates, which JSON writes unless asked not to, and wants DEL escaped, which JSON does not do.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(scores: Scores) -> dict[str, str]:
    numbers = {name: value for name, value in vars(scores).items() if isinstance(value, float)}
    return {name: f"{value:.2f}" for name, value in numbers.items()}
