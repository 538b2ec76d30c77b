"""Tell what choosing the best of many is worth, on rows that had no part in the choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks import metrics
from tasks.metrics import Floats, Integers, Metric, Sorted


def improvement(
    target: Integers,
    candidates: Sequence[Floats],
    current: Floats,
    *,
    quality: Metric,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Estimate the gain of the best candidate over the current scores of the same rows.

    candidates  the scores of each, [rows]
    quality     of which more is better

    The best is chosen anew on each resample of the rows, and its gain is taken on those that were
    not drawn. Gives the mean gain as `value`, and the rest as `metrics.summary` does. The interval
    is a cautious one, since each resample leaves out only some 37 % of the rows.

    Source: the bootstrap bias corrected estimate of Tsamardinos et al. 2018, arXiv:1708.07180.
    """
    known, rivals = Sorted.of(target, current), [Sorted.of(target, each) for each in candidates]
    gains = []
    for rows in metrics.drawn_rows(len(target), resamples, seed):
        left_out = np.setdiff1d(np.arange(len(target)), rows)
        best = max(rivals, key=lambda rival: _defined(quality(rival.tally(rows))))
        gains.append(quality(best.tally(left_out)) - quality(known.tally(left_out)))
    found = np.array(gains)
    defined = found[~np.isnan(found)]
    return {"value": float(defined.mean()) if len(defined) else np.nan, **metrics.summary(found)}


def _defined(quality: float) -> float:
    """Rank what is undefined, as the ROC AUC of one class alone, below all else."""
    return -np.inf if np.isnan(quality) else quality
