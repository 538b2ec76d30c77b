"""What the files of an offline store told before a day, as one table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from tasks import lake
from tasks.lake import SourceFile


@dataclass(frozen=True)
class Held:
    """What an offline store holds; a table without a time column is taken whole."""

    source: str
    time_column: str | None
    parts: list[SourceFile]

    def before(self, day: date) -> pl.DataFrame | None:
        """Give what was known before a day, sorted; None if that was nothing."""
        seen = known(self.parts, day, self.time_column)
        return snapshot(seen, self.time_column) if seen else None


def read(source: str, time_column: str | None) -> Held:
    """Read an offline store; raises as `lake.read`."""
    return Held(source, time_column, lake.read(source, time_column))


def known(parts: list[SourceFile], day: date, time_column: str | None) -> list[SourceFile]:
    """Keep the events before `day`, and the files that hold any.

    The types of CSV files are those of what was known: later events must not change them.
    """
    seen = [replace(part, rows=before(part.rows, day, time_column)) for part in parts]
    return lake.unified([part for part in seen if not part.rows.is_empty()])


def before(rows: pl.DataFrame, day: date, time_column: str | None) -> pl.DataFrame:
    """Keep the events before `day`; one without a time is kept, for `validate` to judge."""
    if time_column is None:
        return rows
    return rows.filter((days(rows[time_column]) < day).fill_null(True))


def days(time: pl.Series) -> pl.Series:
    """Give the day of each event; a CSV file without any time has strings there, all null."""
    return time.dt.date() if time.dtype.is_temporal() else time.cast(pl.Date)


def snapshot(parts: list[SourceFile], time_column: str | None) -> pl.DataFrame:
    """Join the files into one table, sorted by time, then by every other column."""
    rows = pl.concat([part.rows for part in parts])
    first = [time_column] if time_column else []
    return rows.sort([*first, *(name for name in rows.columns if name not in first)])


def newest(parts: list[SourceFile], time_column: str) -> date | None:
    """Find the day of the last event; None if no event has a time."""
    lasts = (last_day(part.rows, time_column) for part in parts)
    return max((day for day in lasts if day is not None), default=None)


def last_day(rows: pl.DataFrame, time_column: str) -> date | None:
    """Give the day of the last event of a table; None if none has a time."""
    last = days(rows[time_column]).max()
    return last if isinstance(last, date) else None
