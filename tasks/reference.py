"""The reference profile: how each column of a good table was distributed, as plain JSON values.

Numbers are described by mean, standard deviation and the shares between their deciles; booleans and
names of few values by the share of each value. The last share is always that of the missing values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import drift, files
from tasks.errors import DataValidationError

MAX_NAMES = 20
"""A column with more distinct values than this is free text or a key: it has no distribution."""


def describe(frame: pl.DataFrame) -> dict[str, Any]:
    """Profile a table: its number of rows and, per column, dtype, null rate and distribution."""
    columns = {series.name: _column(series) for series in frame.get_columns()}
    return {"rows": frame.height, "columns": columns}


def load(file: Path) -> dict[str, Any]:
    """Read a profile; raise DataValidationError if the file holds none."""
    try:
        profile: dict[str, Any] = files.read_json(file)
        if isinstance(profile["columns"], dict):
            return profile
        found = "columns that are no mapping"
    except FileNotFoundError:
        found = "no such file"
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    suite_file = file.with_name(file.name.replace(".profile.json", ".json"))
    raise DataValidationError(
        f"{file}: must be a reference profile (got {found})\n"
        f"next: delete it and its suite, and draft both: "
        f"python -m tasks.draft data/ingest {suite_file}"
    )


def psi(profile: dict[str, Any], series: pl.Series) -> float:
    """Compute the stability index of a column against its profile, over the profile's bins."""
    column = profile["columns"][series.name]
    if "edges" in column:
        observed = _number_counts(_numbers(series), column["edges"], series.len())
    else:
        observed = _name_counts(series, column["names"])
    return drift.psi(np.array(column["shares"]) * profile["rows"], np.array(observed))


def mean_and_deviation(series: pl.Series) -> tuple[float, float]:
    """Mean and standard deviation of the finite values of a column; NaN if there are none."""
    values = _numbers(series)
    if not values.size:
        return float("nan"), float("nan")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.mean()), float(values.std())


def _column(series: pl.Series) -> dict[str, Any]:
    nulls = series.null_count() / series.len() if series.len() else 0.0
    described: dict[str, Any] = {"dtype": str(series.dtype), "null_rate": _short(nulls)}
    if series.dtype.is_numeric():
        described |= _number_profile(series)
    elif series.dtype in (pl.Boolean, pl.String, pl.Categorical, pl.Enum):
        described |= _name_profile(series)
    return described


def _number_profile(series: pl.Series) -> dict[str, Any]:
    mean, deviation = mean_and_deviation(series)
    if not np.isfinite([mean, deviation]).all():
        return {}
    values = _numbers(series)
    deciles = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf")
    edges = sorted({_short(edge) for edge in deciles.tolist()})
    counts = _number_counts(values, edges, series.len())
    return {
        "min": _short(values.min()),
        "max": _short(values.max()),
        "mean": _short(mean),
        "deviation": _short(deviation),
        "edges": edges,
        "shares": _shares(counts),
    }


def _name_profile(series: pl.Series) -> dict[str, Any]:
    names = series.drop_nulls().cast(pl.String).unique().sort().to_list()
    if not 0 < len(names) <= MAX_NAMES:
        return {}
    return {"names": names, "shares": _shares(_name_counts(series, names))}


def _number_counts(values: NDArray[np.float64], edges: list[float], rows: int) -> list[int]:
    """Rows in the bins (.., edge], then those of what is missing or not finite."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return [*counts.tolist(), rows - values.size]


def _name_counts(series: pl.Series, names: list[str]) -> list[int]:
    """Rows of each known name, then of all other names, then of what is missing."""
    values = series.cast(pl.String)
    counts = [int((values == name).sum()) for name in names]
    others = values.len() - values.null_count() - sum(counts)
    return [*counts, others, values.null_count()]


def _shares(counts: list[int]) -> list[float]:
    return [_short(count / sum(counts)) for count in counts]


def _numbers(series: pl.Series) -> NDArray[np.float64]:
    values = series.drop_nulls().cast(pl.Float64).to_numpy()
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return finite


def _short(value: float) -> float:
    """Twelve significant digits: enough for any bound, and short enough to read in a diff."""
    return float(f"{value:.12g}")
