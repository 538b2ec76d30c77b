"""Judge a challenger against the champion by the same rows, from which neither has learned.

The challenger takes over if the paired bootstrap says that it is better, or if it has learned from
newer data and is not worse by more than a margin (a test of non-inferiority); but never if it is
worse by more than another margin on some slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from tasks import metrics
from tasks.metrics import Floats, Integers, Metric, Tally
from tasks.params import Section

LOSSES = ("log_loss", "brier", "calibration_error")
"""Metrics of which less is better; their gain is how much less."""

MetricName = Literal[
    "roc_auc", "pr_auc", "pr_auc_negative", "accuracy", "f1", "log_loss", "brier",
    "calibration_error",
]  # fmt: skip

SHOWN = ("roc_auc", "pr_auc_negative", "log_loss", "brier", "calibration_error")
"""What is told of each of the two, besides the metric that decides."""

KEPT_SLICES = 5
"""How many slices are told of, those first on which the challenger gains least."""


class Promote(Section):
    """When a challenger takes the champion's place."""

    metric: MetricName = Field(description="metric of the test rows by which the two are compared")
    margin: float = Field(
        ge=0,
        le=1,
        description="how much worse one that knows newer data may be, at the low end of the 95 % "
        "interval, in units of the metric",
    )
    slice_margin: float = Field(
        ge=0,
        le=1,
        description="how much worse on any slice, where the 95 % interval says that it is worse",
    )
    slice_rows: int = Field(ge=1, description="test rows from which on a slice is judged")
    resamples: int = Field(ge=100, le=100_000, description="bootstrap resamples of the test rows")


@dataclass(frozen=True)
class Contender:
    """One of the two: how it is called, the day before which all lies that it knows, its scores."""

    name: str
    dataset_version: date
    score: Floats


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger takes over, why, and the numbers."""

    promoted: bool
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The rows that both are judged by.

    target  int64 [rows], 0 or 1
    slices  the value of the slice column of each row; None if there is none
    """

    target: Integers
    slices: pl.Series | None


def judge(
    rows: Rows,
    champion: Contender,
    challenger: Contender,
    promote: Promote,
    *,
    measures: Mapping[str, Metric],
    seed: int,
) -> Verdict:
    """Decide between the two.

    measures  all metrics by name, see `metrics.by_name`
    """
    quality = _quality(promote.metric, measures)
    gain = metrics.paired_gain(
        rows.target,
        challenger.score,
        champion.score,
        quality,
        resamples=promote.resamples,
        seed=seed,
    )
    sliced = _by_slice(rows, champion.score, challenger.score, quality, promote, seed=seed)
    evidence = {
        "metric": promote.metric,
        "rows": len(rows.target),
        "gain": _defined(gain),
        **{
            role: {
                "dataset_version": each.dataset_version.isoformat(),
                **_measured(rows.target, each.score, measures, promote, seed=seed),
            }
            for role, each in (("challenger", challenger), ("champion", champion))
        },
        "slices": sliced[:KEPT_SLICES],
    }
    days = (challenger.dataset_version - champion.dataset_version).days
    promoted, why = _decide(gain, sliced, promote, days=days)
    first, second = (metrics.tally(rows.target, each.score) for each in (challenger, champion))
    both = measures[promote.metric](first), measures[promote.metric](second)
    told = (
        f"{challenger.name} has {promote.metric} {both[0]:.4f} and {champion.name} {both[1]:.4f} "
        f"on the same {len(rows.target):,} test rows: {why}"
    )
    return Verdict(promoted, told, evidence)


def _decide(
    gain: Mapping[str, float], sliced: list[dict[str, Any]], promote: Promote, *, days: int
) -> tuple[bool, str]:
    """Give the decision and the second half of a sentence.

    days  how much further the challenger's data goes than the champion's
    """
    if math.isnan(gain["value"]) or math.isnan(gain["low"]):
        return False, "they cannot be compared, as these rows have one class only"
    told = f"gain {_interval(gain)}"
    worst = next((each for each in sliced if _loses(each, promote)), None)
    if worst is not None:
        return False, (
            f"{told}, but on the slice {worst['slice']} ({worst['rows']:,} rows) it is worse by "
            f"more than promote.slice_margin {promote.slice_margin:g}: gain {_interval(worst)}"
        )
    if gain["low"] > 0:
        return True, f"it is better, {told}"
    if days > 0 and gain["low"] > -promote.margin:
        return True, (
            f"it is not worse by more than promote.margin {promote.margin:g}, {told}, and knows "
            f"{days} days more"
        )
    verdict = "it is worse" if gain["high"] < 0 else "it is not surely better"
    if days <= 0:
        return False, f"{verdict}, {told}, and knows nothing newer"
    return False, (
        f"{verdict}, {told}: it may be worse by more than promote.margin {promote.margin:g}"
    )


def _loses(sliced: Mapping[str, Any], promote: Promote) -> bool:
    return bool(sliced["value"] < -promote.slice_margin and sliced["high"] < 0)


def _quality(name: str, measures: Mapping[str, Metric]) -> Metric:
    """Give a metric such that more is better."""
    measure = measures[name]
    if name not in LOSSES:
        return measure

    def less(tally: Tally) -> float:
        return -measure(tally)

    return less


def _by_slice(
    rows: Rows,
    champion: Floats,
    challenger: Floats,
    quality: Metric,
    promote: Promote,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare the two on each slice that is large enough and has both classes, least gain first."""
    if rows.slices is None:
        return []
    values, found = rows.slices.cast(pl.String), []
    for value in values.unique().sort():
        inside = values.eq_missing(pl.Series([value], dtype=pl.String)).to_numpy()
        if np.count_nonzero(inside) < promote.slice_rows:
            continue
        gain = metrics.paired_gain(
            rows.target[inside],
            challenger[inside],
            champion[inside],
            quality,
            resamples=promote.resamples,
            seed=seed,
        )
        if not any(math.isnan(number) for number in gain.values()):
            name = f"{rows.slices.name}={value}"
            found.append({"slice": name, "rows": int(np.count_nonzero(inside)), **gain})
    return sorted(found, key=lambda each: (each["value"], each["slice"]))


def _measured(
    target: Integers,
    score: Floats,
    measures: Mapping[str, Metric],
    promote: Promote,
    *,
    seed: int,
) -> dict[str, Any]:
    """Give some metrics, and the interval of the one that decides."""
    tally = metrics.tally(target, score)
    names = dict.fromkeys((promote.metric, *SHOWN))
    bounds = metrics.intervals(
        target,
        score,
        lambda drawn: {promote.metric: measures[promote.metric](drawn)},
        resamples=promote.resamples,
        seed=seed,
    )
    low, high = bounds[promote.metric]
    return _defined({name: measures[name](tally) for name in names} | {"low": low, "high": high})


def _interval(gain: Mapping[str, float]) -> str:
    return f"{gain['value']:+.4f} (95 % {gain['low']:+.4f} to {gain['high']:+.4f})"


def _defined(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
