"""Thin curves into the few JSON points that `dvc plots` draws, always the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import metrics
from tasks.metrics import Tally

MOST_POINTS = 200
"""The most points kept of a curve."""

MOST_ROWS = 1000
"""The rows that stand for all in the confusion matrix, which `dvc plots` counts itself."""

Points = list[dict[str, Any]]


def spaced(rows: int, wanted: int) -> NDArray[np.int64]:
    """Pick at most `wanted` of `rows` positions, evenly, the first and the last among them."""
    if wanted >= rows:
        return np.arange(rows)
    return np.arange(wanted) * (rows - 1) // max(wanted - 1, 1)


def roc(tally: Tally) -> Points:
    """Give `false_positive_rate` and `true_positive_rate`."""
    return _points(metrics.roc_curve(tally), ("false_positive_rate", "true_positive_rate"))


def precision_recall(tally: Tally) -> Points:
    """Give `recall` and `precision`."""
    return _points(metrics.pr_curve(tally), ("recall", "precision"))


def calibration(tally: Tally, bins: int) -> Points:
    """Give `score`, `observed` and `rows` of each bin."""
    return _points(metrics.calibration(tally, bins), ("score", "observed", "rows"))


def confusion(tally: Tally, threshold: float, event: str) -> Points:
    """Give `actual` and `predicted` of at most `MOST_ROWS` rows, in proportion to all.

    Cells are rounded by the largest remainder, so that the rows add up.
    """
    counts = metrics.confusion(tally, threshold).ravel()
    wanted = min(int(counts.sum()), MOST_ROWS)
    kept, remainder = np.divmod(counts * wanted, max(int(counts.sum()), 1))
    kept[np.argsort(-remainder, kind="stable")[: wanted - int(kept.sum())]] += 1
    names = (f"not {event}", event)
    cells = [(actual, predicted) for actual in names for predicted in names]
    return [
        {"actual": actual, "predicted": predicted}
        for (actual, predicted), count in zip(cells, kept.tolist(), strict=True)
        for _ in range(count)
    ]


def _points(columns: tuple[NDArray[Any], ...], names: tuple[str, ...]) -> Points:
    kept = spaced(len(columns[0]), MOST_POINTS)
    rows = zip(*(column[kept].tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]
