"""What suites ask of a table beyond Great Expectations' own vocabulary: one plain function each.

A function's name and keyword-only arguments are the expectation's type and kwargs in a suite file;
`tasks.expectations` derives the class that Great Expectations wants from the signature. To add an
expectation, write its function here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from tasks import reference

MAX_ROWS = 20
"""How many offending rows a verdict points to."""


@dataclass(frozen=True)
class Verdict:
    """Whether an expectation holds, what was observed, and where the first offending rows are."""

    passed: bool
    observed: str
    rows: tuple[int, ...] = ()


def expect_column_dtype_to_be(frame: pl.DataFrame, *, column: str, dtype: str) -> Verdict:
    """Hold a column to the type that Polars names so."""
    observed = dtype_name(frame.schema[column])
    return Verdict(observed == dtype, observed)


def expect_column_values_to_be_finite(frame: pl.DataFrame, *, column: str) -> Verdict:
    """Forbid NaN and infinity; nulls are not looked at."""
    return _rows(~frame[column].is_finite().fill_null(True), frame[column])


def expect_column_mean_to_be_near_profile(
    frame: pl.DataFrame, *, column: str, max_shift: float, profile: dict[str, Any]
) -> Verdict:
    """Hold the mean within `max_shift` standard deviations of the profile's mean."""
    known = profile["columns"][column]
    mean, _ = reference.mean_and_deviation(frame[column])
    shift = abs(mean - known["mean"])
    noise = 1e-9 * abs(
        known["mean"]
    )  # a constant column has no deviation, but its mean has rounding
    return Verdict(
        shift <= max_shift * known["deviation"] + noise,
        f"mean {mean:.6g}, the profile's {known['mean']:.6g} ± {known['deviation']:.6g}",
    )


def expect_column_drift_to_be_at_most(
    frame: pl.DataFrame,
    *,
    column: str,
    max_psi: float,
    profile: dict[str, Any],
    time_column: str = "",
    before: str = "",
    months: int = 1,
) -> Verdict:
    """Hold the stability index against the profile at `max_psi` in each of the last months.

    Without a time column the whole table is compared. Months before the first event are skipped.
    """
    if not time_column:
        drift = reference.psi(profile, frame[column]) if frame.height else float("inf")
        return Verdict(drift <= max_psi, f"PSI {drift:.4f}")
    parts = last_months(frame, time_column, before, months)
    drifts = [
        (reference.psi(profile, part[column]) if part.height else float("inf"), first)
        for first, part in parts
    ]
    worst, first = max(drifts, default=(float("inf"), None))
    return Verdict(worst <= max_psi, f"PSI {worst:.4f} in the month from {first}")


def expect_column_events_to_be_within(
    frame: pl.DataFrame, *, column: str, first: str, before: str
) -> Verdict:
    """Hold every event at or after the day `first` and before the day `before`."""
    days = _days(frame, column)
    outside = (days < date.fromisoformat(first)) | (days >= date.fromisoformat(before))
    return _rows(outside.fill_null(False), frame[column])


def expect_column_events_to_be_fresh(
    frame: pl.DataFrame, *, column: str, max_age_days: int, before: str
) -> Verdict:
    """Hold the newest event at most `max_age_days` days before the day `before`."""
    newest = _days(frame, column).max()
    if not isinstance(newest, date):
        return Verdict(False, "no event")
    age = (date.fromisoformat(before) - newest).days
    return Verdict(age <= max_age_days, f"newest event {newest}, {age} days old")


def expect_column_gaps_to_be_at_most(
    frame: pl.DataFrame, *, column: str, max_gap_days: int
) -> Verdict:
    """Hold the days between one event and the next at `max_gap_days`: a lost file leaves a gap."""
    days = _days(frame, column).drop_nulls().unique().sort()
    gaps = days.diff().dt.total_days()
    widest = gaps.arg_max()
    if widest is None:
        return Verdict(days.len() > 0, f"{days.len()} days with events")
    return Verdict(gaps[widest] <= max_gap_days, f"{gaps[widest]} days before {days[widest]}")


def expect_column_monthly_events_to_be_between(
    frame: pl.DataFrame,
    *,
    column: str,
    min_value: int,
    max_value: int,
    before: str,
    months: int = 1,
) -> Verdict:
    """Hold the number of events in each of the last months before the day `before` in bounds."""
    counts = [(part.height, first) for first, part in last_months(frame, column, before, months)]
    off = [(count, first) for count, first in counts if not min_value <= count <= max_value]
    told = ", ".join(f"{count} in the month from {first}" for count, first in off or counts)
    return Verdict(bool(counts) and not off, told or "no event")


def expect_table_duplicates_to_be_at_most(frame: pl.DataFrame, *, max_share: float) -> Verdict:
    """Hold the share of rows that repeat an earlier row in every column at `max_share`."""
    repeated = repeats(frame)
    share = repeated.sum() / max(frame.height, 1)
    positions = tuple(repeated.arg_true().head(MAX_ROWS).to_list())
    told = f"{repeated.sum()} of {frame.height} rows, a share of {share:.4f}"
    return Verdict(share <= max_share, told, positions)


MEASURES: dict[str, Callable[..., Verdict]] = {
    name: measure for name, measure in globals().items() if name.startswith("expect_")
}
"""Every expectation of this module by its type in a suite file."""


def repeats(frame: pl.DataFrame) -> pl.Series:
    """Mark each row that equals an earlier one in every column."""
    return ~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series()


def dtype_name(dtype: pl.DataType) -> str:
    """Name a type as suites and messages do; an Enum is a Categorical, as pandas knows no Enum."""
    return "Categorical" if isinstance(dtype, pl.Enum) else str(dtype)


def _rows(offending: pl.Series, values: pl.Series) -> Verdict:
    count = int(offending.sum())
    if not count:
        return Verdict(True, f"all {values.len()} rows")
    positions = offending.arg_true().head(MAX_ROWS)
    examples = ", ".join(str(value) for value in values.gather(positions.head(3)).to_list())
    return Verdict(
        False, f"{count} of {values.len()} rows, such as {examples}", tuple(positions.to_list())
    )


def _days(frame: pl.DataFrame, column: str) -> pl.Series:
    """Days of a Date or Datetime column (UTC if it has a zone); other types are refused."""
    series = frame[column]
    if not series.dtype.is_temporal():
        raise TypeError(f"{series.dtype} holds no dates")
    return series.cast(pl.Date)


def last_months(
    frame: pl.DataFrame, column: str, before: str, months: int
) -> list[tuple[date, pl.DataFrame]]:
    """Split off the last months before a day, newest first, none that ends before the first event.

    A month is as long as the calendar's: before 1998-07-15 it begins at 1998-06-15.
    """
    days = _days(frame, column)
    starts = [_months_earlier(before, back) for back in range(months + 1)]
    oldest = days.min()
    return [
        (first, frame.filter((days >= first) & (days < end)))
        for end, first in itertools.pairwise(starts)
        if isinstance(oldest, date) and oldest < end
    ]


def _months_earlier(day: str, months: int) -> date:
    earlier: date = pl.Series([date.fromisoformat(day)]).dt.offset_by(f"-{months}mo").item()
    return earlier
