"""Draw what the monitor sees, each finding as a figure's title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from tasks.figures import BLUE, GREY, ORANGE, page
from tasks.monitoring import Finding, Monitor, is_ignored
from tasks.observation import Drift, Month, Observation, Scores
from tasks.outcomes import Live

SHOWN = 25
"""The most features in the figure of drift."""

REACH = 2.0
"""Up to how many times the bound the bars of drift are drawn; what is longer is told as number."""

MONTHS = 24


def draw(
    folder: Path,
    seen: Observation,
    monitor: Monitor,
    patterns: Sequence[str],
    findings: Sequence[Finding],
) -> None:
    """Write `drift.png`, `scores.png`, `volume.png` and `live.png`: those that can be told."""
    if seen.months and any(month.known for month in seen.months):
        volume(folder / "volume.png", seen.months, monitor)
    if seen.features is None:
        return
    drifts(folder / "drift.png", seen.features.drift, seen.drift, monitor, patterns)
    scores(folder / "scores.png", seen.features.scores)
    bounds = {finding.name: finding.bound for finding in findings}
    if seen.features.live is not None:
        live(folder / "live.png", seen.features.live, bounds["live.roc_auc"])


def drifts(
    path: Path,
    features: Mapping[str, Drift],
    rows: Mapping[str, float],
    monitor: Monitor,
    patterns: Sequence[str],
) -> None:
    """Draw the PSI of each feature, and of each column of the newest month's rows."""
    bars = {name: (each.further, is_ignored(name, patterns)) for name, each in features.items()}
    bars |= {f"{name} (newest month)": (psi, False) for name, psi in rows.items()}
    ranked = sorted(bars, key=lambda name: (bars[name][1], -bars[name][0]))[:SHOWN][::-1]
    bound = monitor.max_drift
    over = [name for name in ranked if bars[name][0] > bound and not bars[name][1]]
    judged = sum(not spared for _, spared in bars.values())
    title = f"{len(over) or 'None'} of {judged} judged drift over {bound:g}"
    with page(path, title, size=(7.2, 1.6 + 0.27 * len(ranked))) as (axes,):
        for place, name in enumerate(ranked):
            psi, spared = bars[name]
            colour = GREY if spared else ORANGE if psi > bound else BLUE
            axes.barh(place, min(psi, REACH * bound), color=colour)
            text = f" {psi:.2f}" + (" ignored" if spared else "")
            axes.text(min(psi, REACH * bound), place, text, va="center", fontsize=8)
        axes.axvline(bound, color=ORANGE, linestyle="--", linewidth=1)
        axes.set(yticks=range(len(ranked)), yticklabels=ranked, xlim=(0, 1.25 * REACH * bound))
        axes.set(xlabel="population stability index since training and evaluation")
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.01)


def scores(path: Path, pair: Scores) -> None:
    """Draw how the scores are spread in the champion's test part and today."""
    edges = np.linspace(0, 1, 41)
    sides = {"test part of the champion": (pair.then, GREY), "today": (pair.now, BLUE)}
    title = (
        f"Scores: PSI {pair.drift:.3f}, mean {pair.then.mean():.3f} then, {pair.now.mean():.3f} now"
    )
    with page(path, title) as (axes,):
        for name, (score, colour) in sides.items():
            heights = np.histogram(score, edges)[0] / max(len(score), 1)
            label = f"{name} ({len(score):,})"
            axes.stairs(heights, edges, fill=True, alpha=0.45, color=colour, label=label)
        axes.set(xlabel="score", ylabel="share of rows")
        axes.legend(loc="best")


def volume(path: Path, months: Sequence[Month], monitor: Monitor) -> None:
    """Draw the events of each month, with the bounds of the newest."""
    typical = median(month.events for month in months if month.known)
    newest, months = months[-1], months[-MONTHS:]
    title = (
        f"{newest.events:,} events in the month from {newest.first}, "
        f"{newest.events / max(typical, 1):.0%} of the median month's"
    )
    with page(path, title) as (axes,):
        for known, colour, label in ((True, GREY, "known to the champion"), (False, BLUE, "since")):
            places = [place for place, month in enumerate(months) if month.known is known]
            heights = [months[place].events for place in places]
            axes.bar(places, heights, color=colour, label=label)
        for ratio in (monitor.min_volume, monitor.max_volume):
            axes.axhline(ratio * typical, color=ORANGE, linestyle="--", linewidth=1)
        axes.axhline(typical, color=GREY, linestyle=":", linewidth=1, label="median")
        names = [month.first.isoformat() for month in months]
        axes.set_xticks(range(len(months)), names, rotation=90)
        axes.set(ylabel="events", ylim=(0, 1.1 * max(month.events for month in months)))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="best")


def live(path: Path, found: Live, bound: float) -> None:
    """Draw the live ROC AUC with its interval above what evaluation promised."""
    promised = found.promised["roc_auc"]
    intervals = {
        "promised": (found.promise["roc_auc"], promised["low"], promised["high"]),
        "live": (found.value["roc_auc"], *found.interval["roc_auc"]),
    }
    title = f"Live ROC AUC {found.value['roc_auc']:.3f} of {found.rows:,} {found.what}"
    with page(path, title, size=(7.2, 2.6)) as (axes,):
        for place, points in enumerate(intervals.values()):
            value, low, high = (np.nan if point is None else point for point in points)
            reach = [[value - low], [high - value]]
            colour = (GREY, BLUE)[place]
            axes.errorbar([value], [place], xerr=reach, fmt="o", color=colour, capsize=4)
        axes.axvline(bound, color=ORANGE, linestyle="--", linewidth=1, label="bound")
        axes.set(yticks=[0, 1], yticklabels=list(intervals), ylim=(-0.6, 1.6))
        axes.set(xlabel="ROC AUC, 95 % intervals")
        axes.legend(loc="best")
