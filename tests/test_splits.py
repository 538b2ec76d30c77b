from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.errors import DataValidationError
from tasks.splits import Lot, Rule

RATIOS = {"train": 0.6, "val": 0.2, "test": 0.2}
BY = TypeAdapter(Rule)


def table(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(rows),
            "target": [int(row % 4 == 0) for row in range(rows)],
            "town": [f"town {row % 10}" for row in range(rows)],
            "day": [date(2024, 1, 1) + timedelta(days=row // 3) for row in range(rows)],
        }
    )


def assign(rows: pl.DataFrame, seed: int = 1, **rule: object) -> dict[int, str]:
    """Give the part of each id."""
    lot = Lot(rows, rows.select("id"), rows["target"], seed)
    return dict(zip(rows["id"], BY.validate_python(rule).assign(lot), strict=True))


RULES = [
    {"by": "random", "ratios": RATIOS},
    {"by": "stratified", "ratios": RATIOS},
    {"by": "group", "column": "town", "ratios": RATIOS},
    {"by": "time", "column": "day", "ratios": RATIOS},
    {"by": "time", "column": "day", "cuts": {"val": "2024-01-05", "test": "2024-01-09"}},
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["by"])
@given(st.integers(40, 80), st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    rule: dict[str, object], rows: int, seed: int, random: Random
) -> None:
    order = list(range(rows))
    random.shuffle(order)
    assert assign(table(rows)[order], seed, **rule) == assign(table(rows), seed, **rule)


def test_a_row_keeps_its_random_part_in_a_larger_table() -> None:
    small, large = (assign(table(rows), by="random", ratios=RATIOS) for rows in (300, 400))
    assert small == {row: large[row] for row in range(300)}
    counts = Counter(small.values())
    assert counts["train"] == pytest.approx(180, abs=30)
    assert counts["test"] == pytest.approx(60, abs=25)


def test_the_parts_of_today_are_those_of_ever() -> None:
    parts = assign(table(12), by="random", ratios=RATIOS)
    assert " ".join(parts.values()) == (
        "val test train train train train train train train val val train"
    )


def test_another_seed_is_another_split() -> None:
    assert assign(table(50), 1, **RULES[0]) != assign(table(50), 2, **RULES[0])
    assert assign(table(50), 1, **RULES[2]) != assign(table(50), 2, **RULES[2])


def test_stratified_gives_each_class_its_exact_share() -> None:
    parts = assign(table(100), by="stratified", ratios=RATIOS)
    counts = Counter((part, row % 4 == 0) for row, part in parts.items())
    assert counts == {
        ("train", True): 15,
        ("val", True): 5,
        ("test", True): 5,
        ("train", False): 45,
        ("val", False): 15,
        ("test", False): 15,
    }


@given(st.integers(0, 2**31))
def test_a_group_is_in_one_part(seed: int) -> None:
    parts = assign(table(40), seed, by="group", column="town", ratios=RATIOS)
    town_parts = {(row % 10, part) for row, part in parts.items()}
    assert Counter(part for _, part in town_parts) == {"train": 6, "val": 2, "test": 2}


def test_three_groups_are_enough() -> None:
    rows = table(40).with_columns(town=pl.col("id") % 3)
    parts = assign(rows, by="group", column="town", ratios={"train": 0.8, "val": 0.1, "test": 0.1})
    assert set(parts.values()) == {"train", "val", "test"}


def test_time_puts_the_future_last_and_a_moment_in_one_part() -> None:
    parts = assign(table(100), by="time", column="day", ratios=RATIOS)
    assert list(parts.values()) == ["train"] * 60 + ["val"] * 21 + ["test"] * 19


@pytest.mark.parametrize(
    "column",
    [
        pl.col("day"),
        pl.col("day").cast(pl.Datetime("ms")),
        pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    ],
)
def test_a_cut_is_the_first_moment_of_its_part(column: pl.Expr) -> None:
    rows = table(20).with_columns(column)
    cuts = {"val": date(2024, 1, 3), "test": datetime(2024, 1, 5, 1, tzinfo=UTC)}
    parts = assign(rows, by="time", column="day", cuts=cuts)
    assert list(parts.values()) == ["train"] * 6 + ["val"] * 9 + ["test"] * 5


def test_years_can_be_cut_as_numbers() -> None:
    rows = table(6).with_columns(
        day=pl.Series([2001, 2002, 2003, 2004, 2005, 2006], dtype=pl.Int16)
    )
    parts = assign(rows, by="time", column="day", cuts={"val": 2004, "test": 2006})
    assert list(parts.values()) == ["train"] * 3 + ["val"] * 2 + ["test"]


def test_two_moments_are_too_few() -> None:
    with pytest.raises(DataValidationError, match="column day: must hold at least 3 moments"):
        assign(table(6), by="time", column="day", ratios=RATIOS)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"by": "random", "ratios": {**RATIOS, "val": 0.3}}, "must add up to 1"),
        ({"by": "random", "ratios": {**RATIOS, "val": 0}}, "greater than 0"),
        ({"by": "group", "ratios": RATIOS}, "Field required"),
        ({"by": "luck"}, "expected tags"),
        ({"by": "time", "column": "day"}, "exactly one of cuts and ratios"),
        ({"by": "time", "column": "day", "cuts": {"val": 2, "test": 1}}, "before test"),
        ({"by": "time", "column": "day", "cuts": {"val": 2, "test": "2024-01-01"}}, "both be"),
    ],
)
def test_wrong_rules_are_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BY.validate_python(rule)
