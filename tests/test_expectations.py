"""Great Expectations as the stages use it: own expectations beside its own, results in order."""

import subprocess
import sys
from datetime import date

import polars as pl
import pytest

from tasks import expectations
from tasks.measures import MEASURES
from tasks.suites import expectation, parameter

FRAME = pl.DataFrame(
    {
        "n": [1, -2, None, 4],
        "x": [1.0, float("nan"), None, float("inf")],
        "s": ["a", None, "b", "c"],
        "d": [date(2020, 1, day) for day in (1, 2, 3, 4)],
    }
)


def ask(kind: str, **kwargs: object) -> dict:
    values = {"dataset_version": "2020-01-05", "max_age_days": 1}
    (result,) = expectations.validate(FRAME, [expectation(kind, **kwargs)], values)
    return result


@pytest.mark.parametrize(
    ("kind", "kwargs", "bound", "observed", "rows"),
    [
        (
            "expect_column_values_to_be_between",
            {"column": "n", "min_value": 0},
            "min_value=0, mostly=1",
            "1 of 4 rows, such as -2",
            [1],
        ),
        (
            "expect_column_values_to_not_be_null",
            {"column": "x", "mostly": 0.9},
            "mostly=0.9",
            "1 of 4 rows, such as null",
            [2],
        ),
        (
            "expect_column_values_to_be_in_set",
            {"column": "s", "value_set": ["a", "b"]},
            "value_set=a, b, mostly=1",
            "1 of 4 rows, such as c",
            [3],
        ),
        ("expect_column_mean_to_be_between", {"column": "n", "max_value": 0}, None, "1", []),
        ("expect_column_values_to_be_finite", {"column": "x"}, "", None, [1, 3]),
        (
            "expect_column_events_to_be_within",
            {"column": "d", "first": "2020-01-02", "before": parameter("dataset_version")},
            "first=2020-01-02, before=2020-01-05",
            "1 of 4 rows, such as 2020-01-01",
            [0],
        ),
        ("expect_table_row_count_to_equal", {"value": 5}, "value=5", "4", []),
        ("expect_column_values_to_be_unique", {"column": "y"}, "mostly=1", "no such column", []),
    ],
)
def test_a_failed_expectation_tells_bound_observed_and_rows(
    kind: str, kwargs: dict, bound: str | None, observed: str | None, rows: list[int]
) -> None:
    result = ask(kind, **kwargs)
    assert not result["passed"]
    assert result["bound"] == bound or bound is None
    assert result["observed"].startswith(observed or "2 of 4 rows")
    assert result["rows"] == rows


def test_a_met_expectation_points_to_no_rows() -> None:
    result = ask("expect_column_values_to_be_between", column="n", min_value=0, mostly=0.5)
    assert result["passed"]
    assert result["rows"] == []


@pytest.mark.parametrize(
    ("kind", "kwargs", "reason"),
    [
        ("expect_column_mean_to_be_between", {"column": "s", "min_value": 0}, "mean"),
        ("expect_column_values_to_be_finite", {"column": "s"}, "is_finite"),
        (
            "expect_column_gaps_to_be_at_most",
            {"column": "s", "max_gap_days": 1},
            "String holds no dates",
        ),
    ],
)
def test_what_cannot_be_computed_has_failed_and_says_why(
    kind: str, kwargs: dict, reason: str
) -> None:
    result = ask(kind, **kwargs)
    assert not result["passed"]
    assert result["observed"].startswith("cannot be computed: ")
    assert reason in result["observed"]
    assert "\n" not in result["observed"]


def test_results_keep_the_order_of_the_suite() -> None:
    kinds = ["expect_column_values_to_be_null", "expect_column_to_exist"]
    suite = [expectation(kind, column=name) for kind in kinds for name in FRAME.columns]
    results = expectations.validate(FRAME, suite, {})
    asked = [(each["type"], each["kwargs"]["column"]) for each in suite]
    assert [(result["expectation"], result["column"]) for result in results] == asked


def test_at_most_twenty_rows_are_pointed_to() -> None:
    frame = pl.DataFrame({"x": [float("nan")] * 30 + [1.0]})
    suite = [
        expectation("expect_column_values_to_be_finite", column="x"),
        expectation("expect_column_values_to_be_between", column="x", min_value=0),
    ]
    for result in expectations.validate(frame, suite, {}):
        assert result["rows"] == list(range(20))


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_can_be_written_in_a_suite(name: str) -> None:
    assert expectations.fault(expectation(name)) is not None
    assert "field required" in str(expectations.fault(expectation(name)))
    assert "extra fields not permitted" in str(expectations.fault(expectation(name, foo=1)))


def test_the_stage_is_read_without_importing_great_expectations() -> None:
    code = (
        "import sys, tasks.validate, tasks.draft; "
        "print('great_expectations' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
