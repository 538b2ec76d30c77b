"""Measure the champion by outcomes that became known after its evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks import metrics
from tasks.champion import Champion
from tasks.examples import PARTS, Split
from tasks.metrics import Floats, Metric, Tally
from tasks.recipes.roles import ROW

ROWS_PER_BIN = 100
"""Rows with an outcome that a bin of the calibration needs: in fewer, chance looks like error."""


@dataclass(frozen=True)
class Live:
    """ROC AUC and calibration error on examples whose outcome became known since.

    rows     how many, and `what` they are
    value    by metric, NaN where it is undefined; `interval` its 95 % bounds
    promise  the metrics of the evaluation's test part; `promised` their bounds
    """

    rows: int
    what: str
    value: dict[str, float]
    interval: dict[str, tuple[float, float]]
    promise: dict[str, float | None]
    promised: dict[str, dict[str, float | None]]


def new_outcomes(then: Split, now: Split) -> tuple[str, pl.DataFrame]:
    """Give the examples whose outcome was not known then, in words and as rows.

    Of cutoffs, the newest alone. Rows of a table without a key cannot be told apart: none is new.
    """
    keys = list(then.columns.keys)
    has_cutoffs = "cutoffs" in now.rule
    found = pl.concat([now.parts[part] for part in (("test",) if has_cutoffs else PARTS)])
    if keys == [ROW]:
        return "", found.clear()
    known = pl.concat([then.parts[part].select(keys) for part in PARTS])
    what = "rows"
    if has_cutoffs:
        (cutoff,) = found[keys[-1]].unique()
        what = f"customers as of {cutoff}"
    return what, found.join(known, on=keys, how="anti", maintain_order="left")


def measure(
    champion: Champion, fresh: pl.DataFrame, score: Floats, what: str, *, resamples: int, seed: int
) -> Live | None:
    """Set scores beside outcomes, and beside what the evaluation promised; None without rows."""
    if fresh.is_empty():
        return None
    target = fresh[champion.columns.target].to_numpy().astype(np.int64)
    bins = min(champion.settings["evaluate"]["calibration_bins"], len(target) // ROWS_PER_BIN)
    measures: dict[str, Metric] = {
        "roc_auc": metrics.roc_auc,
        "calibration_error": lambda tally: metrics.calibration_error(tally, max(bins, 1)),
    }

    def compute(tally: Tally) -> dict[str, float]:
        return {name: measure(tally) for name, measure in measures.items()}

    return Live(
        rows=len(target),
        what=what,
        value=compute(metrics.tally(target, score)),
        interval=metrics.intervals(target, score, compute, resamples=resamples, seed=seed),
        promise={name: champion.metrics["test"][name] for name in measures},
        promised={name: champion.metrics["test_interval"][name] for name in measures},
    )
