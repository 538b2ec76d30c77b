"""The recipe `transactions`: a log of purchases becomes snapshots of customers at cutoffs.

A customer seen before a cutoff is one example of it: features from strictly before the cutoff, and
the target *churned*: no purchase in the horizon that begins with it. A part is made of whole
cutoffs, and what it is judged on comes after all that was learned before:

    train     outcomes end by the validation cutoff
    between   the later cutoffs before validation, their outcomes end by the test cutoff
    val       the last cutoff whose outcome ends by the test cutoff
    test      the last cutoff whose outcome ends by `dataset_version`

Days, counts and money are integers, and a ratio is one division of two of them, so that neither the
order of the rows nor the number of threads can change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import polars as pl
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.errors import DataValidationError, ParamsError
from tasks.examples import Columns, Split
from tasks.params import Section

CUTOFF = "cutoff"
TARGET = "churned"
COHORT = "cohort_month"
CATEGORICAL = (COHORT, "last_weekday")

CENTURY = 36_525
"""Days beyond which a number of them is a slip."""

WHOLE = 1_000_000
"""What a purchase of today counts in the fading sums, which are integers."""


def _ascending(days: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise((0, *days, CENTURY + 1))):
        raise ValueError(f"must be positive, ascending and at most {CENTURY}")
    return days


class Transactions(Section):
    """Customers at regular cutoffs, from a log with one row per purchase."""

    outcome: ClassVar[frozenset[str]] = frozenset()  # what rows to be scored may lack

    recipe: Literal["transactions"]
    entity: str = Field(description="column of who bought: whole numbers or strings")
    time: str = Field(description="column of when: dates or datetimes")
    amount: str = Field(description="column of the money spent, in whole cents")
    quantity: str = Field(description="column of the pieces bought, whole")
    horizon_days: int = Field(
        ge=1, le=CENTURY, description="days without a purchase that make a churner"
    )
    windows_days: Annotated[tuple[int, ...], AfterValidator(_ascending)] = Field(
        description="ascending numbers of days before the cutoff to count visits and money in"
    )
    fading_days: int = Field(ge=1, le=CENTURY, description="days until a purchase counts half")
    first_cutoff: date = Field(description="where the grid of cutoffs begins")
    cutoff_every: Literal["1w", "1mo", "1q"] = Field(description="from one cutoff to the next")

    @model_validator(mode="after")
    def _entity_is_no_feature(self) -> Transactions:
        if self.entity in self._made():
            raise PydanticCustomError(
                "entity",
                "entity must not bear the name of a column that the recipe makes (got {name}); "
                "rename it in the data",
                {"name": self.entity},
            )
        return self

    def _made(self) -> set[str]:
        """Name the columns that are made, the features and those on the way to them."""
        schema = {"": pl.Int64, "day": pl.Date, "pieces": pl.Int64, "cents": pl.Int64}
        nobody = self.model_copy(update={"entity": ""})
        features = Transactions._features(nobody, pl.DataFrame(schema=schema), date(2000, 1, 1))
        return {*schema, *features.columns, "age", "gap", "ages", TARGET} - {""}

    @property
    def entities(self) -> tuple[str, ...]:
        """The columns that say of whom a row of features tells."""
        return (self.entity,)

    def split(
        self,
        rows: pl.DataFrame,
        *,
        dataset_version: date,
        seed: int,  # noqa: ARG002 - every recipe takes one, here nothing is drawn
    ) -> Split:
        """Make the examples of each part; the seed changes nothing.

        Raises DataValidationError for columns that do not fit, ParamsError for too few cutoffs.
        """
        cutoffs, visits = self.cutoffs(dataset_version), self._visits(rows)
        parts = {part: self._examples(visits, days) for part, days in cutoffs.items()}
        keys = (self.entity, CUTOFF)
        columns = Columns(
            keys=keys,
            numeric=tuple(parts["train"].drop(*keys, *CATEGORICAL, TARGET).columns),
            categorical=CATEGORICAL,
            target=TARGET,
            slice=COHORT,
        )
        rule: dict[str, object] = {
            "by": CUTOFF,
            "target": f"1 = no purchase in the {self.horizon_days} days from the cutoff on",
            "cutoffs": {part: [day.isoformat() for day in days] for part, days in cutoffs.items()},
        }
        return Split(parts, columns, rule)

    def cutoffs(self, dataset_version: date) -> dict[str, list[date]]:
        """Give the cutoffs of each part, ascending.

        Raises ParamsError if none is left to train on.
        """
        horizon = timedelta(days=self.horizon_days)
        end = max(self.first_cutoff, dataset_version)
        grid = pl.date_range(self.first_cutoff, end, self.cutoff_every, eager=True).to_list()

        def ended_by(day: date) -> list[date]:
            return [cutoff for cutoff in grid if cutoff + horizon <= day]

        tests = ended_by(dataset_version)
        vals = ended_by(tests[-1]) if tests else []
        train = ended_by(vals[-1]) if vals else []
        if not train:
            raise ParamsError(
                "featurize.first_cutoff: must leave room for the outcomes of train, val and test, "
                f"{self.horizon_days} days each, before the dataset_version {dataset_version} "
                f"(got {self.first_cutoff}); set an earlier one, or a shorter horizon_days"
            )
        return {
            "train": train,
            "between": vals[len(train) : -1],
            "val": vals[-1:],
            "test": tests[-1:],
        }

    def features(self, rows: pl.DataFrame, cutoff: date) -> pl.DataFrame:
        """Describe each customer seen before the cutoff, by nothing that is not before it.

        One row per customer, sorted: the entity, the cutoff, then the features.
        """
        return self._features(self._visits(rows), cutoff)

    def _visits(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Sum what a customer bought on a day to one visit: entity, day, pieces, cents."""
        self._check(rows)
        purchases = rows.select(
            pl.col(self.entity),
            pl.col(self.time).dt.date().alias("day"),
            pl.col(self.quantity).cast(pl.Int64).alias("pieces"),
            pl.col(self.amount).cast(pl.Int64).alias("cents"),
        )
        days = purchases.group_by(self.entity, "day").agg(pl.sum("pieces", "cents"))
        return days.sort(self.entity, "day")

    def _check(self, rows: pl.DataFrame) -> None:
        """Raise DataValidationError, naming every column that does not fit."""
        errors = []
        for role, (fits, what) in _FITTING.items():
            name = getattr(self, role)
            where = f"featurize.{role}: column {name}"
            if name not in rows.columns:
                errors.append(f"{where} must be present (got {', '.join(rows.columns)})")
            elif not fits(rows[name].dtype):
                errors.append(f"{where} must hold {what} (got {rows[name].dtype})")
            elif rows[name].null_count():
                errors.append(f"{where} must hold no nulls (got {rows[name].null_count()})")
        if errors:
            raise DataValidationError("\n".join(errors) + "\nmend the rows, or name other columns")

    def _examples(self, visits: pl.DataFrame, cutoffs: Sequence[date]) -> pl.DataFrame:
        """Stack the examples of each cutoff, sorted by their keys; of no cutoff, no rows."""
        none = self._labelled(visits.clear(), self.first_cutoff)
        return pl.concat([none, *(self._labelled(visits, cutoff) for cutoff in cutoffs)]).sort(
            self.entity, CUTOFF
        )

    def _labelled(self, visits: pl.DataFrame, cutoff: date) -> pl.DataFrame:
        end = cutoff + timedelta(days=self.horizon_days)
        buyers = visits.filter(pl.col("day").is_between(cutoff, end, closed="left"))[self.entity]
        churned = ~pl.col(self.entity).is_in(buyers.implode())
        return self._features(visits, cutoff).with_columns(churned.cast(pl.Int8).alias(TARGET))

    def _features(self, visits: pl.DataFrame, cutoff: date) -> pl.DataFrame:
        day = pl.col("day")
        past = visits.filter(day < cutoff).with_columns(
            age=(pl.lit(cutoff) - day).dt.total_days(),
            gap=(day - day.shift().over(self.entity)).dt.total_days(),
        )
        sums = past.group_by(self.entity, maintain_order=True).agg(
            *_totals(), *_fading(self.fading_days), *_windows(self.windows_days), *_names()
        )
        return sums.with_columns(*_ratios()).select(
            self.entity, pl.lit(cutoff).alias(CUTOFF), pl.exclude(self.entity, "ages")
        )


_FITTING: dict[str, tuple[Callable[[pl.DataType], bool], str]] = {
    "entity": (lambda kind: kind.is_integer() or kind == pl.String, "whole numbers or strings"),
    "time": (lambda kind: kind in (pl.Date, pl.Datetime), "dates or datetimes"),
    "amount": (lambda kind: kind.is_integer(), "whole cents"),
    "quantity": (lambda kind: kind.is_integer(), "whole numbers"),
}


def _totals() -> list[pl.Expr]:
    """Sum up a customer's visits, which are ascending; the gaps are null after one visit."""
    age, gap = pl.col("age"), pl.col("gap")
    return [
        age.min().alias("recency_days"),
        age.max().alias("tenure_days"),
        age.sum().alias("ages"),
        age.count().cast(pl.Int64).alias("visits"),
        pl.sum("pieces"),
        pl.sum("cents"),
        pl.col("cents").last().alias("cents_last"),
        gap.max().alias("gap_longest_days"),
        gap.last().alias("gap_last_days"),
    ]


def _fading(half: int) -> list[pl.Expr]:
    """Count visits and pieces, the less the longer ago: half / (half + age) of each."""
    share = half * WHOLE // (half + pl.col("age"))
    return [
        share.sum().alias("visits_fading"),
        (share * pl.col("pieces")).sum().alias("pieces_fading"),
    ]


def _windows(days: Sequence[int]) -> list[pl.Expr]:
    recent = [(window, pl.col("age") <= window) for window in days]
    return [
        *(seen.sum().cast(pl.Int64).alias(f"visits_{window}d") for window, seen in recent),
        *(pl.col("cents").filter(seen).sum().alias(f"cents_{window}d") for window, seen in recent),
    ]


def _names() -> list[pl.Expr]:
    day = pl.col("day")
    return [
        day.first().dt.strftime("%Y-%m").alias(COHORT),
        day.last().dt.strftime("%A").alias("last_weekday"),
    ]


def _ratios() -> list[pl.Expr]:
    """Set recency against the customer's own rhythm, and money and time against the visits.

    `visit_age_share` is the trend: 1 if all visits were the first, below 1/2 if they grow denser.
    """
    recency, tenure, visits = pl.col("recency_days"), pl.col("tenure_days"), pl.col("visits")
    gaps, span = pl.when(visits > 1).then(visits - 1), tenure - recency
    return [
        (span / gaps).alias("gap_mean_days"),
        (recency * gaps / span).alias("recency_in_mean_gaps"),
        (recency / pl.col("gap_longest_days")).alias("recency_in_longest_gaps"),
        (pl.col("pieces") / visits).alias("pieces_per_visit"),
        (pl.col("cents") / visits).alias("cents_per_visit"),
        (pl.col("ages") / (visits * tenure)).alias("visit_age_share"),
    ]
