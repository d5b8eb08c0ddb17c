"""The distributions of a model's training data, in bins that are stored with the model, to detect drift."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ctcd.model.encoder import Encoder
from ctcd.model.scorer import Predictions

BINS = 10
"""Bins of a number, which hold about equally many rows."""
LEAST_SHARE = 0.025
"""Smallest share of a bin in the reference, 0 to 1: rarer categories and values share a bin with their neighbours, but
never with one that nearly all rows have."""
PREDICTION, CONFIDENCE = "(prediction)", "(confidence)"
"""Names under which the predicted classes and the confidence stand beside the features."""

Values = NDArray[Any]


def effective_rows(rows: float, squares: float) -> float:
    """Return the effective number of rows: how many independent rows estimate a share as precisely as rows in groups.

    Kish (1965), Survey Sampling, section 11.7: (sum of n)^2 / sum of n^2 over the groups' rows n. That is the worst
    case, in which all rows of a group are equal: in the words of Rao and Scott (1981), The Analysis of Categorical Data
    from Complex Sample Surveys, JASA 76, a chi-square statistic is divided by the largest possible design effect.

    Args:
        rows: of all groups together.
        squares: sum over the groups of their squared numbers of rows.
    """
    return rows * rows / squares if squares else 0.0


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How the values of a column are distributed.

    Args:
        bins: number of values in each bin.
        missing: number of missing values.
        unseen: number of values that are none of the reference's categories. In the reference itself, that of the
            categories of a single group: each would be unseen if its group were left out, so their share estimates that
            of unseen values among new groups (Good (1953), The Population Frequencies of Species, Biometrika 40).
    """

    bins: tuple[int, ...]
    missing: int
    unseen: int

    @property
    def rows(self) -> int:
        """Number of rows with these values."""
        return sum(self.bins) + self.missing + self.unseen

    def plus(self, other: "Counts") -> "Counts":
        """Return the counts of both."""
        return Counts(
            bins=tuple(one + two for one, two in zip(self.bins, other.bins, strict=True)),
            missing=self.missing + other.missing,
            unseen=self.unseen + other.unseen,
        )


@dataclass(frozen=True, kw_only=True)
class Binned:
    """The reference of one column.

    Args:
        edges: of a number, the lower edges of all bins but the first; empty for categories.
        categories: bin of each category; None for a number.
        counts: the distribution in the reference.
        effective: effective number of rows of the reference.
    """

    edges: tuple[float, ...]
    categories: dict[str, int] | None
    counts: Counts
    effective: float

    @classmethod
    def of(cls, values: Values, groups: Values, *, known: Sequence[str] = ()) -> Self:
        """Return the reference of some rows.

        Args:
            values: numbers, NaN where missing, or texts, None where missing; shape (rows,).
            groups: the group that each row is of, shape (rows,).
            known: categories that are not unseen even if they do not occur.
        """
        sizes = pd.Series(groups).value_counts()
        effective = effective_rows(int(sizes.sum()), int((sizes**2).sum()))
        if values.dtype != object:
            edges = _edges(values[~np.isnan(values)])
            nothing = Counts(bins=(), missing=0, unseen=0)
            counts = cls(edges=edges, categories=None, counts=nothing, effective=effective).count(values)
            return cls(edges=edges, categories=None, counts=counts, effective=effective)
        found = Counter(value for value in values.tolist() if value is not None)
        ordered = sorted({*found, *known}, key=lambda name: (-found[name], name))
        place = _merged_categories([found[name] for name in ordered])
        categories = dict(zip(ordered, place, strict=True))
        bins = [0] * (max(place, default=-1) + 1)
        for name, count in found.items():
            bins[categories[name]] += count
        value, texts = pd.factorize(values)
        pairs = pd.DataFrame({"value": value, "group": pd.factorize(groups)[0]}).drop_duplicates()
        of_groups = np.bincount(pairs["value"][pairs["value"] >= 0], minlength=len(texts))
        unseen = sum(found[name] for name in texts[of_groups == 1].tolist() if name not in known)
        counts = Counts(bins=tuple(bins), missing=len(values) - found.total(), unseen=unseen)
        return cls(edges=(), categories=categories, counts=counts, effective=effective)

    def count(self, values: Values) -> Counts:
        """Return how values, as those that the reference was made of, fall into its bins."""
        if self.categories is None:
            there = values[~np.isnan(values)]
            bins = np.bincount(np.searchsorted(self.edges, there, side="right"), minlength=len(self.edges) + 1)
            return Counts(bins=tuple(bins.tolist()), missing=len(values) - len(there), unseen=0)
        found = Counter(values.tolist())
        missing, unseen, into = found.pop(None, 0), 0, [0] * len(self.counts.bins)
        for name, count in found.items():
            place = self.categories.get(name)
            if place is None:
                unseen += count
            else:
                into[place] += count
        return Counts(bins=tuple(into), missing=missing, unseen=unseen)


def _merged(counts: Sequence[int]) -> list[int]:
    """Return for each of some cells, which are neighbours, the bin that it belongs to, so that no bin is too small."""
    least = sum(counts) * LEAST_SHARE
    place: list[int] = []
    last = size = 0
    for count in counts:
        if size and size >= least:
            last, size = last + 1, 0
        place.append(last)
        size += count
    if size < least:
        place = [min(each, max(last - 1, 0)) for each in place]
    return place


def _merged_categories(counts: Sequence[int]) -> list[int]:
    """Return the same for categories, the most frequent one first, which never shares a bin with all others."""
    place = _merged(counts)
    return place if any(place) else [0, *[1] * (len(counts) - 1)][: len(counts)]


def _edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    if not len(values):
        return ()
    inner = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    # A frequent value gets a bin of its own: between itself and the next number.
    cells = np.unique(np.concatenate([inner, np.nextafter(inner, np.inf)]))
    place = np.array(
        _merged(np.bincount(np.searchsorted(cells, values, side="right"), minlength=len(cells) + 1).tolist())
    )
    # If nearly all values are equal, that value is separated from lower and higher ones, whether these occur or not.
    edges = cells[place[1:] != place[:-1]] if place.any() else np.unique([inner[0], np.nextafter(inner[0], np.inf)])
    return tuple(edges.tolist())


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The reference of a model: all features of its snapshot, and its answers on the holdout, which it had not seen.

    Args:
        encoder: turns rows into the features.
        columns: the features as the model sees them: a list is a count for each entry.
        answers: the predicted classes and the confidence.
    """

    encoder: Encoder
    columns: dict[str, Binned]
    answers: dict[str, Binned]

    def count(self, rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> dict[str, Counts]:
        """Return how the features of rows, a frame or mappings, fall into the bins, by column.

        Raises:
            UsageError: a column is missing or has values of another kind.
        """
        values = self.encoder.values(rows)
        return {name: binned.count(values[name]) for name, binned in self.columns.items()}

    def count_answers(self, classes: Sequence[str], confidences: Sequence[float]) -> dict[str, Counts]:
        """Return how predicted classes and confidences fall into the bins."""
        return {name: self.answers[name].count(values) for name, values in _answers(classes, confidences).items()}

    def to_json(self) -> bytes:
        """Return the reference as a JSON document."""
        return _DOCUMENTS.dump_json(self, indent=2)

    @classmethod
    def from_json(cls, document: bytes) -> "Reference":
        """Return what `to_json` wrote.

        Raises:
            pydantic.ValidationError: the document has other content.
        """
        return _DOCUMENTS.validate_json(document)


def make_reference(
    encoder: Encoder, snapshot: Sequence[pd.DataFrame], holdout: pd.DataFrame, answers: Predictions, *, group: str
) -> Reference:
    """Return the reference of a model.

    Args:
        encoder: of the model; gives the values of each row.
        snapshot: all rows of its snapshot, in parts.
        holdout: those that it did not see.
        answers: what it predicts for them.
        group: name of the column with the group of a row.
    """
    groups = np.concatenate([part[group].to_numpy() for part in snapshot])
    # One column of all parts after the other: together they take more memory than the rows.
    columns = (list(zip(*each, strict=True)) for each in zip(*map(encoder.frame_values, snapshot), strict=True))
    values = _answers(answers.classes, answers.confidences)
    known = {PREDICTION: answers.class_order}
    return Reference(
        encoder=encoder,
        columns={name: Binned.of(np.concatenate(each), groups) for (name, *_), each in columns},
        answers={
            name: Binned.of(each, holdout[group].to_numpy(), known=known.get(name, ())) for name, each in values.items()
        },
    )


def _answers(classes: Sequence[str], confidences: Sequence[float]) -> dict[str, Values]:
    return {PREDICTION: np.array(classes, dtype=object), CONFIDENCE: np.array(confidences, dtype=np.float64)}


_DOCUMENTS = TypeAdapter(Reference)


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """How the values of one feature differ from its reference; `ctcd.monitoring.drift` judges that.

    Args:
        feature: name of the feature as the model sees it, such as "column: entry" for a list; "(prediction)" and
            "(confidence)" for the answers.
        psi: population stability index; None if all values are in one bin.
        distance: Jensen-Shannon distance, with bins that are too small for a limit merged into one; None likewise.
        limit: the distance that chance exceeds only as often as the allowed false alarms; None likewise, and if at most
            two bins are left, which are compared by an exact test as the shares are.
        missing: share of missing values, 0 to 1.
        reference_missing: that in the reference.
        unseen: share of values, 0 to 1, that the reference does not have; None for a number.
        reference_unseen: the share expected among new rows of the same distribution, estimated from the reference.
        drifted: what is beyond its limits: "distribution", "missing", "unseen".
    """

    feature: str
    psi: float | None
    distance: float | None
    limit: float | None
    missing: float
    reference_missing: float
    unseen: float | None
    reference_unseen: float | None
    drifted: tuple[str, ...]
