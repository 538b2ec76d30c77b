"""Draw the life of a model in one picture: who was champion when, how good, and what drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from tasks.figures import BLUE, GREY, ORANGE, page

SIZE_INCHES = (11.0, 13.0)

GREEN = "#009e73"

MARKS = {
    "Promoted": ("^", BLUE, "promoted"),
    "Kept": ("v", ORANGE, "judged, and not promoted"),
    "GateFailed": ("x", ORANGE, "did not pass the gate"),
}
"""Marker, colour and words for how a night ended that has made a model."""


@dataclass(frozen=True)
class Measured:
    """A metric and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Night:
    """One night, as the picture shows it.

    day         before which all lies that was known
    state       how it ended
    reason      why, in sentences
    challenger  ROC AUC of what was trained, on its test rows
    before      that of the champion before, on the same rows
    champion    the version that is champion since
    live        ROC AUC of the champion on outcomes that are known by now
    drift       PSI of the feature that has drifted most of those judged; scores: of the scores
    crossed     names of the bounds that were crossed
    """

    day: date
    state: str
    reason: str
    challenger: Measured | None = None
    before: Measured | None = None
    champion: int | None = None
    subject: int | None = None
    live: Measured | None = None
    drift: float | None = None
    scores: float | None = None
    scored_rows: int | None = None
    mean_score: float | None = None
    crossed: Sequence[str] = field(default_factory=tuple)


def life(path: Path, nights: Sequence[Night], *, title: str, max_drift: float) -> None:
    """Draw quality, drift, scores and decisions over the nights."""
    with page(path, title, size=SIZE_INCHES, rows=4) as panels:
        days = [night.day for night in nights]
        for axes in panels:
            axes.set_xticks(days, [f"{day}" for day in days], rotation=20)
            axes.set_xlim(_ends(days))
        _quality(panels[0], nights)
        _drift(panels[1], nights, max_drift)
        _scores(panels[2], nights)
        _decisions(panels[3], nights)


def _ends(days: Sequence[date]) -> tuple[datetime, datetime]:
    room = max((days[-1] - days[0]).days, 1) * 0.05
    return _beside(days[0], -room), _beside(days[-1], room)


def _beside(day: date, shift_days: float) -> datetime:
    return datetime.combine(day, time()) + timedelta(days=shift_days)


def _quality(axes: Any, nights: Sequence[Night]) -> None:
    _intervals(axes, nights, lambda each: each.before, "champion, on the same rows", colour=GREY)
    for state, (marker, colour, words) in MARKS.items():
        chosen = [night for night in nights if night.state == state]
        look: dict[str, Any] = {"colour": colour, "marker": marker, "shift_days": -2.0}
        _intervals(axes, chosen, lambda each: each.challenger, words, **look)
    look = {"colour": GREEN, "marker": "s", "shift_days": 2.0}
    _intervals(axes, nights, lambda each: each.live, "champion, live", **look)
    axes.set(ylabel="ROC AUC, 95 % interval")
    axes.legend(loc="lower right", fontsize=8)


def _intervals(
    axes: Any,
    nights: Sequence[Night],
    of: Callable[[Night], Measured | None],
    label: str,
    *,
    colour: str,
    shift_days: float = 0.0,
    marker: str = "o",
) -> None:
    """Draw values with their intervals, a little beside the day so that none hides another."""
    found = [(night.day, value) for night in nights if (value := of(night)) is not None]
    if not found:
        return
    places = [_beside(day, shift_days) for day, _ in found]
    values = [each.value for _, each in found]
    below = [each.value - each.low for _, each in found]
    above = [each.high - each.value for _, each in found]
    axes.errorbar(
        places,
        values,
        yerr=[below, above],
        fmt=marker,
        color=colour,
        label=label,
        capsize=3,
        linewidth=1,
        markersize=7,
    )


def _drift(axes: Any, nights: Sequence[Night], bound: float) -> None:
    for name, colour, label in (
        ("drift", BLUE, "feature that has drifted most, of those judged"),
        ("scores", ORANGE, "scores of the champion"),
    ):
        found = [(night.day, getattr(night, name)) for night in nights]
        known = [(day, value) for day, value in found if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", color=colour, label=label)
    axes.axhline(bound, color=GREY, linestyle=":", label=f"bound {bound:g}")
    for night in nights:
        if night.crossed:
            axes.axvline(night.day, color=ORANGE, alpha=0.25, linewidth=8)
    tallest = max(
        (value for night in nights for value in (night.drift, night.scores) if value), default=0
    )
    axes.set(ylabel="drift (PSI)", ylim=(0, max(tallest, bound) * 1.4))
    axes.legend(loc="upper left", fontsize=8)


def _scores(axes: Any, nights: Sequence[Night]) -> None:
    known = [night for night in nights if night.mean_score is not None]
    axes.set(ylabel="mean score")
    if not known:
        return
    axes.plot([each.day for each in known], [each.mean_score for each in known], marker="o")
    for night in known:
        axes.annotate(
            f"{night.scored_rows:,} rows",
            (night.day, night.mean_score),
            textcoords="offset points",
            xytext=(0, 8),
            ha="center",
            fontsize=8,
        )
    axes.margins(y=0.3)


def _decisions(axes: Any, nights: Sequence[Night]) -> None:
    """Draw the champion's version as a staircase, and what was judged each night."""
    known = [night for night in nights if night.champion is not None]
    if known:
        steps = [each.day for each in known], [each.champion for each in known]
        axes.step(*steps, where="post", color=BLUE, label="champion")
    for state, (marker, colour, words) in MARKS.items():
        chosen = [each for each in nights if each.state == state and each.subject is not None]
        if chosen:
            places = [each.day for each in chosen], [each.subject for each in chosen]
            axes.plot(*places, marker, color=colour, markersize=9, label=words)
    for night in nights:
        if night.subject is None:
            axes.annotate(
                _words(night.state),
                (night.day, 0.06),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="center",
                fontsize=8,
                color=GREY,
            )
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(ylabel="version", xlabel="night")
    axes.margins(y=0.2)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", fontsize=8)


def _words(state: str) -> str:
    return {"GateFailed": "gate failed", "DataRefused": "data refused"}.get(state, state.lower())
