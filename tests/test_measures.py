"""Own expectations and the reference profile, on a handful of rows."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import measures, reference

DAYS = [date(2020, 1, 31), date(2020, 2, 1), date(2020, 2, 29), date(2020, 3, 9), None]
EVENTS = pl.DataFrame({"t": DAYS, "x": [1.0, 2.0, float("nan"), float("-inf"), None]})


def profiled(values: list) -> dict:
    return reference.describe(pl.DataFrame({"x": values}))


def test_dtypes_are_told_apart() -> None:
    assert measures.expect_column_dtype_to_be(EVENTS, column="t", dtype="Date").passed
    assert measures.expect_column_dtype_to_be(EVENTS, column="x", dtype="Float32").observed == (
        "Float64"
    )
    assert measures.dtype_name(pl.Enum(["a"])) == "Categorical"


def test_nan_and_infinity_are_found_and_null_is_not() -> None:
    verdict = measures.expect_column_values_to_be_finite(EVENTS, column="x")
    assert not verdict.passed
    assert verdict.rows == (2, 3)
    assert measures.expect_column_values_to_be_finite(EVENTS.head(2), column="x").passed


@pytest.mark.parametrize(
    ("first", "before", "rows"),
    [
        ("2020-01-31", "2020-03-10", ()),
        ("2020-01-31", "2020-03-09", (3,)),
        ("2020-02-01", "2020-03-10", (0,)),
        ("2020-02-10", "2020-02-11", (0, 1, 2, 3)),
    ],
)
@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("us"), pl.Datetime("ns", "UTC")])
def test_events_are_held_between_days(
    first: str, before: str, rows: tuple[int, ...], kind: pl.DataType
) -> None:
    frame = EVENTS.with_columns(pl.col("t").cast(kind))
    verdict = measures.expect_column_events_to_be_within(
        frame, column="t", first=first, before=before
    )
    assert verdict.rows == rows
    assert verdict.passed == (not rows)


def test_an_event_late_in_the_day_before_is_in_time() -> None:
    frame = pl.DataFrame(
        {"t": [datetime(2020, 1, 1, 23, 59, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)]}
    )
    verdict = measures.expect_column_events_to_be_within(
        frame, column="t", first="2020-01-01", before="2020-01-02"
    )
    assert verdict.rows == (1,)


@pytest.mark.parametrize(("days", "passed"), [(1, False), (2, True)])
def test_freshness_counts_days_before_the_version(*, days: int, passed: bool) -> None:
    verdict = measures.expect_column_events_to_be_fresh(
        EVENTS, column="t", max_age_days=days, before="2020-03-11"
    )
    assert verdict.passed is passed
    assert "2 days old" in verdict.observed
    nothing = measures.expect_column_events_to_be_fresh(
        EVENTS.clear(), column="t", max_age_days=1, before="2020-03-11"
    )
    assert not nothing.passed


def test_the_widest_gap_is_found() -> None:
    gap = measures.expect_column_gaps_to_be_at_most(EVENTS, column="t", max_gap_days=27)
    assert not gap.passed
    assert gap.observed == "28 days before 2020-02-29"
    assert measures.expect_column_gaps_to_be_at_most(EVENTS, column="t", max_gap_days=28).passed
    assert not measures.expect_column_gaps_to_be_at_most(
        EVENTS.clear(), column="t", max_gap_days=1
    ).passed


def test_text_holds_no_dates() -> None:
    with pytest.raises(TypeError, match="String holds no dates"):
        measures.expect_column_gaps_to_be_at_most(
            pl.DataFrame({"t": ["2020"]}), column="t", max_gap_days=1
        )


def test_months_end_at_the_version_and_begin_with_the_first_event() -> None:
    parts = measures.last_months(EVENTS, "t", "2020-03-10", 12)
    assert [(first, part.height) for first, part in parts] == [
        (date(2020, 2, 10), 2),
        (date(2020, 1, 10), 2),
    ]
    short = measures.last_months(EVENTS, "t", "2020-03-31", 1)
    assert short[0][0] == date(2020, 2, 29)


def test_every_month_must_have_its_events() -> None:
    counted = measures.expect_column_monthly_events_to_be_between(
        EVENTS, column="t", min_value=2, max_value=2, before="2020-03-01", months=2
    )
    assert not counted.passed
    assert counted.observed == "1 in the month from 2020-01-01"


def test_repeated_rows_are_those_after_the_first() -> None:
    frame = pl.DataFrame({"a": [1, 2, 1, 1], "b": ["x", None, "x", "x"]})
    verdict = measures.expect_table_duplicates_to_be_at_most(frame, max_share=0.4)
    assert verdict.rows == (2, 3)
    assert not verdict.passed
    assert measures.expect_table_duplicates_to_be_at_most(frame, max_share=0.5).passed
    assert measures.expect_table_duplicates_to_be_at_most(frame.clear(), max_share=0).passed


def test_a_mean_may_shift_by_deviations_of_the_profile() -> None:
    profile = profiled([0.0, 2.0, None])  # mean 1, deviation 1
    frame = pl.DataFrame({"x": [1.0, 2.0, float("inf")]})
    for shift, passed in ((0.49, False), (0.51, True)):
        verdict = measures.expect_column_mean_to_be_near_profile(
            frame, column="x", max_shift=shift, profile=profile
        )
        assert verdict.passed is passed
    nothing = measures.expect_column_mean_to_be_near_profile(
        frame.clear(), column="x", max_shift=9, profile=profile
    )
    assert not nothing.passed


def test_drift_is_the_index_of_the_worst_month() -> None:
    profile = profiled([1] * 50 + [2] * 50)
    frame = pl.DataFrame({"x": [2, 1, 2], "t": [date(2020, 1, 5), *[date(2020, 2, 5)] * 2]})
    arguments = {"column": "x", "max_psi": 0.2, "profile": profile}
    dated = {**arguments, "time_column": "t", "before": "2020-03-01"}
    assert measures.expect_column_drift_to_be_at_most(frame, **dated).observed == (
        "PSI 0.0000 in the month from 2020-02-01"
    )
    assert not measures.expect_column_drift_to_be_at_most(frame, **dated, months=2).passed
    assert measures.expect_column_drift_to_be_at_most(frame, **arguments).passed
    assert not measures.expect_column_drift_to_be_at_most(frame.clear(), **arguments).passed
    assert not measures.expect_column_drift_to_be_at_most(frame.clear(), **dated).passed


def test_the_index_follows_its_formula() -> None:
    """Two bins have rows, a and b; each sample counts half a row more in each."""
    known = profiled(["a"] * 3 + ["b"])
    drift = reference.psi(known, pl.Series("x", ["a", "b", "b", "b"]))
    assert drift == pytest.approx(2 * (3.5 - 1.5) / 5 * np.log(3.5 / 1.5))


def test_new_names_and_missing_values_are_drift() -> None:
    known = profiled(["a", "b"] * 10)
    assert reference.psi(known, pl.Series("x", ["c", "d"] * 10)) > 1
    assert reference.psi(known, pl.Series("x", [None, "a"] * 10)) > 1


@given(
    st.lists(
        st.one_of(st.none(), st.floats(width=64), st.integers(-5, 5).map(float)),
        min_size=1,
        max_size=60,
    )
)
def test_a_column_has_no_drift_from_its_own_profile(values: list[float | None]) -> None:
    series = pl.Series("x", values, dtype=pl.Float64)
    known = reference.describe(series.to_frame())
    if "shares" in known["columns"]["x"]:
        assert sum(known["columns"]["x"]["shares"]) == pytest.approx(1)
        assert reference.psi(known, series) == pytest.approx(0, abs=1e-6)
        assert reference.psi(known, series.reverse()) == reference.psi(known, series)


def test_free_text_and_keys_have_no_distribution() -> None:
    known = profiled([f"name {number}" for number in range(reference.MAX_NAMES + 1)])
    assert known["columns"]["x"] == {"dtype": "String", "null_rate": 0.0}
