"""Drift: false alarms in quiet weeks, and the rows that planted drifts take to be found."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE
from support.serving import small_scorer

from ctcd.cli.output import out, table
from ctcd.model.reference import CONFIDENCE, PREDICTION, Binned, effective_rows
from ctcd.monitoring.drift import compared, comparisons
from ctcd.monitoring.periods import LOOKS, Period
from ctcd.monitoring.tolerances import load_tolerances

LIMITS = load_tolerances(INSTANCE).drift
WEEKS, WEEKS_OF_REFERENCE = 1_000, 20
"""Simulated quiet weeks, and how many of them have the same reference."""
POPULATION, REFERENCE_GROUPS, GROUPS_OF_DAY = 40_000, 5_000, 450
"""Rows that all samples are drawn from, groups of a reference, and groups that ask on a day, each one to three times."""
SIZES, REPEATS, ENOUGH = (300, 500, 1_000, 2_000, 5_000, 10_000, 20_000), 40, 0.9
"""Rows in which drifts are looked for, how often each, and the share of times in which one has to be found."""
NANNYML = "BENCH_NANNYML"
"""Variable with the path of a Python that has nannyml, for a comparison: it is no dependency of ours."""
GROUP = CONTRACT.group.name

Values = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class QuietResult:
    """False alarms in simulated weeks without drift; each has seven days and the week itself that are judged.

    Args:
        looks: days and weeks that were judged.
        allowed: false alarms that the limits allow in so many looks.
        alarms: those that there were.
        alarms_of_any_size: those that there would be without a smallest size of what matters.
        alarms_above_psi: distributions with a PSI above 0.1, the limit by custom, whatever the number of rows.
    """

    weeks: int
    looks: int
    comparisons: int
    allowed: float
    alarms: int
    alarms_of_any_size: int
    alarms_above_psi: int


@dataclass(frozen=True, kw_only=True)
class PowerResult:
    """How often a planted drift is found.

    Args:
        feature: the column that it is looked for in.
        found: share of the repeats, 0 to 1, in which it was found, by number of independent rows.
        rows: smallest number of rows in which it was found in 9 of 10 repeats; None if there is none.
        found_by_nannyml: likewise, by nannyml on the same rows; None if it was not asked.
    """

    drift: str
    feature: str
    found: dict[int, float]
    rows: int | None
    found_by_nannyml: dict[int, float] | None


@dataclass(frozen=True, kw_only=True)
class NannymlResult:
    """What nannyml, with its own thresholds, says of rows that have not drifted.

    Args:
        rows: rows of a day.
        alerts: share of the features of a day, 0 to 1, that it alarms about.
        false_alarms_per_year: as many as that makes of all features and days.
    """

    rows: int
    alerts: float
    false_alarms_per_year: float


def run(_data: Path | None) -> list[Any]:
    """Simulate, plant and measure; all on the contract of the tests."""
    population = _Population()
    quiet = _quiet(population)
    nannyml = _Nannyml(population) if os.environ.get(NANNYML) else None
    table(
        "Quiet weeks: false alarms",
        ("weeks", "looks", "comparisons", "allowed", "alarms", "of any size", "PSI above 0.1"),
        [tuple(vars(quiet).values())],
    )
    power = _power(population, nannyml)
    table(
        f"Planted drifts: found in 9 of 10 of {REPEATS} samples, beside a reference of {REFERENCE_GROUPS:,} groups",
        ("drift", "feature", "rows", *map(str, SIZES)),
        [(each.drift, each.feature, each.rows, *each.found.values()) for each in power],
    )
    _plot(power, Path(__file__).parent / "results" / "monitoring.png")
    others = [nannyml.quiet()] if nannyml else []
    for each in others:
        out.print(f"nannyml, {each.rows} rows a day without drift: {each.false_alarms_per_year:.0f} alarms a year")
    return [quiet, *power, *others]


class _Population:
    """Rows that samples are drawn from, with the answers of a small model; drawing is repeatable."""

    def __init__(self) -> None:
        frame = snapshot_frame(CONTRACT, rows=POPULATION, seed=5)
        frame = frame.sort_values(GROUP, ignore_index=True)
        answers = small_scorer().predict(frame)
        self.random = np.random.default_rng(20_250_903)
        self.values: Values = small_scorer().encoder.values(frame) | {
            PREDICTION: np.array(answers.classes, dtype=object),
            CONFIDENCE: np.array(answers.confidences),
            CONTRACT.label.name: frame[CONTRACT.label.name].to_numpy(dtype=object),
        }
        _, self._first, self._rows = np.unique(frame[GROUP].to_numpy(), return_index=True, return_counts=True)

    def reference(self) -> dict[str, Binned]:
        """Return the bins of all rows of some groups, and those of the answers for a fifth of them."""
        groups = self.random.integers(len(self._first), size=REFERENCE_GROUPS)
        rows = np.concatenate([self._first[each] + np.arange(self._rows[each]) for each in groups])
        of = np.repeat(np.arange(len(groups)), self._rows[groups])
        holdout = of < len(groups) // 5
        binned = {}
        for name, values in self.values.items():
            if name == CONTRACT.label.name:
                continue
            kept = holdout if name in (PREDICTION, CONFIDENCE) else np.ones(len(rows), dtype=bool)
            known = CONTRACT.classes if name == PREDICTION else ()
            binned[name] = Binned.of(values[rows[kept]], of[kept], known=known)
        return binned

    def requests(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows that some groups ask about, and how often each group asks: one to three times."""
        groups = self.random.integers(len(self._first), size=GROUPS_OF_DAY)
        asked = self.random.integers(1, 4, size=len(groups))
        each = np.repeat(groups, asked)
        return self._first[each] + (self.random.random(len(each)) * self._rows[each]).astype(np.intp), asked

    def independent(self, rows: int) -> Values:
        """Return rows of as many groups."""
        groups = self.random.integers(len(self._first), size=rows)
        taken = self._first[groups] + (self.random.random(rows) * self._rows[groups]).astype(np.intp)
        return {name: values[taken] for name, values in self.values.items()}


def _level(binned: dict[str, Binned]) -> float:
    return LIMITS.level(sum(map(comparisons, binned.values())))


def _quiet(population: _Population) -> QuietResult:
    any_size = LIMITS.model_copy(update={"min_psi": 0.0, "min_share": 0.0})
    looks = checks = alarms = of_any_size = above = 0
    for number in range(WEEKS):
        if number % WEEKS_OF_REFERENCE == 0:
            binned = population.reference()
            level = _level(binned)
        days = [population.requests() for _ in range(7)]
        week = tuple(np.concatenate(part) for part in zip(*days, strict=True))
        for rows, asked in (*days, week):
            effective = effective_rows(float(asked.sum()), float((asked**2).sum()))
            looks += 1
            for name, each in binned.items():
                counts = each.count(population.values[name][rows])
                found = compared(name, each, counts, effective, level=level, limits=any_size)
                checks += comparisons(each)
                of_any_size += len(found.drifted)
                if found.drifted:
                    alarms += len(compared(name, each, counts, effective, level=level, limits=LIMITS).drifted)
                above += found.psi is not None and found.psi > 0.1
    return QuietResult(
        weeks=WEEKS,
        looks=looks,
        comparisons=checks,
        allowed=LIMITS.false_alarms_per_year * looks / sum(LOOKS.values()),
        alarms=alarms,
        alarms_of_any_size=of_any_size,
        alarms_above_psi=above,
    )


def _where(values: NDArray[Any], chosen: NDArray[np.bool_], other: Any) -> NDArray[Any]:
    return np.where(chosen, other, values)


def _every(rows: int, step: int) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = np.arange(rows) % step == 0
    return chosen


def _swapped(values: Values) -> Values:
    return values | {"vibration": values["stops"], "stops": values["vibration"]}


def _label_shift(values: Values) -> Values:
    """Leave out three in four rows of the other classes than the second."""
    kept = (values[CONTRACT.label.name] == CONTRACT.classes[1]) | _every(len(values[PREDICTION]), 4)
    return {name: each[kept] for name, each in values.items()}


def _on(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Values], Values]:
    return lambda values: values | {name: change(values[name])}


DRIFTS: dict[str, tuple[str, Callable[[Values], Values]]] = {
    "shift by a quarter of a standard deviation": ("vibration", _on("vibration", lambda v: v + 0.25 * v.std())),
    "shift by a tenth of one": ("vibration", _on("vibration", lambda v: v + 0.1 * v.std())),
    "scale, a quarter more": ("power", _on("power", lambda v: v * 1.25)),
    "spread, a quarter more": ("humidity", _on("humidity", lambda v: (v - 45) * 1.25 + 45)),
    "unit, thousandfold": ("power", _on("power", lambda v: v * 1_000)),
    "percentages as shares": ("wear", _on("wear", lambda v: v / 100)),
    "5 % more are missing": ("humidity", _on("humidity", lambda v: _where(v, _every(len(v), 20), np.nan))),
    "missing values filled in": ("humidity", _on("humidity", lambda v: np.where(np.isnan(v), 45.0, v))),
    "new category in 3 %": ("maker", _on("maker", lambda v: _where(v, _every(len(v), 33), "Foxtrot"))),
    "category renamed": ("maker", _on("maker", lambda v: _where(v, v == "Acme", "ACME"))),
    "half of a category gone": (
        "maker", _on("maker", lambda v: _where(v, (v == "Acme") & _every(len(v), 2), "Borealis")),
    ),
    "columns swapped": ("vibration", _swapped),
    "constant column": ("output", _on("output", lambda v: np.full(len(v), 20.0))),
    "one segment of five only, threefold": (
        "vibration", lambda values: values | {
            "vibration": np.where(values["maker"] == "Acme", values["vibration"] * 3, values["vibration"])
        },
    ),
    "slow, one standard deviation in 20,000 rows": (
        "hours", _on("hours", lambda v: v + v.std() * np.arange(len(v)) / 20_000),
    ),
    "label shift, three in four of two classes gone": (PREDICTION, _label_shift),
    "less confident, by a twentieth": (CONFIDENCE, _on(CONFIDENCE, lambda v: v * 0.95)),
    "one in three answered with one class": (
        PREDICTION, _on(PREDICTION, lambda v: _where(v, _every(len(v), 3), CONTRACT.classes[1])),
    ),
    "entry added to a fifth of the lists": ("parts: bearing", _on("parts: bearing", lambda v: v + _every(len(v), 5))),
    "clipped at a bound": ("stops", _on("stops", lambda v: np.minimum(v, 8.0))),
}  # fmt: skip
"""Planted drifts: the column in which each has to be found, and the change of the values."""


class _Nannyml:
    """Asks nannyml about the same rows, in a process of its own."""

    def __init__(self, population: _Population) -> None:
        self._population = population
        self._reference = population.independent(POPULATION)

    def quiet(self) -> NannymlResult:
        """Return how often it alarms about rows that have not drifted."""
        features = [name for name in self._reference if name != CONTRACT.label.name]
        days = [self._population.independent(GROUPS_OF_DAY) for _ in range(REPEATS)]
        alerts = self.alerts([(name, [day[name] for day in days]) for name in features])
        share = sum(alerts) / len(alerts)
        return NannymlResult(
            rows=GROUPS_OF_DAY, alerts=share, false_alarms_per_year=share * len(features) * LOOKS[Period.DAILY]
        )

    def alerts(self, cases: Sequence[tuple[str, list[NDArray[Any]]]]) -> list[float]:
        """Return the share of samples that it alarms about, for each case: a feature and its samples."""
        with tempfile.TemporaryDirectory(prefix="ctcd-bench-") as folder:
            pd.DataFrame(self._reference).to_parquet(Path(folder) / "reference.parquet")
            described = []
            for number, (feature, samples) in enumerate(cases):
                rows = min(map(len, samples))
                values = np.concatenate([each[:rows] for each in samples])
                pd.DataFrame({"value": values}).to_parquet(Path(folder) / f"{number}.parquet")
                described.append({"feature": feature, "categorical": values.dtype == object, "rows": rows})
            (Path(folder) / "cases.json").write_text(json.dumps(described), encoding="utf-8")
            done = subprocess.run(  # noqa: S603 - a Python that the caller names
                [os.environ[NANNYML], "-W", "ignore", str(Path(__file__).with_name("nannyml_alerts.py")), folder],
                env={**os.environ, "NML_DISABLE_USAGE_LOGGING": "1"},
                stdout=subprocess.PIPE,
                check=True,
            )
        alerts: list[float] = json.loads(done.stdout.splitlines()[-1])
        return alerts


def _power(population: _Population, nannyml: _Nannyml | None) -> list[PowerResult]:
    references = [population.reference() for _ in range(REPEATS)]
    results = []
    for drift, (feature, change) in DRIFTS.items():
        found: dict[int, float] = {}
        cases = []
        for size in SIZES:
            hits = 0
            samples = [change(population.independent(size))[feature] for _ in references]
            cases.append((feature, samples))
            for binned, values in zip(references, samples, strict=True):
                each = binned[feature]
                hits += bool(
                    compared(
                        feature, each, each.count(values), len(values), level=_level(binned), limits=LIMITS
                    ).drifted
                )
            found[size] = hits / REPEATS
        enough = [size for size in SIZES if all(found[other] >= ENOUGH for other in SIZES if other >= size)]
        theirs = dict(zip(SIZES, nannyml.alerts(cases), strict=True)) if nannyml else None
        rows = min(enough, default=None)
        results.append(PowerResult(drift=drift, feature=feature, found=found, rows=rows, found_by_nannyml=theirs))
    return results


def _plot(results: Sequence[PowerResult], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    shown = [(f"ctcd drift, {LIMITS.false_alarms_per_year:g} false alarms a year", [each.found for each in results])]
    compared_with = [each.found_by_nannyml for each in results if each.found_by_nannyml]
    if compared_with:
        shown.append(("nannyml, its own thresholds", compared_with))
    figure, panels = pyplot.subplots(
        1, len(shown), figsize=(5 + 5 * len(shown), 6), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (title, curves) in zip(panels[0], shown, strict=True):
        for number, (each, curve) in enumerate(zip(results, curves, strict=True)):
            style = ("-", "--")[number // 10]
            axes.plot(list(curve), list(curve.values()), style, marker=".", label=each.drift)
        axes.set(xscale="log", xlabel="independent rows", ylim=(-0.02, 1.02), title=title)
        axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES], minor=False, rotation=45)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("share of samples in which the drift is found")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
