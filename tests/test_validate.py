"""The shipped suite: healthy data passes, and every planted fault is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from importlib.metadata import distribution
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from tasks import expectations, files, sample, suites, validate
from tasks.errors import DataValidationError
from tasks.validate import Validate

SUITE = Path("data/suites/training_data_v3.json")
PROFILE = Path("data/suites/training_data_v3.profile.json")
PARAMS = Validate(suite="training_data_v3", max_age_days=7)

Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def purchases() -> pl.DataFrame:
    packaged = distribution("lifetimes").locate_file("lifetimes/datasets/CDNOW_master.txt")
    return sample.purchases(Path(str(packaged)).read_text(encoding="ascii"))


def run(frame: pl.DataFrame, folder: Path, *, dataset_version: str = "1998-07-01") -> None:
    manifest = {"dataset_version": dataset_version, "time_column": "purchased_at"}
    files.write_parquet(folder / "ingest" / "snapshot.parquet", frame)
    files.write_json(folder / "ingest" / "manifest.json", manifest)
    validate.run(folder / "ingest", SUITE, PROFILE, folder / "validate", validate=PARAMS)


def read_report(folder: Path) -> dict:
    return files.read_json(folder / "validate" / "report.json")


@pytest.mark.parametrize("version", ["1997-10-01", "1998-01-15", "1998-04-01", "1998-07-01"])
def test_healthy_data_passes_at_every_version(
    purchases: pl.DataFrame, tmp_path: Path, version: str
) -> None:
    seen = purchases.filter(pl.col("purchased_at") < date.fromisoformat(version))
    run(seen, tmp_path, dataset_version=version)
    report = read_report(tmp_path)
    assert report["passed"]
    assert report["failed"] == 0
    assert report["rows"] == seen.height
    assert report["expectations"] == len(report["results"]) > 20


def some(column: str, value: object, rows: int = 5) -> Change:
    """Put a value into a few rows in the middle of a column."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        place = pl.int_range(pl.len()).is_between(1000, 1000 + rows - 1)
        return frame.with_columns(pl.when(place).then(value).otherwise(column).alias(column))

    return change


def each(column: str, value: pl.Expr) -> Change:
    return lambda frame: frame.with_columns(value.alias(column))


def in_month(column: str, value: pl.Expr, month: date = date(1998, 6, 1)) -> Change:
    chosen = pl.col("purchased_at").dt.truncate("1mo") == month
    return each(column, pl.when(chosen).then(value).otherwise(column))


def keep(rows: pl.Expr) -> Change:
    return lambda frame: frame.filter(rows)


def repeated(share: float) -> Change:
    return lambda frame: pl.concat([frame, frame.head(int(share * frame.height))]).sort(pl.all())


EVEN = pl.int_range(pl.len()) % 2 == 0
JUNE = pl.col("purchased_at") >= date(1998, 6, 1)
DRIFT = "expect_column_drift_to_be_at_most"
DTYPE = "expect_column_dtype_to_be"
ORDER = "table: expect_table_columns_to_match_ordered_list"
RANGE = "expect_column_values_to_be_between"
NOTNULL = "expect_column_values_to_not_be_null"
WITHIN = "purchased_at: expect_column_events_to_be_within"
MONTHLY = "purchased_at: expect_column_monthly_events_to_be_between"

FAULTS: dict[str, tuple[Change, list[str]]] = {
    "missing column": (
        lambda frame: frame.drop("amount_cents"),
        [ORDER, f"amount_cents: {DTYPE} dtype=Int64 (got no such column)"],
    ),
    "missing time": (
        lambda frame: frame.drop("purchased_at"),
        [ORDER, f"purchased_at: {DTYPE} dtype=Date (got no such column)"],
    ),
    "renamed column": (
        lambda frame: frame.rename({"quantity": "Quantity"}),
        [ORDER, "(got customer_id, purchased_at, Quantity, amount_cents)", "quantity: "],
    ),
    "reordered columns": (
        lambda frame: frame.select("purchased_at", "customer_id", "quantity", "amount_cents"),
        [ORDER, "(got purchased_at, customer_id, quantity, amount_cents)"],
    ),
    "extra column": (
        lambda frame: frame.with_columns(coupon=1),
        [ORDER, "(got customer_id, purchased_at, quantity, amount_cents, coupon)"],
    ),
    "retyped to text": (
        each("amount_cents", pl.col("amount_cents").cast(pl.String)),
        [f"amount_cents: {DTYPE} dtype=Int64 (got String)"],
    ),
    "retyped to narrower": (
        each("quantity", pl.col("quantity").cast(pl.Int32)),
        [f"quantity: {DTYPE} dtype=Int64 (got Int32)"],
    ),
    "retyped time": (
        each("purchased_at", pl.col("purchased_at").cast(pl.Datetime("us"))),
        [f"purchased_at: {DTYPE} dtype=Date (got Datetime("],
    ),
    "time as text": (
        each("purchased_at", pl.col("purchased_at").cast(pl.String)),
        [f"purchased_at: {DTYPE} dtype=Date (got String)", WITHIN],
    ),
    "a null amount": (
        some("amount_cents", None, rows=1),
        [f"amount_cents: {NOTNULL} mostly=1 (got 1 of 69659 rows, such as null)"],
    ),
    "a null time": (some("purchased_at", None, rows=3), [f"purchased_at: {NOTNULL}", "3 of 69659"]),
    "all null": (
        each("quantity", pl.lit(None, pl.Int64)),
        [f"quantity: {NOTNULL} mostly=1 (got 69659 of 69659 rows"],
    ),
    "NaN": (
        lambda frame: some("amount_cents", float("nan"))(frame.cast({"amount_cents": pl.Float64})),
        [f"amount_cents: {DTYPE} dtype=Int64 (got Float64)", "5 of 69659 rows, such as nan"],
    ),
    "infinity": (
        lambda frame: some("amount_cents", float("inf"))(frame.cast({"amount_cents": pl.Float64})),
        [f"amount_cents: {RANGE}", "5 of 69659 rows, such as inf"],
    ),
    "a few negative amounts": (
        some("amount_cents", -100),
        [f"amount_cents: {RANGE} min_value=0, max_value=200000", "5 of 69659 rows, such as -100"],
    ),
    "one absurd amount": (
        some("amount_cents", 10**9, rows=1),
        [f"amount_cents: {RANGE}", "1 of 69659 rows, such as 1000000000"],
    ),
    "no quantity": (some("quantity", 0, rows=1), [f"quantity: {RANGE} min_value=1", "such as 0"]),
    "absurd quantity": (some("quantity", 10_000), [f"quantity: {RANGE}", "such as 10000"]),
    "a tenth repeated": (
        repeated(0.1),
        ["table: expect_table_duplicates_to_be_at_most max_share=0.0075"],
    ),
    "the table twice": (
        repeated(1.0),
        ["table: expect_table_duplicates", "table: expect_table_row_count_to_be_between"],
    ),
    "every other row missing": (
        keep(EVEN),
        ["table: expect_table_row_count_to_be_between", "(got 34830)", MONTHLY],
    ),
    "first half missing": (
        lambda frame: frame.tail(frame.height // 2),
        ["table: expect_table_row_count_to_be_between", "(got 34829)"],
    ),
    "second half missing": (
        lambda frame: frame.head(frame.height // 2),
        ["table: expect_table_row_count_to_be_between", "expect_column_events_to_be_fresh"],
    ),
    "half of the last month missing": (keep(~JUNE | EVEN), [MONTHLY, "in the month from 1998-06"]),
    "a month missing": (
        keep(pl.col("purchased_at").dt.truncate("1mo") != date(1997, 9, 1)),
        ["purchased_at: expect_column_gaps_to_be_at_most max_gap_days=3 (got 31 days"],
    ),
    "stale": (
        keep(pl.col("purchased_at") < date(1998, 6, 20)),
        ["purchased_at: expect_column_events_to_be_fresh max_age_days=7", "1998-06-19, 12 days"],
    ),
    "on the day of the version": (
        some("purchased_at", date(1998, 7, 1), rows=1),
        [f"{WITHIN} first=1997-01-01, before=1998-07-01 (got 1 of 69659 rows, such as 1998-07-01)"],
    ),
    "absurd years": (some("purchased_at", date(9999, 12, 31)), [WITHIN, "such as 9999-12-31"]),
    "before the beginning": (some("purchased_at", date(1, 1, 1)), [WITHIN, "such as 0001-01-01"]),
    "empty": (
        lambda frame: frame.clear(),
        ["table: expect_table_row_count_to_be_between", "(got 0)", "(got no event)"],
    ),
    "drifted amounts": (
        in_month("amount_cents", 3 * pl.col("amount_cents")),
        [f"amount_cents: {DRIFT} max_psi=0.15", "in the month from 1998-06-01"],
    ),
    "drifted quantities": (
        in_month("quantity", pl.lit(5, pl.Int64)),
        [f"quantity: {DRIFT}", "in the month from 1998-06-01"],
    ),
    "drifted earlier": (
        in_month("amount_cents", pl.col("amount_cents") // 2, date(1998, 2, 1)),
        [f"amount_cents: {DRIFT}", "in the month from 1998-02-01"],
    ),
    "shifted mean": (
        each("amount_cents", pl.col("amount_cents") + 500),
        ["amount_cents: expect_column_mean_to_be_near_profile max_shift=0.1 (got mean 4089.36"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_stops_with_an_error_that_names_it(
    purchases: pl.DataFrame, tmp_path: Path, fault: str
) -> None:
    change, named = FAULTS[fault]
    with pytest.raises(DataValidationError) as caught:
        run(change(purchases), tmp_path)
    for part in named:
        assert part in str(caught.value)
    assert "report.html" in str(caught.value)
    assert "python -m tasks.draft" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < 450
    assert read_report(tmp_path)["failed"] == str(caught.value).count("\n  ")


def test_the_report_shows_at_most_twenty_offending_rows_where_they_are(
    purchases: pl.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(DataValidationError):
        run(some("amount_cents", -100, rows=50)(purchases), tmp_path)
    failed = [result for result in read_report(tmp_path)["results"] if not result["passed"]]
    assert [result["expectation"] for result in failed] == [RANGE]
    assert [row["row"] for row in failed[0]["rows"]] == list(range(1000, 1020))
    assert failed[0]["rows"][0] == {
        "row": 1000,
        **purchases.row(1000, named=True),
        "purchased_at": str(purchases["purchased_at"][1000]),
        "amount_cents": -100,
    }
    page = (tmp_path / "validate" / "report.html").read_text()
    assert page.count("<td>-100</td>") == 20


def test_infinity_is_text_in_the_report(purchases: pl.DataFrame, tmp_path: Path) -> None:
    change, _ = FAULTS["infinity"]
    with pytest.raises(DataValidationError):
        run(change(purchases), tmp_path)
    text = (tmp_path / "validate" / "report.json").read_text()
    assert "inf" in json.dumps(json.loads(text, parse_constant=pytest.fail))


def test_equal_data_gives_equal_bytes(purchases: pl.DataFrame, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        with pytest.raises(DataValidationError):
            run(some("quantity", -1)(purchases), tmp_path / folder)
    for name in ("report.json", "report.html"):
        first, second = (tmp_path / folder / "validate" / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        assert str(tmp_path) not in first.read_text()


RESULTS = [
    {
        "expectation": "expect_x",
        "column": None,
        "bound": "max=1",
        "observed": "1",
        "passed": True,
        "rows": [],
    },
    {
        "expectation": "expect_y",
        "column": "<b>",
        "bound": "",
        "observed": "2 & 3",
        "passed": False,
        "rows": [1],
    },
]


def test_rows_put_failures_first() -> None:
    report = validate.report(
        pl.DataFrame({"<b>": [1, 2]}), RESULTS, suite="s", dataset_version="1998-07-01"
    )
    assert [row["expectation"] for row in validate.rows(report)] == ["expect_y", "expect_x"]
    assert set(validate.rows(report)[0]) == {"column", "expectation", "bound", "observed", "passed"}


def test_the_page_escapes_what_the_data_says() -> None:
    frame = pl.DataFrame({"<b>": ["<script>alert(1)</script>", "<i>"]})
    page = validate.page(validate.report(frame, RESULTS, suite="s", dataset_version="1998-07-01"))
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;i&gt;" in page
    assert "2 &amp; 3" in page
    assert "1 of 2 expectations are met" in page


def test_a_message_is_short_even_if_a_table_has_many_columns() -> None:
    result = RESULTS[1] | {"bound": "column_list=" + "column, " * 1000, "rows": []}
    report = validate.report(pl.DataFrame(), [result], suite="s", dataset_version="1998-07-01")
    assert len(validate.failure(report, Path("s.json"), Path("report.html"))) < 1000


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.json"])
def test_a_suite_is_named_not_pathed(name: str) -> None:
    with pytest.raises(ValidationError):
        Validate(suite=name, max_age_days=7)


def test_the_shipped_suite_is_in_its_serialised_form() -> None:
    values = validate.parameters("1998-07-01", 7, files.read_json(PROFILE))
    shipped = files.read_json(SUITE)
    assert expectations.serialise(suites.load(SUITE, values)) == shipped["expectations"]
    assert shipped["name"] == SUITE.stem


def test_the_command_line_names_the_fault_without_a_traceback_and_leaves_no_files(
    purchases: pl.DataFrame, tmp_path: Path
) -> None:
    age = timedelta(days=40)
    stale = purchases.with_columns(pl.col("purchased_at") - age)
    shipped = Path.cwd() / SUITE.parent
    files.write_parquet(tmp_path / "ingest" / "snapshot.parquet", stale)
    files.write_json(tmp_path / "ingest" / "manifest.json", {"dataset_version": "1998-07-01"})
    (tmp_path / "params.yaml").write_text(
        "validate: {suite: training_data_v3, max_age_days: 7}\n", encoding="utf-8"
    )
    paths = ["ingest", shipped / SUITE.name, shipped / PROFILE.name, "validate"]
    done = subprocess.run(
        [sys.executable, "-m", "tasks.validate", *map(str, paths)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == os.EX_DATAERR
    assert done.stdout == ""
    assert done.stderr.startswith("DataValidationError: ")
    assert "41 days old" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"ingest", "params.yaml", "validate"}
    assert {path.name for path in (tmp_path / "validate").iterdir()} == {
        "report.html",
        "report.json",
    }
