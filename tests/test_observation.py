from datetime import date

import polars as pl
import pytest
import worlds
from worlds import LEARNED, MONTH, TABLE, TODAY, World, planted, world


@pytest.fixture
def shop() -> World:
    return worlds.shop()


@pytest.fixture
def club() -> World:
    return worlds.club()


class TestSeen:
    def test_drift_is_no_news_if_the_evaluation_had_it_too(self, shop):
        drifts = shop.seen().features.drift
        assert drifts["tenure_days"].train > 1
        for each in drifts.values():
            assert each.further == min(each.train, each.test)

    def test_newest_month_is_compared_with_the_months_the_champion_knew(self, shop):
        months = shop.seen().months
        assert months[-1].first == date(1999, 5, 1)
        assert {month.first for month in months if month.known} == {
            *(date(1997, month, 1) for month in range(7, 13)),
            *(date(1998, month, 1) for month in range(1, 13)),
        }
        assert months[-1].events == shop.rows.filter(MONTH).height
        assert months[-1].entities == shop.rows.filter(MONTH)["who"].n_unique()

    def test_no_outcome_is_newer_on_the_day_the_champion_was_made(self, shop, club):
        assert shop.seen(as_of=LEARNED).features.live is None
        assert club.seen(as_of=LEARNED).features.live is None

    def test_outcomes_of_a_table_are_those_of_rows_the_champion_did_not_know(self, club):
        live = club.seen().features.live
        assert (
            live.rows == club.rows.filter(pl.col("day").is_between(LEARNED, TODAY, "left")).height
        )

    def test_rows_whose_target_is_not_known_yet_are_described(self, club):
        rows = planted(club.rows, "left", pl.lit(None))
        assert club.seen(rows).features.entities == rows.filter(MONTH).height

    def test_rows_without_a_key_are_never_new(self, club):
        columns = {**TABLE["columns"], "key": [], "ignored": ["day", "id"]}
        nameless = world(club.rows, {**TABLE, "columns": columns}, club.score, [])
        assert nameless.seen().features.live is None
