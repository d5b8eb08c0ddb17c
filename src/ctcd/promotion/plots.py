"""The plots of a decision's evidence, as SVG that is the same in every build and follows the colours of the page."""

import re
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ctcd.promotion.evidence import Evidence

INK = "#010203"
"""Whatever is drawn in this colour takes the colour of the page's text."""
MAX_FEATURES, MAX_CLASSES = 12, 10
"""Number of features and of classes that fit into a plot."""
_BLUE = "#4c8bd6"
_STYLE: Any = {
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.2,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may have dollar signs
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw(evidence: Evidence) -> dict[str, str]:
    """Return the plots by name, in the order in which a reader wants them; those without data are left out."""
    plots: dict[str, tuple[bool, Callable[..., None]]] = {
        "confusion matrix": (bool(evidence.confusion), _confusion),
        "calibration": (bool(evidence.calibration), _calibration),
        "precision and recall by threshold": (bool(evidence.precision), _by_threshold),
        "learning curve": (bool(evidence.curve), _curve),
        "feature importance": (bool(evidence.about.features), _importance),
        "SHAP values": (bool(evidence.about.features), _shap),
    }
    return {name: svg(name, partial(paint, evidence=evidence)) for name, (known, paint) in plots.items() if known}


def svg(name: str, paint: Callable[[Any], None]) -> str:
    """Return a plot as SVG; `paint` draws it into matplotlib's axes, with `INK` for the colour of the page's text."""
    # The salt makes the ids of shapes the same in every build, and those of different plots of a page different.
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        paint(figure.subplots())
        drawn = StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(drawn, metadata=_METADATA)  # `savefig` would draw all of it once more, to lay it out
    text = drawn.getvalue()
    text = re.sub(r' id="[\w.]+_\d+"', "", text[text.index("<svg") :])  # of groups, which each plot numbers from 1
    return text.replace(INK, "currentColor").replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def _confusion(axes: Any, evidence: Evidence) -> None:
    classes = evidence.classes
    size = 9 if len(classes) <= MAX_CLASSES else 5
    for row, counts in enumerate(evidence.confusion):
        for column, count in enumerate(counts):
            share = count / max(1, sum(counts))
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=_BLUE, alpha=0.85 * share, linewidth=0))
            text = f"{count}\n{share:.0%}" if len(classes) <= MAX_CLASSES else str(count)
            axes.text(column, row, text, ha="center", va="center", fontsize=size)
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), xlabel="predicted", ylabel="true")
    axes.set_xticks(range(len(classes)), classes, rotation=0 if len(classes) <= 5 else 90)
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(length=0)


def _calibration(axes: Any, evidence: Evidence) -> None:
    most = max(each.rows for each in evidence.calibration)
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linestyle="--", linewidth=1, label="calibrated")
    axes.plot(
        [each.confidence for each in evidence.calibration],
        [each.accuracy for each in evidence.calibration],
        color=_BLUE,
        label="this version",
    )
    for each in evidence.calibration:
        axes.plot(each.confidence, each.accuracy, "o", color=_BLUE, markersize=2 + 7 * (each.rows / most) ** 0.5)
    axes.set(xlabel="mean confidence of the rows in a bin", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(visible=True)
    axes.legend(frameon=False, loc="upper left")


def _by_threshold(axes: Any, evidence: Evidence) -> None:
    lines = []
    for index, name in enumerate(evidence.classes[:MAX_CLASSES]):
        colour = f"C{index}"
        precision = [float("nan") if value is None else value for value in evidence.precision[name]]
        lines += axes.plot(evidence.thresholds, precision, color=colour)
        axes.plot(evidence.thresholds, evidence.recall[name], color=colour, linestyle="--")
    axes.set(
        xlabel="probability from which on a row counts", ylabel="precision (line), recall (dashed)", ylim=(0, 1.02)
    )
    axes.grid(visible=True)
    _name_classes(axes, lines, evidence, loc="best", fontsize=8)


def _name_classes(axes: Any, drawn: list[Any], evidence: Evidence, **how: Any) -> None:
    """Add a legend of the first classes, as many as are drawn; given by hand, as names that begin with `_` are hidden."""
    rest = len(evidence.classes) - len(drawn)
    title = f"classes left out: {rest}" if rest else None
    axes.legend(
        drawn, evidence.classes[: len(drawn)], frameon=False, title=title, title_fontsize=how["fontsize"], **how
    )


def _curve(axes: Any, evidence: Evidence) -> None:
    rounds = evidence.curve["round"]
    for index, (name, values) in enumerate(each for each in evidence.curve.items() if each[0] != "round"):
        axes.plot(rounds, values, color=f"C{index}", label=name)
    axes.axvline(evidence.best_round, color=INK, alpha=0.4, linestyle=":", label=f"stopped at {evidence.best_round}")
    axes.set(xlabel="round", ylabel="loss")
    axes.grid(visible=True)
    axes.legend(frameon=False)


def _importance(axes: Any, evidence: Evidence) -> None:
    features = evidence.about.features[:MAX_FEATURES][::-1]
    axes.barh([each.name for each in features], [each.change for each in features], color=_BLUE)
    axes.set(xlabel="share of the change of the prediction, %")
    axes.grid(visible=True, axis="x")


def _shap(axes: Any, evidence: Evidence) -> None:
    features = sorted(evidence.about.features, key=lambda each: -sum(each.shap.values()))[:MAX_FEATURES][::-1]
    left, bars = [0.0] * len(features), []
    for index, name in enumerate(evidence.classes[:MAX_CLASSES]):
        width = [each.shap[name] for each in features]
        bars.append(axes.barh([each.name for each in features], width, left=left, color=f"C{index}"))
        left = [start + one for start, one in zip(left, width, strict=True)]
    axes.set(xlabel="mean |SHAP value|, log-odds")
    axes.grid(visible=True, axis="x")
    _name_classes(axes, bars, evidence, loc="lower right", fontsize=7)
