"""Say what moves a model's scores: its features overall, and the reasons behind single rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tasks.encoder import Dataset
from tasks.models import Fitted

REASONS = 5
"""How many of the strongest reasons are given for a row."""


def importance(fitted: Fitted, data: Dataset) -> pl.DataFrame:
    """Give `feature` and `mean_abs_contribution` over the rows in log-odds, strongest first."""
    moved = np.abs(fitted.contributions(data)[:, :-1]).mean(axis=0)
    rows = pl.DataFrame({"feature": data.names, "mean_abs_contribution": moved})
    return rows.sort("mean_abs_contribution", "feature", descending=[True, False])


def reasons(
    fitted: Fitted, data: Dataset, frame: pl.DataFrame, shown: Sequence[str]
) -> list[dict[str, Any]]:
    """Give the columns `shown` of each row, and the features that moved its score the most.

    frame  the raw rows that `data` encodes; a contribution is in log-odds
    """
    contributions = fitted.contributions(data)[:, :-1]
    told = []
    for row, moved in zip(frame.iter_rows(named=True), contributions, strict=True):
        strongest = np.argsort(-np.abs(moved), kind="stable")[:REASONS]
        why = [
            {
                "feature": data.names[position],
                "value": _plain(row[data.names[position]]),
                "contribution": float(moved[position]),
            }
            for position in strongest
        ]
        told.append({**{name: _plain(row[name]) for name in shown}, "reasons": why})
    return told


def _plain(value: Any) -> Any:
    """Make a value fit for JSON: dates and decimals as text, NaN and infinity as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
