"""What is drafted from a table is met by that table, whatever the table."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes
from sklearn import datasets

from tasks import draft, expectations, files, reference, suites, validate
from tasks.errors import DataValidationError
from tasks.validate import Validate

Change = Callable[[pl.DataFrame], pl.DataFrame]

VERSION = "2020-07-01"


def unmet(
    frame: pl.DataFrame, other: pl.DataFrame | None = None, *, time: str | None = None
) -> set[tuple[str, str | None]]:
    """Draft from a table, ask the other (or the same) whether it meets that, give what it fails."""
    profile = reference.describe(frame)
    suite = draft.draft(frame, profile, time, VERSION)
    parameters = validate.parameters(VERSION, 7, profile)
    results = expectations.validate(frame if other is None else other, suite, parameters)
    return {(row["expectation"], row["column"]) for row in results if not row["passed"]}


def ingested(frame: pl.DataFrame, folder: Path, *, time: str | None = None) -> Path:
    files.write_parquet(folder / "snapshot.parquet", frame)
    manifest = {"dataset_version": VERSION, "time_column": time}
    files.write_json(folder / "manifest.json", manifest)
    return folder


NUMBERS = [pl.Int8, pl.Int64, pl.UInt64, pl.Float32, pl.Float64]
OTHERS = [pl.Boolean, pl.String, pl.Date, pl.Datetime("us"), pl.Datetime("ms", "UTC"), pl.Duration]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    frame=dataframes(
        min_cols=1,
        max_cols=4,
        min_size=1,
        max_size=40,
        allow_null=True,
        allowed_dtypes=NUMBERS + OTHERS,
    )
)
def test_any_table_meets_its_draft(frame: pl.DataFrame) -> None:
    assert unmet(frame) == set()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(ages=st.lists(st.integers(1, 900), max_size=300), kind=st.sampled_from([0, 1, 2]))
def test_any_history_meets_its_draft(ages: list[int], kind: int) -> None:
    days = [date(2020, 6, 30) - timedelta(days=age) for age in ages] + [date(2020, 6, 30)]
    dtype = [pl.Date, pl.Datetime("us"), pl.Datetime("us", "UTC")][kind]
    frame = pl.DataFrame({"at": pl.Series(days).cast(dtype), "n": range(len(days))})
    assert unmet(frame, time="at") == set()


@pytest.mark.parametrize("name", ["iris", "wine", "diabetes", "breast_cancer"])
def test_a_real_table_meets_its_draft_and_half_of_it_does_not(name: str) -> None:
    frame = pl.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame)
    assert unmet(frame) == set()
    assert ("expect_table_row_count_to_be_between", None) in unmet(frame, frame[::2])


def test_every_kind_of_column_is_drafted() -> None:
    frame = pl.DataFrame(
        {
            "number": [1.5, None, 2.5, 3.5],
            "odd": [float("nan"), float("inf"), 1.0, 2.0],
            "huge": [2**63, 0, 1, 2**64 - 1],
            "name": ["a", "b", None, "a"],
            "kind": pl.Series(["a", "b", "a", "a"], dtype=pl.Categorical),
            "level": pl.Series(["a", "b", "a", "a"], dtype=pl.Enum(["a", "b"])),
            "price": [Decimal("1.10"), Decimal("2.20"), None, Decimal(3)],
            "nothing": [None] * 4,
            "list": [[1], [2], None, []],
            "day": [date(2020, 1, 1), None, date(9999, 1, 1), date(1, 1, 1)],
            "moment": [datetime(2020, 1, 1, tzinfo=UTC)] * 4,
            "a b.c": [True, None, False, True],
        },
        schema_overrides={"huge": pl.UInt64},
    )
    assert unmet(frame) == set()
    assert ("expect_column_values_to_be_finite", "number") in unmet(
        frame, frame.with_columns(number=float("nan"))
    )
    assert ("expect_column_dtype_to_be", "price") in unmet(frame, frame.cast({"price": pl.Float64}))
    assert ("expect_column_values_to_be_in_set", "name") in unmet(
        frame, frame.with_columns(name=pl.lit("c"))
    )


def history() -> pl.DataFrame:
    """Six months of 20 events a day, their amounts around 100."""
    rows = 20 * 182
    random = np.random.default_rng(5)
    days = [date(2020, 6, 30) - timedelta(days=row // 20) for row in range(rows)]
    return pl.DataFrame({"at": days, "id": range(rows), "amount": random.normal(100, 10, rows)})


JUNE = pl.col("at") >= date(2020, 6, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda frame: frame, None),
        (
            lambda frame: frame.with_columns(
                amount=pl.when(JUNE).then(pl.col("amount") * 1.1).otherwise("amount")
            ),
            ("expect_column_drift_to_be_at_most", "amount"),
        ),
        (
            lambda frame: frame.with_columns(amount=pl.col("amount") + 4),
            ("expect_column_mean_to_be_near_profile", "amount"),
        ),
        (
            lambda frame: frame.filter(~JUNE | (pl.col("id") % 2 == 0)),
            ("expect_column_monthly_events_to_be_between", "at"),
        ),
        (
            lambda frame: frame.filter(pl.col("at") < date(2020, 6, 20)),
            ("expect_column_events_to_be_fresh", "at"),
        ),
        (
            lambda frame: frame.with_columns(pl.col("at") + timedelta(days=1)),
            ("expect_column_events_to_be_within", "at"),
        ),
        (
            lambda frame: frame.filter(pl.col("at").dt.month() != 3),
            ("expect_column_gaps_to_be_at_most", "at"),
        ),
        (
            lambda frame: pl.concat([frame, frame.head(364)]),
            ("expect_table_duplicates_to_be_at_most", None),
        ),
        (
            lambda frame: frame.with_columns(
                amount=pl.when(pl.col("id") == 7).then(-5.0).otherwise("amount")
            ),
            ("expect_column_values_to_be_between", "amount"),
        ),
        (
            lambda frame: frame.with_columns(
                amount=pl.when(pl.col("id") == 7).then(None).otherwise("amount")
            ),
            ("expect_column_values_to_not_be_null", "amount"),
        ),
    ],
)
def test_a_drafted_suite_catches_what_goes_wrong(
    change: Change, expected: tuple[str, str | None] | None
) -> None:
    found = unmet(history(), change(history()), time="at")
    assert found == set() if expected is None else expected in found


def test_growing_keys_are_not_held_to_their_distribution() -> None:
    suite = draft.draft(history(), reference.describe(history()), "at", VERSION)
    drifts = [each["kwargs"]["column"] for each in suite if "drift" in each["type"]]
    assert drifts == ["amount"]


def test_the_files_it_writes_are_what_the_stage_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite_file = tmp_path / "suites" / "mine.json"
    folder = ingested(history(), tmp_path / "ingest", time="at")
    draft.run(folder, suite_file)
    assert "validate.suite: mine" in capsys.readouterr().out
    profile_file = tmp_path / "suites" / "mine.profile.json"
    params = Validate(suite="mine", max_age_days=7)
    validate.run(folder, suite_file, profile_file, tmp_path / "validate", validate=params)
    assert files.read_json(tmp_path / "validate" / "report.json")["passed"]
    first = suite_file.read_bytes(), profile_file.read_bytes()
    for file in (suite_file, profile_file):
        file.unlink()
    draft.run(folder, suite_file)
    assert (suite_file.read_bytes(), profile_file.read_bytes()) == first
    assert b"great_expectations" not in first[0]
    assert b'"id"' not in first[0].replace(b'"column": "id"', b"").replace(b'\n          "id"', b"")


def test_a_draft_replaces_nothing(tmp_path: Path) -> None:
    folder = ingested(history(), tmp_path / "ingest", time="at")
    suite_file = tmp_path / "mine.json"
    suites.profile_of(suite_file).write_text("mine")
    with pytest.raises(DataValidationError, match=r"mine\.profile\.json: must not exist"):
        draft.run(folder, suite_file)
    assert suites.profile_of(suite_file).read_text() == "mine"
    assert not suite_file.exists()


def test_nothing_can_be_drafted_from_no_rows(tmp_path: Path) -> None:
    folder = ingested(history().clear(), tmp_path / "ingest", time="at")
    with pytest.raises(DataValidationError, match="must have rows"):
        draft.run(folder, tmp_path / "mine.json")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_drafted_range_holds_its_values_and_does_not_cross_zero(values: list[float]) -> None:
    low, high = draft._range(min(values), max(values))
    assert low <= min(values) <= max(values) <= high
    assert low >= 0 or min(values) < 0
    assert high <= 0 or max(values) > 0 or low == high == 0 or max(values) == 0
