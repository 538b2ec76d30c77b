"""The recipe `transactions`: a log of purchases becomes snapshots of customers at cutoffs.

Every customer seen before a cutoff is one example of it: features from strictly before the cutoff,
and the target *churned*: no purchase within the horizon from the cutoff on. A part is made of whole
cutoffs, and what it is judged on lies after everything it learned from:

    train     outcomes end by the validation cutoff
    between   the other cutoffs before validation, whose outcomes end by the test cutoff
    val       the last cutoff whose outcome ends by the test cutoff
    test      the last cutoff whose outcome ends by `dataset_version`

Days, counts and money are integers, and a ratio is one division of two of them, so that neither the
order of rows nor the number of threads can change a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from tasks.errors import DataValidationError, ParamsError
from tasks.examples import Columns, Split
from tasks.params import Section

CUTOFF = "cutoff"
TARGET = "churned"
COHORT = "cohort_month"
CATEGORICAL = (COHORT, "last_weekday")


class Transactions(Section):
    """Customers at regular cutoffs, from a log with one row per purchase."""

    recipe: Literal["transactions"]
    entity: str = Field(description="column that tells who bought")
    time: str = Field(description="column of the day of purchase, a date or datetime")
    amount: str = Field(description="column of the money spent, in whole cents")
    quantity: str = Field(description="column of the pieces bought, whole")
    horizon_days: int = Field(gt=0, description="days from the cutoff on without which is churn")
    windows_days: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        min_length=1, description="how many days before the cutoff to count in, several times"
    )
    first_cutoff: date = Field(description="the earliest cutoff")
    cutoff_every: Literal["1w", "1mo", "1q"] = Field(description="from one cutoff to the next")

    def split(self, rows: pl.DataFrame, *, dataset_version: date, seed: int) -> Split:
        """Make the examples of each part, sorted by customer and cutoff; nothing is random.

        Raises DataValidationError for unusable columns, ParamsError for too few cutoffs.
        """
        cutoffs = self.cutoffs(dataset_version)
        events = self._events(rows)
        parts = {part: self._examples(events, days) for part, days in cutoffs.items()}
        keys = (self.entity, CUTOFF)
        names = [name for name in parts["train"].columns if name not in (*keys, TARGET)]
        columns = Columns(
            keys=keys,
            numeric=tuple(name for name in names if name not in CATEGORICAL),
            categorical=CATEGORICAL,
            target=TARGET,
            slice=COHORT,
        )
        return Split(parts, columns, self._rule(cutoffs))

    def cutoffs(self, dataset_version: date) -> dict[str, list[date]]:
        """Give the cutoffs of each part, ascending.

        Raises ParamsError if there is none left to train on.
        """
        horizon = timedelta(days=self.horizon_days)
        grid = _grid(self.first_cutoff, self.cutoff_every, dataset_version)

        def known_by(day: date) -> list[date]:
            return [cutoff for cutoff in grid if cutoff + horizon <= day]

        tests = known_by(dataset_version)
        vals = known_by(tests[-1]) if tests else []
        train = known_by(vals[-1]) if vals else []
        if not train:
            raise ParamsError(
                "featurize.first_cutoff: must lie at least three horizons of "
                f"{self.horizon_days} days, counted from cutoff to cutoff, before ingest."
                f"dataset_version {dataset_version} (got {self.first_cutoff}); set an earlier "
                "first_cutoff, a shorter horizon_days, or a later dataset_version"
            )
        between = vals[len(train) : -1]
        return {"train": train, "between": between, "val": vals[-1:], "test": tests[-1:]}

    def features(self, rows: pl.DataFrame, cutoff: date) -> pl.DataFrame:
        """Describe each customer seen before the cutoff, by nothing at or after it.

        One row per customer, sorted: the entity, the cutoff, then the features.
        """
        return self._features(self._events(rows), cutoff)

    def _events(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Sum a customer's purchases of a day to one row: entity, day, pieces, cents."""
        self._check(rows)
        return (
            rows.select(
                pl.col(self.entity),
                pl.col(self.time).cast(pl.Date).alias("day"),
                pl.col(self.quantity).cast(pl.Int64).alias("pieces"),
                pl.col(self.amount).cast(pl.Int64).alias("cents"),
            )
            .group_by(self.entity, "day")
            .agg(pl.sum("pieces"), pl.sum("cents"))
            .sort(self.entity, "day")
        )

    def _check(self, rows: pl.DataFrame) -> None:
        wants = {
            self.entity: (lambda kind: not kind.is_float(), "whole numbers or strings"),
            self.time: (lambda kind: kind in (pl.Date, pl.Datetime), "dates or datetimes"),
            self.amount: (lambda kind: kind.is_integer(), "integers, in cents"),
            self.quantity: (lambda kind: kind.is_integer(), "integers"),
        }
        errors = []
        for name, (fits, what) in wants.items():
            if name not in rows.columns:
                errors.append(f"column {name}: must be present (got {', '.join(rows.columns)})")
            elif not fits(rows[name].dtype):
                errors.append(f"column {name}: must hold {what} (got {rows[name].dtype})")
            elif rows[name].null_count():
                errors.append(f"column {name}: must hold no null (got {rows[name].null_count()})")
        if errors:
            raise DataValidationError(
                "\n".join(errors) + "\nname the columns under featurize in params.yaml"
            )

    def _examples(self, events: pl.DataFrame, cutoffs: Sequence[date]) -> pl.DataFrame:
        """Join the target to the features at each cutoff; without cutoffs, no rows."""
        frames = [self._labelled(events, cutoff) for cutoff in cutoffs]
        empty = self._labelled(events, self.first_cutoff).clear()
        return pl.concat([empty, *frames]).sort(self.entity, CUTOFF)

    def _labelled(self, events: pl.DataFrame, cutoff: date) -> pl.DataFrame:
        until = cutoff + timedelta(days=self.horizon_days)
        buyers = events.filter(pl.col("day").is_between(cutoff, until, closed="left"))
        bought = pl.col(self.entity).is_in(buyers[self.entity].unique().sort().implode())
        return self._features(events, cutoff).with_columns((~bought).cast(pl.Int8).alias(TARGET))

    def _features(self, events: pl.DataFrame, cutoff: date) -> pl.DataFrame:
        day, entity = pl.col("day"), self.entity
        visits = events.filter(day < cutoff).with_columns(
            age=(pl.lit(cutoff) - day).dt.total_days(),
            gap=(day - day.shift().over(entity)).dt.total_days(),
        )
        return (
            visits.group_by(entity, maintain_order=True)
            .agg(*_sums(), *_windows(self.windows_days))
            .with_columns(*_ratios())
            .select(entity, pl.lit(cutoff).alias(CUTOFF), pl.exclude(entity))
        )

    def _rule(self, cutoffs: dict[str, list[date]]) -> dict[str, object]:
        return {
            "recipe": self.recipe,
            "split_by": CUTOFF,
            "target": f"1 = no purchase in the {self.horizon_days} days from the cutoff on",
            "cutoffs": {part: [day.isoformat() for day in days] for part, days in cutoffs.items()},
        }


def _grid(first: date, every: str, end: date) -> list[date]:
    if first > end:
        return []
    return list(pl.date_range(first, end, every, eager=True))


def _sums() -> list[pl.Expr]:
    age, gap, cents = pl.col("age"), pl.col("gap"), pl.col("cents")
    day = pl.col("day")
    return [
        age.min().alias("recency_days"),
        age.max().alias("tenure_days"),
        pl.len().cast(pl.Int64).alias("visits"),
        pl.sum("pieces"),
        pl.sum("cents"),
        cents.max().alias("cents_max"),
        cents.first().alias("cents_first"),
        cents.last().alias("cents_last"),
        gap.last().alias("gap_last_days"),
        gap.min().alias("gap_min_days"),
        gap.max().alias("gap_max_days"),
        age.sum().alias("age_sum"),
        (age * age).sum().alias("age_sq"),
        (gap * gap).sum().alias("gap_sq"),
        (day.dt.weekday() > 5).sum().cast(pl.Int64).alias("weekend_visits"),
        *[(1000_000 // (age + h)).sum().alias(f"weight_{h}") for h in (15, 30, 60, 120, 240, 480)],
        day.first().dt.strftime("%Y-%m").alias(COHORT),
        day.last().dt.strftime("%A").alias("last_weekday"),
    ]


def _windows(days: Sequence[int]) -> list[pl.Expr]:
    return [
        column.filter(pl.col("age") <= window).sum().cast(pl.Int64).alias(f"{name}_{window}d")
        for window in days
        for name, column in (
            ("visits", pl.col("age") > 0),
            ("pieces", pl.col("pieces")),
            ("cents", pl.col("cents")),
        )
    ]


def _ratios() -> list[pl.Expr]:
    recency, tenure, visits = pl.col("recency_days"), pl.col("tenure_days"), pl.col("visits")
    gaps = pl.when(visits > 1).then(visits - 1)
    return [
        ((tenure - recency) / gaps).alias("gap_mean_days"),
        (recency * gaps / (tenure - recency)).alias("recency_in_mean_gaps"),
        (recency / pl.col("gap_max_days")).alias("recency_in_longest_gaps"),
        (recency / pl.col("gap_last_days")).alias("recency_in_last_gaps"),
        (recency / tenure).alias("silent_share"),
        (recency * visits / tenure).alias("recency_in_visits"),
        (recency * (visits + 1) / (tenure + 60)).alias("r60"),
        (visits / (tenure + 60)).alias("rate60"),
        (visits / (tenure + 15)).alias("rate15"),
        (pl.col("cents") / visits).alias("cents_per_visit"),
        (pl.col("pieces") / visits).alias("pieces_per_visit"),
        (pl.col("age_sum") / (visits * tenure)).alias("mean_age_share"),
        (pl.col("weekend_visits") / visits).alias("weekend_share"),
        ((visits - 1) * 1.0 / (tenure - recency + 30)).alias("rate_active30"),
        ((recency + 30) * visits / (tenure - recency + 60)).alias("rec_rel60"),
        ((recency + 15) * visits / (tenure - recency + 30)).alias("rec_rel30"),
    ]
