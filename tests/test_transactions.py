"""The recipe `transactions`, on purchases made by hand and on any that hypothesis thinks of."""

from datetime import date, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from tasks.errors import DataValidationError, ParamsError
from tasks.examples import PARTS, Split
from tasks.recipes.transactions import Transactions

SCHEMA = {"who": pl.String, "day": pl.Date, "cents": pl.Int64, "pieces": pl.Int64}
SECTION = {
    "recipe": "transactions",
    "entity": "who",
    "time": "day",
    "amount": "cents",
    "quantity": "pieces",
    "horizon_days": 10,
    "windows_days": (30, 60),
    "fading_days": 60,
    "first_cutoff": date(2024, 1, 1),
    "cutoff_every": "1w",
}
WEEKLY = Transactions.model_validate(SECTION)
VERSION = date(2024, 2, 12)
CUTOFF = date(2024, 3, 1)

Purchase = tuple[str, date, int, int]


def log(*purchases: Purchase) -> pl.DataFrame:
    return pl.DataFrame(purchases, SCHEMA, orient="row")


def days(first: date, last: date) -> st.SearchStrategy[list[Purchase]]:
    purchase = st.tuples(
        st.sampled_from("abcd"), st.dates(first, last), st.integers(0, 9000), st.integers(0, 9)
    )
    return st.lists(purchase, max_size=25)


PURCHASES = days(date(2023, 12, 1), date(2024, 2, 11))


def split(rows: pl.DataFrame) -> Split:
    return WEEKLY.split(rows, dataset_version=VERSION, seed=1)


def test_features_of_a_regular_customer() -> None:
    rows = log(
        ("ann", date(2024, 1, 10), 500, 2),
        ("ann", date(2024, 1, 10), 300, 1),
        ("ann", date(2024, 1, 20), 1000, 1),
        ("ann", date(2024, 2, 9), 200, 4),
    )
    (ann,) = WEEKLY.features(rows, CUTOFF).to_dicts()
    assert ann == {
        "who": "ann",
        "cutoff": CUTOFF,
        "recency_days": 21,
        "tenure_days": 51,
        "visits": 3,
        "pieces": 8,
        "cents": 2000,
        "cents_last": 200,
        "gap_longest_days": 20,
        "gap_last_days": 20,
        "visits_fading": 60_000_000 // 111 + 60_000_000 // 101 + 60_000_000 // 81,
        "pieces_fading": 3 * (60_000_000 // 111) + 60_000_000 // 101 + 4 * (60_000_000 // 81),
        "visits_30d": 1,
        "visits_60d": 3,
        "cents_30d": 200,
        "cents_60d": 2000,
        "cohort_month": "2024-01",
        "last_weekday": "Friday",
        "gap_mean_days": 15.0,
        "recency_in_mean_gaps": 21 / 15,
        "recency_in_longest_gaps": 21 / 20,
        "pieces_per_visit": 8 / 3,
        "cents_per_visit": 2000 / 3,
        "visit_age_share": (51 + 41 + 21) / (3 * 51),
    }


def test_one_visit_has_no_gaps() -> None:
    (ben,) = WEEKLY.features(log(("ben", date(2024, 2, 29), 0, 0)), CUTOFF).to_dicts()
    nulls = [name for name, value in ben.items() if value is None]
    gaps = ["gap_longest_days", "gap_last_days", "gap_mean_days"]
    assert nulls == [*gaps, "recency_in_mean_gaps", "recency_in_longest_gaps"]
    assert (ben["recency_days"], ben["visit_age_share"], ben["cents_per_visit"]) == (1, 1, 0)


def test_a_window_counts_its_first_day_and_no_earlier_one() -> None:
    rows = log(("in", date(2024, 1, 31), 5, 1), ("out", date(2024, 1, 30), 5, 1))
    features = WEEKLY.features(rows, CUTOFF)
    assert features["visits_30d"].to_list() == [1, 0]
    assert features["cents_30d"].to_list() == [5, 0]


def test_only_customers_seen_before_the_cutoff_appear() -> None:
    rows = log(("seen", date(2024, 2, 29), 5, 1), ("new", CUTOFF, 5, 1))
    assert WEEKLY.features(rows, CUTOFF)["who"].to_list() == ["seen"]


def test_a_time_of_day_does_not_matter() -> None:
    rows = log(("ann", date(2024, 1, 10), 500, 2), ("ann", date(2024, 2, 9), 200, 4))
    late = rows.with_columns(pl.col("day").cast(pl.Datetime) + timedelta(hours=23))
    assert_frame_equal(WEEKLY.features(late, CUTOFF), WEEKLY.features(rows, CUTOFF))


@given(
    past=days(date(2023, 12, 1), CUTOFF - timedelta(days=1)),
    future=days(CUTOFF, date(2024, 5, 1)),
)
def test_nothing_from_the_cutoff_on_is_seen(past: list[Purchase], future: list[Purchase]) -> None:
    alone, followed = (WEEKLY.features(log(*rows), CUTOFF) for rows in (past, past + future))
    assert_frame_equal(alone, followed)


@given(rows=PURCHASES, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[Purchase], random: Random) -> None:
    shuffled = random.sample(rows, len(rows))
    one, other = (split(log(*order)).parts for order in (rows, shuffled))
    for part in PARTS:
        assert_frame_equal(one[part], other[part])


def test_cutoffs_are_taken_from_the_last_outcome_back() -> None:
    assert WEEKLY.cutoffs(VERSION) == {
        "train": [date(2024, 1, 1)],
        "between": [date(2024, 1, 8)],
        "val": [date(2024, 1, 15)],
        "test": [date(2024, 1, 29)],
    }


def test_cutoffs_of_the_sample_problem() -> None:
    changes = {"horizon_days": 90, "first_cutoff": date(1997, 4, 1), "cutoff_every": "1mo"}
    cutoffs = WEEKLY.model_copy(update=changes).cutoffs(date(1998, 7, 1))
    assert cutoffs == {
        "train": [date(1997, month, 1) for month in range(4, 11)],
        "between": [date(1997, 11, 1), date(1997, 12, 1)],
        "val": [date(1998, 1, 1)],
        "test": [date(1998, 4, 1)],
    }


@given(rows=PURCHASES)
def test_parts_share_no_example_and_hold_every_customer_seen(rows: list[Purchase]) -> None:
    made = split(log(*rows))
    together = pl.concat([made.parts[part] for part in PARTS]).select(made.columns.keys)
    wanted = [
        (who, cutoff)
        for cutoffs in WEEKLY.cutoffs(VERSION).values()
        for cutoff in cutoffs
        for who in {who for who, day, _, _ in rows if day < cutoff}
    ]
    assert sorted(together.rows()) == sorted(wanted)
    assert all(
        part.select(made.columns.keys).rows() == sorted(part.select(made.columns.keys).rows())
        for part in made.parts.values()
    )


@given(rows=PURCHASES)
def test_churned_is_no_purchase_in_the_horizon(rows: list[Purchase]) -> None:
    for part in split(log(*rows)).parts.values():
        for who, cutoff, churned in part.select("who", "cutoff", "churned").iter_rows():
            end = cutoff + timedelta(days=WEEKLY.horizon_days)
            bought = any(buyer == who and cutoff <= day < end for buyer, day, _, _ in rows)
            assert churned == (not bought)


def test_the_horizon_holds_the_cutoff_and_not_its_end() -> None:
    before = date(2023, 12, 31)
    cutoff, end = date(2024, 1, 29), date(2024, 2, 8)
    outcome = {"first": cutoff, "last": end - timedelta(days=1), "late": end}
    rows = log(
        *((who, before, 5, 1) for who in (*outcome, "never")),
        *((who, day, 5, 1) for who, day in outcome.items()),
    )
    test = split(rows).parts["test"]
    churned = dict(test.select("who", "churned").iter_rows())
    assert churned == {"first": 0, "last": 0, "late": 1, "never": 1}
    assert test["churned"].dtype == pl.Int8


def test_roles_cover_every_column_and_parts_have_one_schema() -> None:
    made = split(log(("ann", date(2023, 12, 31), 5, 1)))
    columns = made.columns
    assert columns.categorical == ("cohort_month", "last_weekday")
    assert columns.slice == "cohort_month"
    for part in PARTS:
        assert made.parts[part].schema == made.parts["train"].schema
        named = {*columns.keys, *columns.features, columns.target}
        assert set(made.parts[part].columns) == named


def test_too_short_a_log_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"10 days each, before .* 2024-01-25 \(got 2024-01-01\)"):
        WEEKLY.cutoffs(date(2024, 1, 25))
    with pytest.raises(ParamsError, match="earlier one, or a shorter horizon_days"):
        WEEKLY.cutoffs(date(2023, 1, 1))


def test_every_wrong_column_is_named_at_once() -> None:
    rows = log(("ann", date(2024, 1, 10), 500, 2)).with_columns(
        pl.lit(None, pl.String).alias("who"),
        pl.col("day").cast(pl.String),
        pl.col("cents") / 100,
    )
    with pytest.raises(DataValidationError) as caught:
        split(rows.drop("pieces"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "featurize.entity: column who must hold no nulls (got 1)"
    assert lines[1] == "featurize.time: column day must hold dates or datetimes (got String)"
    assert lines[2] == "featurize.amount: column cents must hold whole cents (got Float64)"
    assert lines[3] == "featurize.quantity: column pieces must be present (got who, day, cents)"


@pytest.mark.parametrize("windows", [(30, 30), (60, 30), (0, 30), (-1,), (30, 36_526)])
def test_windows_ascend(windows: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="must be positive, ascending and at most"):
        Transactions.model_validate({**SECTION, "windows_days": windows})


@pytest.mark.parametrize("name", ["horizon_days", "fading_days"])
@pytest.mark.parametrize("days", [0, -90, 10**12])
def test_absurd_numbers_of_days_are_refused(name: str, days: int) -> None:
    with pytest.raises(ValidationError, match=name):
        Transactions.model_validate({**SECTION, name: days})


@pytest.mark.parametrize(
    "name", ["visits", "visits_30d", "cents_60d", "churned", "cutoff", "day", "age", "ages", "gap"]
)
def test_an_entity_that_bears_the_name_of_a_feature(name: str) -> None:
    with pytest.raises(ValidationError, match=f"entity must not bear the name .*got {name}"):
        Transactions.model_validate(SECTION | {"entity": name})
    Transactions.model_validate(SECTION | {"entity": f"{name}_of"})


def test_a_customer_is_told_apart_by_the_entity() -> None:
    assert WEEKLY.entities == ("who",)
    assert WEEKLY.outcome == frozenset()


@given(rows=PURCHASES)
def test_whoever_is_scored_is_described_as_the_examples_were(rows: list[Purchase]) -> None:
    test = split(log(*rows)).parts["test"]
    (cutoff,) = WEEKLY.cutoffs(VERSION)["test"]
    assert_frame_equal(WEEKLY.features(log(*rows), cutoff), test.drop("churned"))
