"""The plots of the report site: drift and performance by week, as reproducible SVG."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ctcd.promotion.plots import INK, svg

MAX_LINES = 6
"""Maximum number of lines in a plot: the columns furthest beyond their limits, or the newest models."""
_LABELS = 6
"""Maximum number of weeks labelled below a plot."""
Weeks = Sequence[Mapping[str, Any]]
"""Rows of a table of the store, each of a week, the newest first."""


def performance(weeks: Weeks) -> dict[str, str]:
    """Return accuracy and macro F1 by week and model, with intervals; weeks without labels are left out.

    A model is its run: the number of a version can come again.
    """
    models = list(dict.fromkeys(map(_model, weeks)))[:MAX_LINES]
    plots = {}
    for name, score in (("accuracy", "accuracy"), ("macro F1", "macro_f1")):
        known = [each for each in weeks if each[score] is not None and _model(each) in models]

        def paint(axes: Any, known: Weeks = known, name: str = name, score: str = score) -> None:
            for place, model in enumerate(models):
                rows = [each for each in reversed(known) if _model(each) == model]
                at = [each["first_day"].toordinal() for each in rows]
                values = [each[score] for each in rows]
                # Rows of an earlier release have no interval.
                ends = [[each[f"{score}_{end}"] for each in rows] for end in ("low", "high")]
                errors = [
                    [0.0 if end is None else abs(end - value) for end, value in zip(each, values, strict=True)]
                    for each in ends
                ]
                axes.errorbar(
                    at, values, yerr=errors, color=f"C{place}", marker="o", markersize=3, capsize=2, label=model
                )
            _name_weeks(axes, known)
            axes.set(ylabel=name)
            axes.legend(frameon=False, fontsize=8)

        if known:
            plots[f"{name} by week"] = svg(f"{name} by week", paint)
    return plots


def _model(row: Mapping[str, Any]) -> str:
    return f"version {row['model_version']}" + (f", run {row['run_id'][:8]}" if row["run_id"] else "")


def drift(weeks: Weeks) -> dict[str, str]:
    """Return the distance of the columns that were furthest beyond their limits, by week, as a multiple of the limit."""
    furthest: dict[str, dict[date, float]] = {}
    for each in weeks:
        if each["distance"] is not None and each["distance_limit"]:
            # Of several versions in a week, the one that is furthest away counts.
            of_column = furthest.setdefault(f"{each['feature']}, {each['source']}", {})
            ratio = each["distance"] / each["distance_limit"]
            of_column[each["first_day"]] = max(ratio, of_column.get(each["first_day"], 0.0))
    shown = sorted(furthest, key=lambda name: (-max(furthest[name].values()), name))[:MAX_LINES]

    def paint(axes: Any) -> None:
        lines = []
        for place, name in enumerate(shown):
            days = sorted(furthest[name])
            values = [furthest[name][day] for day in days]
            lines += axes.plot([day.toordinal() for day in days], values, color=f"C{place}", marker="o", markersize=3)
        axes.axhline(1, color=INK, alpha=0.4, linestyle="--", linewidth=1)
        _name_weeks(axes, weeks)
        axes.set(ylabel="distance / limit", ylim=(0, None))
        # Given by hand, as names that begin with `_` are hidden.
        axes.legend(lines, shown, frameon=False, fontsize=7)

    return {"drift by week": svg("drift by week", paint)} if shown else {}


def _name_weeks(axes: Any, weeks: Weeks) -> None:
    days = sorted({each["first_day"] for each in weeks})
    named = days[:: -(-len(days) // _LABELS)]
    axes.set_xticks([day.toordinal() for day in named], [day.isoformat() for day in named], rotation=30, ha="right")
    axes.grid(visible=True)
