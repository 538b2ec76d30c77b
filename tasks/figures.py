"""Draw what a person should see of a model, each finding as a figure's title.

The one module that imports matplotlib, through its object-oriented interface, with its own
defaults whatever the user's settings are, so that equal data is an equal PNG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl

from tasks import metrics
from tasks.metrics import Tally

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"  # told apart by colour-blind people too

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 120,
    "text.parse_math": False,  # a feature's name may hold dollar signs
}

HALF = 0.5
"""The share from which on a cell is dark and its text is white."""

SHOWN = 20
"""The most features in the figure of importance."""

CHARACTERS_PER_INCH = 8.6
"""How much of a title fits in a line."""

LONGEST = 36
"""The most characters of a name on an axis."""


def roc(path: Path, tallies: Mapping[str, Tally], event: str) -> None:
    """Draw the ROC curve of each named tally, the model's first."""
    aucs = {name: metrics.roc_auc(tally) for name, tally in tallies.items()}
    share = next(iter(aucs.values()))
    title = f"“{event}” outscores “not {event}” in {share:.1%} of pairs"
    with page(path, title, size=(6.4, 5.8)) as (axes,):
        for (name, tally), colour in zip(tallies.items(), _colours(len(tallies)), strict=True):
            label = f"{name} (AUC {aucs[name]:.3f})"
            order = 3 if name == next(iter(tallies)) else 2
            axes.plot(*metrics.roc_curve(tally), color=colour, label=label, zorder=order)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.legend(loc="lower right")


def precision_recall(path: Path, tally: Tally, event: str) -> None:
    """Draw the precision-recall curve of either class, with its share of the rows."""
    sides = {event: tally, f"not {event}": metrics.flipped(tally)}
    shares = {name: side.positives.sum() / side.rows.sum() for name, side in sides.items()}
    rare = min(shares, key=lambda name: float(shares[name]))
    average = metrics.average_precision(sides[rare])
    title = f"“{rare}”, the rarer class: average precision {average:.3f}"
    with page(path, title) as (axes,):
        for (name, side), colour in zip(sides.items(), (BLUE, ORANGE), strict=True):
            area = metrics.average_precision(side)
            axes.plot(*metrics.pr_curve(side), color=colour, label=f"{name} (PR AUC {area:.3f})")
            base = f"{name}: {shares[name]:.1%} of rows"
            axes.axhline(shares[name], color=colour, linestyle=":", linewidth=1, label=base)
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.02))
        axes.legend(loc="lower left")


def calibration(path: Path, tally: Tally, bins: int, event: str) -> None:
    """Draw observed rates against scores, with 95 % intervals of the rates."""
    score, observed, rows = metrics.calibration(tally, bins)
    error = metrics.calibration_error(tally, bins)
    reach = 1.96 * np.sqrt(observed * (1 - observed) / rows)
    title = f"Scores miss the observed rate by {100 * error:.1f} points on average"
    with page(path, title, size=(6.4, 5.8)) as (axes,):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect")
        label = f"{bins} bins, 95 % intervals, area by rows"
        axes.errorbar(score, observed, reach, color=BLUE, linewidth=1.2, capsize=3, label=label)
        axes.scatter(score, observed, 20 + 400 * rows / rows.sum(), color=BLUE, alpha=0.6)
        axes.set(xlabel="mean score", ylabel=f"share of rows with {event}", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left")


def confusion(path: Path, tally: Tally, threshold: float, event: str) -> None:
    """Draw the confusion matrix with counts and shares of each actual class."""
    matrix = metrics.confusion(tally, threshold)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [f"not {event}", event]
    title = f"{metrics.accuracy(tally, threshold):.1%} of rows are right at threshold {threshold:g}"
    with page(path, title, size=(6.0, 5.2)) as (axes,):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            text = f"{count:,}\n{shares[row, column]:.1%} of actual"
            colour = "white" if shares[row, column] > HALF else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
        axes.set(xticks=[0, 1], xticklabels=names, yticks=[0, 1], xlabel="predicted")
        axes.set(ylabel="actual")
        axes.set_yticklabels(names, rotation=90, va="center")
        axes.grid(visible=False)


def scores(path: Path, tally: Tally, threshold: float, event: str) -> None:
    """Draw how the scores of either class are spread."""
    edges = np.linspace(0, 1, 41)
    sides = {f"not {event}": tally.negatives, event: tally.positives}
    middles = [_median(tally, counts) for counts in sides.values()]
    title = (
        f"Half of “{event}” score over {middles[1]:.2f}, of “not {event}” under {middles[0]:.2f}"
    )
    with page(path, title) as (axes,):
        for (name, counts), colour in zip(sides.items(), (ORANGE, BLUE), strict=True):
            heights = np.histogram(tally.scores, edges, weights=counts)[0] / max(counts.sum(), 1)
            label = f"{name} ({counts.sum():,} rows)"
            axes.stairs(heights, edges, fill=True, alpha=0.45, color=colour, label=label)
        axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1, label="threshold")
        axes.set(xlabel=f"score: probability of {event}", ylabel="share of the class's rows")
        axes.legend(loc="best")


def importance(path: Path, features: pl.DataFrame) -> None:
    """Draw the strongest features: `feature` and `mean_abs_contribution`, strongest first."""
    shown = features.head(SHOWN).reverse()
    title = f"{_short(features['feature'][0])} moves the score most"
    names = [_short(name) for name in shown["feature"]]
    size = (7.2, 1.6 + 0.27 * len(shown))
    with page(path, title, size=size) as (axes,):
        axes.barh(range(len(shown)), shown["mean_abs_contribution"].to_numpy(), color=BLUE)
        axes.set(
            yticks=range(len(shown)), yticklabels=names, xlabel="mean |contribution|, log-odds"
        )
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.01)


def history(path: Path, steps: Sequence[Mapping[str, float]]) -> None:
    """Draw each score of training by step; the first one on validation decides the best step."""
    names = [name for name in steps[0] if name != "step"]
    judged = next((name for name in names if name.startswith("val_")), names[0])
    best = min(steps, key=lambda step: step[judged])
    title = (
        f"{judged} is best at step {best['step']:g} of {steps[-1]['step']:g}: {best[judged]:.4f}"
    )
    measured = list(dict.fromkeys(name.partition("_")[2] for name in names))
    size = (7.2, 1.4 + 3.4 * len(measured))
    with page(path, title, size=size, rows=len(measured)) as panels:
        for axes, measure in zip(panels, measured, strict=True):
            lines = [name for name in names if name.partition("_")[2] == measure]
            for name, colour in zip(lines, _colours(len(lines)), strict=True):
                values = [step[name] for step in steps]
                axes.plot([step["step"] for step in steps], values, color=colour, label=name)
            axes.axvline(best["step"], color=GREY, linestyle="--", linewidth=1, label="best step")
            axes.set(xlabel="step", ylabel=measure.replace("_", " "))
            axes.legend(loc="best")


@contextmanager
def page(
    path: Path,
    title: str,
    *,
    size: tuple[float, float] = (7.2, 4.8),
    rows: int = 1,
) -> Iterator[list[Any]]:
    """Lend the axes of a new figure (size in inches), then write it as PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=size)
        panels = figure.subplots(rows, squeeze=False).ravel().tolist()
        panels[0].set_title(fill(title, int(CHARACTERS_PER_INCH * size[0])))
        yield panels
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": None})


def _colours(count: int) -> list[str]:
    return [BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00"][:count]


def _median(tally: Tally, counts: metrics.Integers) -> float:
    reached = np.cumsum(counts) * 2 >= counts.sum()
    return float(tally.scores[int(np.argmax(reached))])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
