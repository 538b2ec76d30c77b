"""How two Parquet files differ: the schema, the rows, or the first column and row."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import polars as pl

from tasks import files

NAME = "Parquet"
LONGEST_VALUE = 60

read = files.read_parquet


def compare(expected: pl.DataFrame, got: pl.DataFrame) -> str:
    """Say how schema, number of rows or values differ; values by the first column and row.

    Rows are counted from 0.
    """
    if (fault := _of_schemas(expected, got)) is not None:
        return fault
    common = min(expected.height, got.height)
    differing = _differing(expected.head(common), got.head(common))
    if not differing and expected.height == got.height:
        return "the same rows, in other bytes (the file's metadata, its layout, or who wrote it)"
    if expected.height == got.height:
        same_rows = _same_in_another_order(expected, got)
        return _first(expected, got, differing) + (", the same rows in another order" * same_rows)
    counts = f"{got.height} rows instead of {expected.height}"
    return f"{counts}; {_first(expected, got, differing) or 'the first are the same'}"


def _of_schemas(expected: pl.DataFrame, got: pl.DataFrame) -> str | None:
    for name in [*expected.columns, *got.columns]:
        if name not in got.columns:
            return f"column {name} is missing"
        if name not in expected.columns:
            return f"column {name} is there, and is not expected"
        if got.schema[name] != expected.schema[name]:
            return f"column {name}: {got.schema[name]} instead of {expected.schema[name]}"
    if got.columns != expected.columns:
        pairs = zip(got.columns, expected.columns, strict=True)
        one, other = next((one, other) for one, other in pairs if one != other)
        return f"the same columns in another order: {one} instead of {other}"
    return None


def _differing(expected: pl.DataFrame, got: pl.DataFrame) -> dict[str, pl.Series]:
    """Give, for each column that differs, the numbers of its rows that do."""
    found = {name: _rows(expected[name], got[name]) for name in expected.columns}
    return {name: rows for name, rows in found.items() if len(rows)}


def _rows(expected: pl.Series, got: pl.Series) -> pl.Series:
    """Give the rows in which two columns differ: 0.0 from -0.0, but no NaN from another."""
    differ = ~expected.eq_missing(got)
    if expected.dtype.is_float():
        zeros = (expected == 0) & (got == 0) & (_is_negative(expected) != _is_negative(got))
        differ |= zeros.fill_null(value=False)
    return differ.arg_true()


def _is_negative(values: pl.Series) -> pl.Series:
    """Tell the sign, which -0.0 has, too."""
    return (1 / values) < 0


def _first(expected: pl.DataFrame, got: pl.DataFrame, differing: dict[str, pl.Series]) -> str:
    """Name the first column and row that differ; "" if none does."""
    if not differing:
        return ""
    name, rows = next(iter(differing.items()))
    row = int(rows[0])
    values = f"{_shown(got[name][row])} instead of {_shown(expected[name][row])}"
    more = len(differing) - 1
    others = f", and in {more} more column{'s'[: more - 1]}" if more else ""
    count = min(expected.height, got.height)
    return f"column {name}, row {row}: {values} (in {len(rows)} of {count} rows{others})"


def _shown(value: Any) -> str:
    text = repr(value.to_list() if isinstance(value, pl.Series) else value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _same_in_another_order(expected: pl.DataFrame, got: pl.DataFrame) -> bool:
    """Tell whether both have the same rows; no, where there are values that cannot be hashed."""
    with suppress(pl.exceptions.PolarsError):
        one, other = expected.hash_rows(), got.hash_rows()
        return not one.equals(other) and one.sort().equals(other.sort())
    return False
