"""The simplest models, which any other must beat: the base rate, and one feature alone.

Both are fitted on the training part with exact integer counts, so they never differ by a bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks import metrics
from tasks.encoder import Dataset
from tasks.metrics import Floats


@dataclass(frozen=True)
class OneFeature:
    """Score by one number: a monotone step function, and a rate where it is missing.

    position  the number's column in `Dataset.numeric`
    sign      1 if larger values are likelier positive, else -1
    starts    the least signed value of each step, ascending: [steps]
    rates     the score of each step: [steps]
    """

    name: str
    position: int
    sign: int
    starts: Floats
    rates: Floats
    missing_rate: float

    def predict(self, data: Dataset) -> Floats:
        """Give the probability of the event: [rows]."""
        values = self.sign * data.numeric[:, self.position].astype(np.float64)
        step = np.maximum(np.searchsorted(self.starts, values, side="right") - 1, 0)
        return np.where(np.isnan(values), self.missing_rate, self.rates[step])


def base_rate(train: Dataset) -> float:
    """Give the share of positives: the score of a model that knows nothing of the row."""
    return float(_target(train).sum(dtype=np.int64) / len(_target(train)))


def fit_one_feature(train: Dataset) -> OneFeature | None:
    """Fit the number whose training ROC AUC is farthest from one half; the first of equals.

    Each step's rate is drawn to the base rate by one example, so none is certain. None without
    a number that has a value.
    """
    target = _target(train)
    columns = [train.numeric[:, column].astype(np.float64) for column in range(_numbers(train))]
    edges = [_edge(target, values) for values in columns]
    if not edges or not np.any(np.abs(edges)):
        return None
    best = int(np.argmax(np.abs(edges)))
    sign = 1 if edges[best] > 0 else -1
    known = ~np.isnan(columns[best])
    prior = base_rate(train)
    starts, positives, rows = _isotonic(target[known], sign * columns[best][known])
    missing = (target[~known].sum(dtype=np.int64) + prior) / (np.count_nonzero(~known) + 1)
    rates = (positives + prior) / (rows + 1)
    return OneFeature(train.names[best], best, sign, starts, rates, float(missing))


def _edge(target: NDArray[np.integer], values: Floats) -> float:
    """Give the ROC AUC less one half, with missing values at the end where they serve better.

    Zero for a constant.
    """
    filled = [np.where(np.isnan(values), end, values) for end in (-np.inf, np.inf)]
    edges = [metrics.roc_auc(metrics.tally(target, each)) - 0.5 for each in filled]
    return float(np.nan_to_num(max(edges, key=abs)))


def _isotonic(
    target: NDArray[np.integer], values: Floats
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Pool neighbouring values until the rate of positives rises from each step to the next.

    Gives the first value, positives and rows of each step. Source: the pool-adjacent-violators
    algorithm, Ayer et al. 1955.
    """
    counted = metrics.tally(target, values)
    steps: list[tuple[float, int, int]] = []
    for step in zip(
        counted.scores.tolist(), counted.positives.tolist(), counted.rows.tolist(), strict=True
    ):
        steps.append(step)
        while len(steps) > 1 and steps[-2][1] * steps[-1][2] >= steps[-1][1] * steps[-2][2]:
            _, positives, rows = steps.pop()
            start, positives_before, rows_before = steps.pop()
            steps.append((start, positives_before + positives, rows_before + rows))
    starts, positives_of, rows_of = zip(*steps, strict=True)
    return np.array(starts), np.array(positives_of), np.array(rows_of)


def _numbers(data: Dataset) -> int:
    return int(data.numeric.shape[1])


def _target(data: Dataset) -> NDArray[np.integer]:
    if data.target is None:
        raise ValueError("a baseline must be fitted on examples with a target (got none)")
    return data.target.astype(np.int64)
