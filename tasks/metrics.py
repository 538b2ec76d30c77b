"""Measure scores against what happened, in plain numpy.

Every score of a binary classifier follows from how many negatives and positives there are at each
distinct score. Rows are counted into this `Tally` once, and all else is sums over it: exact in
integers where the metric allows, independent of row order and threads, and so cheap that a
thousand bootstrap resamples of 23,000 rows take about a second and no sorting.

A metric that a tally leaves undefined (the ROC AUC of one class alone) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INTERVAL = (0.025, 0.975)
"""The quantiles that bound a 95 % interval."""


@dataclass(frozen=True)
class Tally:
    """How many negatives and positives there are at each distinct score.

    scores     float64 [distinct], ascending
    negatives  int64 [distinct]
    positives  int64 [distinct]
    """

    scores: Floats
    negatives: Integers
    positives: Integers

    @property
    def rows(self) -> Integers:
        """Examples at each distinct score: int64 [distinct]."""
        return self.negatives + self.positives


@dataclass(frozen=True)
class Sorted:
    """Scored rows, sorted once, so that any of them are counted in one pass.

    distinct  float64 [distinct], ascending scores
    cells     int64 [rows], twice the position of the row's score plus its target
    """

    distinct: Floats
    cells: Integers

    @classmethod
    def of(cls, target: NDArray[np.integer], score: Floats) -> Sorted:
        """Sort rows by their scores; targets are 0 or 1."""
        distinct, position = np.unique(score.astype(np.float64), return_inverse=True)
        return cls(distinct, 2 * position.astype(np.int64) + target.astype(np.int64))

    def tally(self, rows: Integers | slice = slice(None)) -> Tally:
        """Count the targets at each distinct score, of some rows by number, or of all."""
        counts = np.bincount(self.cells[rows], minlength=2 * len(self.distinct)).astype(
            np.int64, copy=False
        )
        return Tally(self.distinct, counts[0::2], counts[1::2])


Metric = Callable[[Tally], float]


def tally(target: NDArray[np.integer], score: Floats) -> Tally:
    """Count the targets (0 or 1) at each distinct score."""
    return Sorted.of(target, score).tally()


def flipped(tally: Tally) -> Tally:
    """Swap the classes: what scored the positives now scores the negatives by its complement."""
    return Tally(1 - tally.scores[::-1], tally.positives[::-1], tally.negatives[::-1])


def by_name(*, threshold: float, bins: int) -> dict[str, Metric]:
    """Give all metrics by name; scores must be probabilities for the last three.

    threshold  scores from here on predict the positive class
    bins       see `calibration`
    """
    return {
        "accuracy": lambda tally: accuracy(tally, threshold),
        "f1": lambda tally: f1(tally, threshold),
        "roc_auc": roc_auc,
        "pr_auc": average_precision,
        "pr_auc_negative": lambda tally: average_precision(flipped(tally)),
        "log_loss": log_loss,
        "brier": brier,
        "calibration_error": lambda tally: calibration_error(tally, bins),
    }


def measures(tally: Tally, *, threshold: float, bins: int) -> dict[str, float]:
    """Compute all metrics by name, see `by_name`."""
    metrics = by_name(threshold=threshold, bins=bins)
    return {name: compute(tally) for name, compute in metrics.items()}


def confusion(tally: Tally, threshold: float) -> Integers:
    """Count rows by actual class, then predicted class: int64 [2, 2]."""
    cut = int(np.searchsorted(tally.scores, threshold, side="left"))
    return np.array(
        [[counts[:cut].sum(), counts[cut:].sum()] for counts in (tally.negatives, tally.positives)]
    )


def accuracy(tally: Tally, threshold: float) -> float:
    """Give the share of rows whose class is predicted."""
    matrix = confusion(tally, threshold)
    return _ratio(matrix[0, 0] + matrix[1, 1], matrix.sum())


def f1(tally: Tally, threshold: float) -> float:
    """Give the harmonic mean of precision and recall of the positive class."""
    matrix = confusion(tally, threshold)
    return _ratio(2 * matrix[1, 1], 2 * matrix[1, 1] + matrix[0, 1] + matrix[1, 0])


def roc_auc(tally: Tally) -> float:
    """Give the probability that a positive outscores a negative, ties counting half."""
    below = np.cumsum(tally.negatives) - tally.negatives
    twice_the_wins = (tally.positives * (2 * below + tally.negatives)).sum()
    return _ratio(twice_the_wins, 2 * tally.positives.sum() * tally.negatives.sum())


def average_precision(tally: Tally) -> float:
    """Give the precision averaged over the recalled positives, highest score first.

    This is the step-wise area under the precision-recall curve, without interpolation.
    """
    found = np.cumsum(tally.positives[::-1])
    flagged = np.maximum(np.cumsum(tally.rows[::-1]), 1)  # 0 only before the first row
    return _ratio((tally.positives[::-1] * (found / flagged)).sum(), tally.positives.sum())


def log_loss(tally: Tally) -> float:
    """Give the mean negative log-likelihood in nats; certainty is clipped at machine epsilon."""
    tiny = np.finfo(np.float64).eps
    score = np.clip(tally.scores, tiny, 1 - tiny)
    losses = tally.positives * np.log(score) + tally.negatives * np.log1p(-score)
    return _ratio(-losses.sum(), tally.rows.sum())


def brier(tally: Tally) -> float:
    """Give the mean squared distance between score and target."""
    squares = tally.positives * (1 - tally.scores) ** 2 + tally.negatives * tally.scores**2
    return _ratio(squares.sum(), tally.rows.sum())


def calibration(tally: Tally, bins: int) -> tuple[Floats, Floats, Integers]:
    """Compare scores with what happened, in `bins` equal parts of 0..1; empty ones are left out.

    Gives the mean score, the share of positives, and the rows of each bin.
    """
    part = np.minimum((tally.scores * bins).astype(np.int64), bins - 1)
    rows = np.bincount(part, tally.rows, bins)
    positives = np.bincount(part, tally.positives, bins)
    score = np.bincount(part, tally.scores * tally.rows, bins)
    kept = rows > 0
    return (
        score[kept] / rows[kept],
        positives[kept] / rows[kept],
        rows[kept].astype(np.int64),
    )


def calibration_error(tally: Tally, bins: int) -> float:
    """Give the mean distance between score and observed rate over the bins, weighted by rows.

    Source: expected calibration error, Guo et al. 2017, arXiv:1706.04599.
    """
    score, observed, rows = calibration(tally, bins)
    return _ratio((rows * np.abs(score - observed)).sum(), rows.sum())


def roc_curve(tally: Tally) -> tuple[Floats, Floats]:
    """Give false and true positive rates from (0, 0) to (1, 1), one step for each score."""
    rates = [
        np.concatenate([[0], np.cumsum(counts[::-1])]) / max(int(counts.sum()), 1)
        for counts in (tally.negatives, tally.positives)
    ]
    return rates[0], rates[1]


def pr_curve(tally: Tally) -> tuple[Floats, Floats]:
    """Give recall and precision of the positive class, one step for each score, highest first."""
    found = np.cumsum(tally.positives[::-1])
    flagged = np.cumsum(tally.rows[::-1])
    return found / max(int(tally.positives.sum()), 1), found / np.maximum(flagged, 1)


def intervals(
    target: NDArray[np.integer],
    score: Floats,
    measure: Callable[[Tally], dict[str, float]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Bound each metric by the 95 % percentile bootstrap over rows."""
    draws = [measure(drawn) for (drawn,) in _resampled(target, [score], resamples, seed)]
    return {name: _bounds(np.array([draw[name] for draw in draws])) for name in draws[0]}


def paired_gain(
    target: NDArray[np.integer],
    score: Floats,
    other: Floats,
    quality: Metric = roc_auc,
    *,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Compare two scores of the same rows by the paired bootstrap.

    quality  of which more is better

    Gives the gain of `score` over `other` as `value`, and the rest as `summary` does.
    """
    drawn = [
        quality(first) - quality(second)
        for first, second in _resampled(target, [score, other], resamples, seed)
    ]
    value = quality(tally(target, score)) - quality(tally(target, other))
    return {"value": value, **summary(np.array(drawn))}


def summary(gains: Floats) -> dict[str, float]:
    """Bound resampled gains, and tell how probable a gain is.

    Gives the 95 % interval, and the share of resamples with a gain, ties counting half.
    """
    low, high = _bounds(gains)
    gains = gains[~np.isnan(gains)]
    wins = np.count_nonzero(gains > 0) + np.count_nonzero(gains == 0) / 2
    return {"low": low, "high": high, "probability_better": _ratio(wins, len(gains))}


def drawn_rows(rows: int, resamples: int, seed: int) -> Iterator[Integers]:
    """Draw the numbers of all rows with replacement, `resamples` times."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, rows, rows)


def _resampled(
    target: NDArray[np.integer], scores: Sequence[Floats], resamples: int, seed: int
) -> Iterator[list[Tally]]:
    """Count resampled rows, the same for all the scores."""
    ranked = [Sorted.of(target, score) for score in scores]
    for rows in drawn_rows(len(target), resamples, seed):
        yield [each.tally(rows) for each in ranked]


def _bounds(values: Floats) -> tuple[float, float]:
    """Give the interval's ends, without the resamples that left the metric undefined."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, INTERVAL)
    return float(low), float(high)


def _ratio(part: float | np.number, whole: float | np.number) -> float:
    return float(part / whole) if whole else float("nan")
