from datetime import date, timedelta

import polars as pl
import pytest
import worlds
from worlds import MONTH, TODAY, World, planted

from tasks import monitoring


@pytest.fixture
def shop() -> World:
    return worlds.shop()


@pytest.fixture
def club() -> World:
    return worlds.club()


@pytest.mark.parametrize("month", range(1, 7))
def test_world_that_goes_on_as_before_is_quiet(shop: World, club: World, month: int):
    assert shop.crossed(as_of=date(1999, month, 1)) == set()
    assert club.crossed(as_of=date(1999, month, 1)) == set()


class TestPlanted:
    def test_amounts_a_hundredfold(self, shop):
        assert shop.crossed(planted(shop.rows, "cents", pl.col("cents") * 100)) >= {"rows.cents"}

    def test_column_gone_null(self, shop):
        found = shop.findings(planted(shop.rows, "cents", pl.lit(None)))
        crossed = {each.name: each for each in found if each.crossed}
        assert set(crossed) == {"features", "rows.cents", "nulls.cents"}
        assert "column cents must hold no nulls" in crossed["features"].why
        assert "from 0.0% to 100.0%" in crossed["nulls.cents"].why

    def test_column_gone(self, shop):
        assert shop.crossed(shop.rows.drop("pieces")) == {"features"}

    def test_weekdays_vanish_from_a_month(self, shop):
        weekend = pl.col("day").dt.weekday() > 5
        assert shop.crossed(shop.rows.filter(~(MONTH & weekend))) == {"rows.weekday"}

    def test_half_the_volume(self, shop):
        rows = shop.rows.filter(~MONTH | (pl.int_range(pl.len()) % 5 < 2))
        assert {"volume.events"} <= shop.crossed(rows) <= {
            "volume.events", "volume.entities", "live.calibration_error", "live.roc_auc",
            "drift.visits_30d", "drift.cents_30d", "drift.recency_in_mean_gaps", "score_drift",
            "drift.recency_days",
        }  # fmt: skip

    def test_threefold_volume(self, shop):
        month = shop.rows.filter(MONTH)
        more = pl.concat([shop.rows, *(month.with_columns(pl.col("who") + n) for n in (1, 2))])
        assert "volume.events" in shop.crossed(more)

    def test_customers_who_behave_otherwise(self, shop):
        some = shop.rows["who"].unique().sort().gather_every(2)
        row = {"day": TODAY - timedelta(days=3), "cents": 900, "pieces": 1}
        extra = pl.DataFrame({"who": some}).with_columns(
            **{name: pl.lit(value) for name, value in row.items()}
        )
        rows = pl.concat([shop.rows, extra.select(shop.rows.columns).cast(shop.rows.schema)])
        assert "drift.visits_30d" in shop.crossed(rows)

    def test_outcomes_that_the_model_does_not_foresee(self, shop):
        since = pl.col("day") >= date(1999, 3, 1)
        turned = pl.when(since).then(pl.col("who") + 1).otherwise("who").alias("who")
        found = {each.name: each for each in shop.findings(shop.rows.with_columns(turned))}
        assert found["live.roc_auc"].crossed
        assert "customers as of 1999-04-01, whose outcome is known now" in found["live.roc_auc"].why

    def test_category_vanishes(self, club):
        rows = club.rows.with_columns(
            pl.when(MONTH & (pl.col("land") == "fr")).then(pl.lit("de")).otherwise("land")
            .alias("land")
        )  # fmt: skip
        assert club.crossed(rows) == {"drift.land"}

    def test_nulls_of_a_table(self, club):
        rows = planted(club.rows, "age", pl.when(pl.col("id") % 2 == 0).then("age"))
        assert {"nulls.age", "drift.age"} <= club.crossed(rows)


def test_patterns_are_those_of_the_champion_unless_others_are_given():
    assert monitoring.ignored(worlds.MONITOR, ["age_*"]) == ("age_*",)
    own = worlds.MONITOR.model_copy(update={"drift_ignored": ("tenure",)})
    assert monitoring.ignored(own, ["age_*"]) == ("tenure",)
    assert monitoring.is_ignored("age_days", ("age_*",))
    assert not monitoring.is_ignored("days_age", ("age_*",))


def test_every_finding_tells_its_numbers_in_a_sentence(shop):
    found = {each.name: each for each in shop.findings()}
    assert "PSI 0.0" in found["drift.visits_30d"].why
    assert "within 0.25" in found["drift.visits_30d"].why
    assert "of the median month's" in found["volume.events"].why
    assert "evaluation promised 0." in found["live.roc_auc"].why
    assert "drift.tenure_days" not in found
