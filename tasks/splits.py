"""Share rows out to train, val and test so that neither their order nor a library's hash matters.

A row's place in the queue is SHA-256 over the seed and its key. Whoever has the same key and seed
has the same place, today and when the table has grown.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.errors import DataValidationError
from tasks.params import Section

NAMES = np.array(["train", "val", "test"])

Share = Annotated[float, Field(gt=0, lt=1)]
Moment = date | datetime | int


@dataclass(frozen=True)
class Lot:
    """What there is to share out: rows, their keys, and their target as 0 and 1."""

    rows: pl.DataFrame
    keys: pl.DataFrame
    target: pl.Series
    seed: int


class Ratios(Section):
    """Which share each part gets; 1 in all."""

    train: Share
    val: Share
    test: Share

    @model_validator(mode="after")
    def _add_up(self) -> Ratios:
        if not math.isclose(self.train + self.val + self.test, 1, abs_tol=1e-6):
            raise PydanticCustomError("ratios", "train, val and test must add up to 1")
        return self


class Cuts(Section):
    """The first moment of val and of test: a date, a time, or a whole number such as a year."""

    val: Moment
    test: Moment

    @model_validator(mode="after")
    def _ascend(self) -> Cuts:
        if isinstance(self.val, int) != isinstance(self.test, int):
            raise PydanticCustomError("cuts", "val and test must both be dates, or both be numbers")
        if not _comparable(self.val) < _comparable(self.test):
            raise PydanticCustomError("cuts", "val must come before test")
        return self


class ByKey(Section):
    """By the key.

    random      a row keeps its part for ever, also in a larger table; shares are nearly exact
    stratified  each part gets its exact share of both classes
    """

    by: Literal["random", "stratified"]
    ratios: Ratios

    @property
    def uses(self) -> tuple[str, ...]:
        """The columns that parts are made by, besides the key and the target."""
        return ()

    def assign(self, lot: Lot) -> pl.Series:
        """Give the part of each row."""
        places = _places(lot.keys, lot.seed)
        if self.by == "random":
            ends = np.cumsum([self.ratios.train, self.ratios.val])
            return pl.Series(NAMES[np.searchsorted(ends, places, side="right")])
        parts = np.empty(len(places), NAMES.dtype)
        for value in (0, 1):
            chosen = np.flatnonzero(lot.target.to_numpy() == value)
            queue = chosen[np.argsort(places[chosen], kind="stable")]
            parts[queue] = _share_out(len(queue), self.ratios)
        return pl.Series(parts)


class ByGroup(Section):
    """By a column: all rows of a group are in one part; shares are exact in groups, not in rows."""

    by: Literal["group"]
    column: str = Field(description="column of strings, integers or dates, without nulls")
    ratios: Ratios

    @property
    def uses(self) -> tuple[str, ...]:
        """The columns that parts are made by, besides the key and the target."""
        return (self.column,)

    def check(self, rows: pl.DataFrame) -> list[str]:
        """Say what is wrong with the column."""
        return _column_errors(self.column, rows, is_name, "strings, integers, Booleans or dates")

    def assign(self, lot: Lot) -> pl.Series:
        """Give the part of each row."""
        groups = lot.rows[self.column].cast(pl.String)
        names = groups.unique().sort()
        queue = names.gather(np.argsort(_places(names.to_frame(), lot.seed), kind="stable"))
        return groups.replace_strict(queue, pl.Series(_share_out(len(queue), self.ratios)))


class ByTime(Section):
    """By a column: train is the past, test the future; rows of one moment are in one part."""

    by: Literal["time"]
    column: str = Field(description="column of dates, times or numbers, without nulls")
    cuts: Cuts | None = Field(default=None, description="first moment of val and of test; or:")
    ratios: Ratios | None = Field(
        default=None, description="shares of the rows, as near as whole moments allow"
    )

    @property
    def uses(self) -> tuple[str, ...]:
        """The columns that parts are made by, besides the key and the target."""
        return (self.column,)

    @model_validator(mode="after")
    def _is_one_way(self) -> ByTime:
        if (self.cuts is None) == (self.ratios is None):
            raise PydanticCustomError("time", "exactly one of cuts and ratios must be given")
        return self

    def check(self, rows: pl.DataFrame) -> list[str]:
        """Say what is wrong with the column, and whether the cuts are of its kind."""
        errors = _column_errors(self.column, rows, _is_moment, "dates, times or numbers")
        if not errors and self.cuts:
            is_number = rows[self.column].dtype.is_numeric()
            if is_number != isinstance(self.cuts.val, int):
                kind = "numbers" if is_number else "dates"
                errors.append(
                    f"cuts: must be {kind}, as column {self.column} is "
                    f"(got {self.cuts.val} and {self.cuts.test})"
                )
        return errors

    def assign(self, lot: Lot) -> pl.Series:
        """Give the part of each row."""
        times = _times(lot.rows[self.column])
        val, test = self._begins(times)
        return pl.Series(NAMES[(times >= val).astype(int) + (times >= test)])

    def _begins(self, times: NDArray[Any]) -> tuple[Any, Any]:
        """Give the first moment of val and of test.

        Raises DataValidationError if there are too few moments to share out.
        """
        if self.cuts:
            return _comparable(self.cuts.val), _comparable(self.cuts.test)
        ratios = cast(Ratios, self.ratios)
        moments, counts = np.unique(times, return_counts=True)
        if len(moments) < len(NAMES):
            raise DataValidationError(
                f"column {self.column}: must hold at least {len(NAMES)} moments to share out by "
                f"(got {len(moments)}); choose another column in featurize.parts of params.yaml"
            )
        before = np.cumsum(counts) - counts
        shares = np.array([ratios.train, ratios.train + ratios.val]) * len(times)
        val, test = (int(np.argmin(np.abs(before - share))) for share in shares)
        val = min(max(val, 1), len(moments) - 2)
        return moments[val], moments[max(test, val + 1)]


Rule = Annotated[ByKey | ByGroup | ByTime, Field(discriminator="by")]
"""How parts are made; its `by` says which one."""


def is_name(dtype: pl.DataType) -> bool:
    """Tell whether a column of this type can identify; floats cannot."""
    texts = (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Date, pl.Datetime)
    return dtype.is_integer() or dtype in texts


def _is_moment(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float() or dtype in (pl.Date, pl.Datetime)


def _column_errors(name: str, rows: pl.DataFrame, fits: Any, what: str) -> list[str]:
    if name not in rows.columns:
        return [f"column: must be a column of the table (got {name!r})"]
    if not fits(rows[name].dtype):
        return [f"column: {name} must hold {what} (got {rows[name].dtype})"]
    return []


def _places(names: pl.DataFrame, seed: int) -> NDArray[np.float64]:
    """Give each row's place, in [0, 1), by its names read as text."""
    texts = names.select(pl.concat_str(pl.all().cast(pl.String), separator="\x1f")).to_series()
    digests = (hashlib.sha256(f"{seed}:{text}".encode()).digest() for text in texts)
    return np.array([(int.from_bytes(digest[:8], "big") >> 11) / 2**53 for digest in digests])


def _share_out(count: int, ratios: Ratios) -> NDArray[np.str_]:
    """Give the parts of a queue in its order: each as large as its ratio says, but never empty."""
    val, test = (max(1, round(count * ratio)) for ratio in (ratios.val, ratios.test))
    return np.repeat(NAMES, [max(0, count - val - test), val, test])[:count]


def _times(column: pl.Series) -> NDArray[Any]:
    """Give numbers as they are, and dates and times as datetime64 in microseconds, UTC."""
    if column.dtype.is_numeric():
        return column.to_numpy()
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.cast(pl.Datetime("us")).to_numpy()


def _comparable(moment: Moment) -> Any:
    """Give a number as it is, and a date or time as datetime64 in microseconds, UTC."""
    if isinstance(moment, int):
        return moment
    if isinstance(moment, datetime) and moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "us")
