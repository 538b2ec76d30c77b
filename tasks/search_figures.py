"""Draw how a search went: which trial was best when, where the best lie, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.figures import BLUE, GREY, ORANGE, page

MOST_LABELS = 4
"""Choices that an axis names; of more, the first and the last."""

MARGIN = 0.04
"""Room below and above an axis of the parallel coordinates, as a share of it."""


@dataclass(frozen=True)
class Point:
    """A trial that came to a value; `complete` is false if it was given up, with its last one."""

    number: int
    value: float
    complete: bool


@dataclass(frozen=True)
class Axis:
    """Where a parameter was searched: its choices, or the two bounds of a range."""

    name: str
    ends: Sequence[Any]
    is_range: bool
    log: bool = False

    def place(self, value: Any) -> float:
        """Give the place of a value between 0 and 1."""
        if not self.is_range:
            return list(self.ends).index(value) / max(len(self.ends) - 1, 1)
        scale = math.log if self.log else float
        low, high = map(scale, self.ends)
        return (scale(value) - low) / (high - low)

    def labels(self) -> dict[float, str]:
        """Give the words at the places that are named."""
        known = self.ends if len(self.ends) <= MOST_LABELS else (self.ends[0], self.ends[-1])
        return {self.place(each): f"{each:g}" if _is_number(each) else str(each) for each in known}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def history(path: Path, points: Sequence[Point], *, metric: str, maximize: bool) -> None:
    """Draw the value of each trial, and the best of those that were complete by then."""
    complete = [point for point in points if point.complete]
    pruned = [point for point in points if not point.complete]
    running = np.maximum.accumulate if maximize else np.minimum.accumulate
    best = running([point.value for point in complete])
    winner = complete[int(np.argmax(best == best[-1]))]
    title = f"trial {winner.number} of {len(points)} has the best {metric}: {winner.value:.5f}"
    with page(path, title) as (axes,):
        for name, kind, marker, colour in (
            ("complete", complete, "o", BLUE),
            ("pruned, as judged last", pruned, "x", GREY),
        ):
            places = [point.number for point in kind], [point.value for point in kind]
            axes.scatter(*places, marker=marker, color=colour, s=28, label=name, zorder=3)
        steps = [point.number for point in complete]
        axes.step(steps, best, where="post", color=ORANGE, label="best so far")
        axes.set(xlabel="trial", ylabel=f"{metric} of the validation part")
        axes.legend(loc="best")


def parallel_coordinates(
    path: Path,
    axes: Sequence[Axis],
    settings: Sequence[Mapping[str, Any]],
    values: NDArray[np.float64],
    *,
    metric: str,
    maximize: bool,
) -> None:
    """Draw each complete trial as a line through its parameters, the best tenth on top."""
    worst_first = np.argsort(values if maximize else -values, kind="stable")
    few = max(1, len(values) // 10)
    title = (
        f"where the best {few} of {len(values)} complete trials lie"
        if few > 1
        else (f"where the best of {len(values)} complete trials lies")
    )
    low, high = float(values.min()), float(values.max())
    last = Axis(metric, (low, high if high > low else low + 1), is_range=True)
    drawn = [*axes, last]
    with page(path, title, size=(1.5 * len(drawn) + 1, 5)) as (panel,):
        for rank, number in enumerate(worst_first):
            row = {**settings[number], metric: values[number]}
            line = [axis.place(row[axis.name]) for axis in drawn]
            best = rank >= len(values) - few
            look = {"color": ORANGE, "linewidth": 2.2} if best else {"color": BLUE, "alpha": 0.25}
            panel.plot(range(len(drawn)), line, **look)
        _rule(panel, drawn)


def _rule(panel: Any, axes: Sequence[Axis]) -> None:
    for place, axis in enumerate(axes):
        panel.axvline(place, color=GREY, linewidth=0.8)
        for height, text in axis.labels().items():
            where = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            panel.annotate(text, (place, height), fontsize=9, **where)
    panel.set_xticks(range(len(axes)), [axis.name for axis in axes], rotation=20, ha="right")
    panel.set(ylim=(-MARGIN, 1 + MARGIN), xlim=(-0.1, len(axes) - 0.5), yticks=[])
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def importance(path: Path, shares: Mapping[str, float], *, metric: str) -> None:
    """Draw how much of the difference between trials each parameter explains."""
    ranked = sorted(shares, key=lambda name: shares[name])
    title = f"{ranked[-1]} matters most to {metric} ({shares[ranked[-1]]:.0%})"
    with page(path, title, size=(7.2, 1.6 + 0.4 * len(ranked))) as (axes,):
        bars = axes.barh(ranked, [shares[name] for name in ranked], color=BLUE)
        axes.bar_label(bars, fmt="{:.0%}", padding=4)
        axes.set(xlabel="importance (PED-ANOVA)", xlim=(0, 1.1 * shares[ranked[-1]] or 1))
        axes.grid(visible=False, axis="y")
