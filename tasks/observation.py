"""Measure how the world has changed since the champion learned: drift, nulls, volume, live quality.

* A feature's drift is its PSI from the training part to the entities of today, or from the test
  part, whichever is less. What had drifted by then was judged by the gate, and is in what the
  evaluation promises; only what has gone further is news.
* Scores are compared with those of the test part. Scores of training rows are in sample.
* A month is as long as the calendar's and ends with the day that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from tasks import drift, measures, outcomes, seeds
from tasks.champion import Champion
from tasks.errors import DataValidationError, ParamsError
from tasks.metrics import Floats
from tasks.outcomes import Live
from tasks.recipes import Recipe
from tasks.recipes.transactions import Transactions

SHORTEST_MONTH = 28
Score = Callable[[pl.DataFrame], Floats]


@dataclass(frozen=True)
class Lake:
    """Rows of the offline store: all that the champion knew, all there are, the newest month's.

    newest  all of a table without time
    """

    then: pl.DataFrame
    now: pl.DataFrame
    newest: pl.DataFrame


@dataclass(frozen=True)
class Drift:
    """PSI of a feature from the training part, and from the test part, to today."""

    train: float
    test: float

    @property
    def further(self) -> float:
        """What is news of it: see the module."""
        return min(self.train, self.test)


@dataclass(frozen=True)
class Month:
    """What arrived in the month from `first` on; `entities` is None where rows are the entities.

    known  whether the champion has learned from all of it
    """

    first: date
    events: int
    entities: int | None
    known: bool


@dataclass(frozen=True)
class Scores:
    """Scores of the champion's test rows, and of today's entities."""

    then: Floats
    now: Floats

    @property
    def drift(self) -> float:
        """PSI from the one to the other."""
        return drift.psi_of_numbers(self.then, self.now)


@dataclass(frozen=True)
class Features:
    """What the champion's recipe makes of today's rows.

    nulls  share of nulls of each, in the training part and today
    live   None until outcomes are known that the evaluation did not know
    """

    entities: int
    drift: dict[str, Drift]
    nulls: dict[str, tuple[float, float]]
    scores: Scores
    live: Live | None


@dataclass(frozen=True)
class Observation:
    """All that is judged.

    drift     PSI of each watched column, from the rows that the champion knew to the newest month
    nulls     its share of nulls, then and in the newest month
    features  None if the champion's recipe does not take these rows; `refusal` says why
    """

    as_of: date
    drift: dict[str, float]
    nulls: dict[str, tuple[float, float]]
    months: list[Month]
    features: Features | None
    refusal: str | None = None


def observe(
    champion: Champion,
    lake: Lake,
    *,
    as_of: date,
    time: str | None,
    score: Score,
    resamples: int,
    seed: int,
) -> Observation:
    """Compare what the champion has learned from with what there is as of a day.

    time   column of when a row happened; None for a table without time
    score  gives the champion's scores of raw example columns
    """
    features, refusal = None, None
    draws = {"resamples": resamples, "seed": seed}
    try:
        features = describe(champion, lake, as_of=as_of, score=score, **draws)
    except (DataValidationError, ParamsError) as error:
        refusal = str(error)
    then, newest = (watched(champion.recipe, rows) for rows in (lake.then, lake.newest))
    names = [name for name in then.columns if name in newest.columns]
    return Observation(
        as_of=as_of,
        drift={name: _psi(then[name], newest[name]) for name in names},
        nulls=_nulls(then, newest, names),
        months=[] if time is None else months(lake.now, as_of, champion, time),
        features=features,
        refusal=refusal,
    )


def describe(
    champion: Champion,
    lake: Lake,
    *,
    as_of: date,
    score: Score,
    resamples: int,
    seed: int,
) -> Features:
    """Compare the features and scores of today's entities with those of the champion's parts.

    Raises DataValidationError or ParamsError for rows that its recipe does not take.
    """
    recipe, of_split = champion.recipe, seeds.derive(champion.settings["seed"], "split")
    encode, names = champion.encoder.encode, champion.columns.features
    then = recipe.split(lake.then, dataset_version=champion.dataset_version, seed=of_split)
    rows = lake.now if isinstance(recipe, Transactions) else lake.newest
    today = recipe.features(rows, as_of)
    encoded = encode(today)  # which refuses columns that are not as they were
    train, test = (
        drift.of_features(encode(then.parts[part]), encoded) for part in ("train", "test")
    )
    newer = recipe.split(lake.now, dataset_version=as_of, seed=of_split)
    what, fresh = outcomes.new_outcomes(then, newer)
    scores = score(pl.concat([today.select(names), fresh.select(names)]))
    return Features(
        entities=len(today),
        drift={name: Drift(train[name], test[name]) for name in train},
        nulls=_nulls(then.parts["train"], today, names),
        scores=Scores(champion.predictions["score"].to_numpy(), scores[: len(today)]),
        live=outcomes.measure(
            champion, fresh, scores[len(today) :], what, resamples=resamples, seed=seed
        ),
    )


def watched(recipe: Recipe, rows: pl.DataFrame) -> pl.DataFrame:
    """Give what is compared of the rows themselves: the newest month's with those of the past.

    Features sum up a customer's whole past, in which one month goes unnoticed. Those of a table
    are its rows.
    """
    if not isinstance(recipe, Transactions):
        return pl.DataFrame()
    there = [name for name in (recipe.amount, recipe.quantity) if name in rows.columns]
    return rows.select(*there, pl.col(recipe.time).dt.weekday().alias("weekday"))


def months(rows: pl.DataFrame, as_of: date, champion: Champion, time: str) -> list[Month]:
    """Count what arrived in each whole month before a day, the oldest first."""
    days = rows[time].cast(pl.Date)
    oldest, entity = days.min(), getattr(champion.recipe, "entity", None)
    if not isinstance(oldest, date):
        return []
    count = (as_of - oldest).days // SHORTEST_MONTH + 1
    parts = measures.last_months(rows, time, as_of.isoformat(), count)
    ends = [as_of, *(first for first, _ in parts)]
    found = [
        Month(
            first=first,
            events=part.height,
            entities=None if entity is None else part[entity].n_unique(),
            known=end <= champion.dataset_version,
        )
        for (first, part), end in zip(parts, ends, strict=False)
        if first >= oldest
    ]
    return found[::-1]


def _psi(then: pl.Series, now: pl.Series) -> float:
    if now.dtype.is_numeric() and then.dtype.is_numeric():
        before, after = (values.cast(pl.Float64).to_numpy() for values in (then, now))
        return drift.psi_of_numbers(before, after)
    return float("nan")


def _nulls(
    then: pl.DataFrame, now: pl.DataFrame, names: Iterable[str]
) -> dict[str, tuple[float, float]]:
    return {name: (_share(then[name]), _share(now[name])) for name in names}


def _share(column: pl.Series) -> float:
    return column.null_count() / max(len(column), 1)
