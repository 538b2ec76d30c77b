"""Draft a suite of expectations and its reference profile from an ingested table: a start to edit.

The table it is drafted from meets it. Bounds are generous; tighten those that matter to you.

    python -m tasks.draft data/ingest data/suites/my_table.json
"""

from __future__ import annotations

import math
import sys
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any

import polars as pl

from tasks import command, files, measures, reference, suites
from tasks.errors import DataValidationError
from tasks.suites import expectation, parameter

MAX_SHIFT = 0.25
"""Drafted bound of a mean's shift, in the profile's standard deviations."""

MAX_PSI = 0.2
"""Drafted bound of drift: the usual line between a small shift and one to act on."""

FEW_EVENTS = 200
"""With fewer events in a month, drift and monthly counts are mostly chance and are not drafted."""


def draft(
    frame: pl.DataFrame, profile: dict[str, Any], time_column: str | None, before: str
) -> list[dict[str, Any]]:
    """Write expectations that a table meets: of the table, of its time, of each column."""
    month = _last_month(frame, time_column, before) if time_column else frame
    suite = _of_table(frame)
    if time_column:
        suite += _of_time(frame[time_column], month.height)
    for series in frame.get_columns():
        suite += _of_values(series, profile["columns"][series.name])
        suite += _of_distribution(profile, month[series.name], time_column)
    return suite


def run(ingest_folder: Path, suite_file: Path) -> None:
    """Write `<suite>.json` and `<suite>.profile.json`; refuse to replace a suite."""
    frame = files.read_parquet(ingest_folder / "snapshot.parquet")
    manifest = files.read_json(ingest_folder / "manifest.json")
    check(frame, [suite_file, suites.profile_of(suite_file)])
    profile = reference.describe(frame)
    suite = draft(frame, profile, manifest["time_column"], manifest["dataset_version"])
    suites.write(suite_file, suite, profile)
    print(f"{len(suite)} expectations drafted: read {suite_file} and tighten what matters to you,")
    print(f"then set validate.suite: {suite_file.stem} in params.yaml")


def check(frame: pl.DataFrame, written: list[Path]) -> None:
    """Raise DataValidationError if there is nothing to draft from, or a file to overwrite."""
    existing = ", ".join(str(file) for file in written if file.exists())
    if existing:
        raise DataValidationError(
            f"{existing}: must not exist (a draft never replaces what you may have edited)\n"
            "next: delete these files, or draft under another name"
        )
    if frame.is_empty():
        raise DataValidationError(
            "the ingested table: must have rows to draft from (got none)\n"
            "next: check ingest.source and ingest.dataset_version in params.yaml"
        )


def _of_table(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Expect the columns in order, their types, the number of rows, and how many may repeat."""
    repeated = int(measures.repeats(frame).sum())
    return [
        expectation(suites.COLUMNS, column_list=frame.columns),
        *(
            expectation("expect_column_dtype_to_be", column=name, dtype=measures.dtype_name(dtype))
            for name, dtype in frame.schema.items()
        ),
        expectation(
            "expect_table_row_count_to_be_between",
            min_value=math.ceil(0.7 * frame.height),
            max_value=math.ceil(1.5 * frame.height),
        ),
        expectation(
            "expect_table_duplicates_to_be_at_most",
            max_share=_up(1.5 * repeated / frame.height + 0.005, digits=3),
        ),
    ]


def _of_time(times: pl.Series, events: int) -> list[dict[str, Any]]:
    """Expect events in time, a fresh one, no long gap, and as many a month as in the last."""
    days = times.drop_nulls().cast(pl.Date).unique().sort()
    if days.is_empty():
        return []
    before, column = parameter("dataset_version"), times.name
    widest = max(days.diff().drop_nulls().dt.total_days().to_list(), default=0)
    suite = [
        expectation(
            "expect_column_events_to_be_within", column=column, first=str(days[0]), before=before
        ),
        expectation(
            "expect_column_events_to_be_fresh",
            column=column,
            max_age_days=parameter("max_age_days"),
            before=before,
        ),
        expectation("expect_column_gaps_to_be_at_most", column=column, max_gap_days=2 * widest + 1),
    ]
    if events >= FEW_EVENTS:
        bounds = {"min_value": math.ceil(0.6 * events), "max_value": math.ceil(1.8 * events)}
        kind = "expect_column_monthly_events_to_be_between"
        suite.append(expectation(kind, column=column, **bounds, before=before))
    return suite


def _of_values(series: pl.Series, known: dict[str, Any]) -> list[dict[str, Any]]:
    """Expect few nulls, finite numbers, numbers in range, known names."""
    column, nulls = series.name, series.null_count() / series.len()
    mostly = 1.0 if not nulls else max(0.0, 1 - _up(1.5 * nulls + 0.01, digits=2))
    suite = [
        expectation("expect_column_values_to_not_be_null", column=column, mostly=round(mostly, 2))
    ]
    finite = not series.dtype.is_float() or bool(series.drop_nulls().is_finite().all())
    if series.dtype.is_float() and finite:
        suite.append(expectation("expect_column_values_to_be_finite", column=column))
    if "edges" in known and finite:
        low, high = _range(series.min(), series.max())
        kind = "expect_column_values_to_be_between"
        suite.append(expectation(kind, column=column, min_value=low, max_value=high))
    if "names" in known and series.dtype != pl.Boolean:
        kind = "expect_column_values_to_be_in_set"
        suite.append(expectation(kind, column=column, value_set=known["names"], mostly=0.99))
    return suite


def _of_distribution(
    described: dict[str, Any], month: pl.Series, time_column: str | None
) -> list[dict[str, Any]]:
    """Expect the mean and the drift to stay, where the last month is near the profile already."""
    column, profile = month.name, parameter("profile")
    known, suite = described["columns"][column], []
    if "mean" in known:
        kind = "expect_column_mean_to_be_near_profile"
        suite.append(expectation(kind, column=column, max_shift=MAX_SHIFT, profile=profile))
    if "shares" in known and month.len() and reference.psi(described, month) <= MAX_PSI / 2:
        kwargs: dict[str, Any] = {"column": column, "max_psi": MAX_PSI, "profile": profile}
        if time_column and month.len() >= FEW_EVENTS:
            before = parameter("dataset_version")
            kwargs |= {"time_column": time_column, "before": before}
        suite.append(expectation("expect_column_drift_to_be_at_most", **kwargs))
    return suite


def _last_month(frame: pl.DataFrame, time_column: str, before: str) -> pl.DataFrame:
    parts = measures.last_months(frame, time_column, before, 1)
    return parts[0][1] if parts else frame.clear()


def _range(low: Any, high: Any) -> tuple[float, float]:
    """Widen a range by half its width, rounded outward to two digits; never across zero."""
    low, high = Decimal(low), Decimal(high)
    margin = (high - low) / 2
    least = Context(prec=2, rounding=ROUND_FLOOR).create_decimal(low - margin)
    most = Context(prec=2, rounding=ROUND_CEILING).create_decimal(high + margin)
    least = max(least, Decimal(0)) if low >= 0 else least
    most = min(most, Decimal(0)) if high <= 0 else most
    return max(float(least), -sys.float_info.max), min(float(most), sys.float_info.max)


def _up(value: float, *, digits: int) -> float:
    return math.ceil(value * 10.0**digits) / 10.0**digits


if __name__ == "__main__":
    command.main(run)
