"""A champion and a log of purchases, made by hand, for the tests of what the monitor sees."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl

from tasks import measures, metrics, monitoring, observation, seeds
from tasks.champion import Champion
from tasks.encoder import Encoder
from tasks.monitoring import Finding, Monitor
from tasks.observation import Lake, Observation
from tasks.params import check
from tasks.recipes import Recipe
from tasks.registry import Version

LEARNED, TODAY = date(1999, 1, 1), date(1999, 6, 1)
MONTH = (pl.col("day") >= date(1999, 5, 1)) & (pl.col("day") < TODAY)

TRANSACTIONS = {
    "recipe": "transactions",
    "entity": "who",
    "time": "day",
    "amount": "cents",
    "quantity": "pieces",
    "horizon_days": 60,
    "windows_days": [30, 90],
    "fading_days": 60,
    "first_cutoff": "1998-03-01",
    "cutoff_every": "1mo",
}
TABLE = {
    "recipe": "table",
    "columns": {
        "key": "id",
        "target": "left",
        "positive": 1,
        "numeric": ["age"],
        "categorical": ["land"],
        "ignored": ["day"],
    },
    "parts": {"by": "random", "ratios": {"train": 0.6, "val": 0.2, "test": 0.2}},
}
MONITOR = Monitor(
    max_drift=0.25,
    drift_ignored=None,
    max_score_drift=0.2,
    max_null_rise=0.1,
    min_volume=0.5,
    max_volume=2.0,
    max_auc_drop=0.05,
    max_calibration_error=0.1,
    resamples=100,
)


def purchases(customers: int = 600) -> pl.DataFrame:
    """Customers of two years, half of whom buy often; each comes some day and stays as he is."""
    draw = np.random.default_rng(7)
    rows = []
    for who in range(customers):
        came = date(1997, 7, 1) + timedelta(days=int(draw.integers(0, 120)))
        pace, days = (20 if who % 2 else 90), 0
        while (day := came + timedelta(days=days)) < TODAY:
            rows.append((who, day, int(draw.integers(500, 9000)), int(draw.integers(1, 5))))
            days += int(draw.geometric(1 / pace))
    return pl.DataFrame(rows, schema=["who", "day", "cents", "pieces"], orient="row").sort(
        "day", "who", "cents", "pieces"
    )


def members(rows: int = 12_000) -> pl.DataFrame:
    """A table with a row for each member: the older leave more often."""
    draw = np.random.default_rng(11)
    age = draw.integers(18, 90, rows)
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "day": [date(1997, 6, 1) + timedelta(days=each * 730 // rows) for each in range(rows)],
            "age": age,
            "land": draw.choice(["de", "fr", "it"], rows).tolist(),
            "left": (draw.random(rows) < age / 100).astype(int),
        }
    )


@dataclass(frozen=True)
class World:
    """A champion that has learned from the rows before LEARNED, and how it scores."""

    rows: pl.DataFrame
    champion: Champion
    score: Callable[[pl.DataFrame], np.ndarray]

    def seen(self, today: pl.DataFrame | None = None, as_of: date = TODAY) -> Observation:
        """What is seen of rows that are as they were, or of others."""
        now = (self.rows if today is None else today).filter(pl.col("day") < as_of)
        ((_, newest),) = measures.last_months(now, "day", as_of.isoformat(), 1)
        lake = Lake(self.rows.filter(pl.col("day") < LEARNED), now, newest)
        told = {"time": "day", "resamples": MONITOR.resamples, "seed": 1}
        return observation.observe(self.champion, lake, as_of=as_of, score=self.score, **told)

    def crossed(self, today: pl.DataFrame | None = None, as_of: date = TODAY) -> set[str]:
        """The names of what crosses its bound."""
        return {each.name for each in self.findings(today, as_of) if each.crossed}

    def findings(self, today: pl.DataFrame | None = None, as_of: date = TODAY) -> list[Finding]:
        """All that is found."""
        ignored = self.champion.settings["evaluate"]["drift_ignored"]
        return monitoring.judge(MONITOR, self.seen(today, as_of), ignored)


def world(rows: pl.DataFrame, section: dict, score: Callable, ignored: list[str]) -> World:
    """Train nothing: the score is given, and what an evaluation would have promised is measured."""
    settings = {
        "seed": 1,
        "featurize": section,
        "evaluate": {"calibration_bins": 5, "drift_ignored": ignored},
    }
    recipe = check(settings, {"featurize": Recipe})[0]["featurize"]
    then = rows.filter(pl.col("day") < LEARNED)
    split = recipe.split(then, dataset_version=LEARNED, seed=seeds.derive(1, "split"))
    test, keys = split.parts["test"], split.columns.keys
    scores, target = score(test), test[split.columns.target].to_numpy()
    tally = metrics.tally(target, scores)
    promise = {
        "roc_auc": metrics.roc_auc(tally),
        "calibration_error": metrics.calibration_error(tally, 5),
    }
    bounds = {name: {"low": value, "high": value} for name, value in promise.items()}
    champion = Champion(
        version=Version(3, "0" * 32, "key", LEARNED.isoformat(), passed=True, tags={}),
        settings=settings,
        lock={},
        manifest={"dataset_version": LEARNED.isoformat(), "rows": len(then)},
        encoder=Encoder.fit(split.parts["train"], split.columns),
        columns=split.columns,
        metrics={"test": promise, "test_interval": bounds},
        predictions=test.select(*keys).with_columns(score=pl.Series(scores)),
    )
    return World(rows, champion, score)


AGES = ["tenure_days", "visits", "pieces", "cents", "gap_*", "*_fading", "recency_in_longest_gaps",
        "visit_age_share"]  # fmt: skip


def lapsed(frame: pl.DataFrame) -> np.ndarray:
    """How likely it is that nothing is bought in 60 days, by how often somebody bought in 90."""
    return np.exp(-60 * (frame["visits_90d"].to_numpy() + 0.3) / 90)


def aged(frame: pl.DataFrame) -> np.ndarray:
    return frame["age"].fill_null(50).to_numpy() / 100


@cache
def shop() -> World:
    return world(purchases(), TRANSACTIONS, lapsed, AGES)


@cache
def club() -> World:
    return world(members(), TABLE, aged, [])


def planted(rows: pl.DataFrame, name: str, value: pl.Expr) -> pl.DataFrame:
    """Give other values to a column in the newest month."""
    return rows.with_columns(pl.when(MONTH).then(value).otherwise(name).alias(name))
