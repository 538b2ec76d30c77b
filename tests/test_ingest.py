import random
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from tasks import files
from tasks.errors import DataValidationError, ParamsError
from tasks.ingest import Ingest, latest, run

EVENTS = pl.DataFrame(
    {
        "customer": [1, 2, 2, 3],
        "at": [date(2024, 1, 5), date(2024, 1, 5), date(2024, 2, 1), date(2024, 2, 29)],
        "cents": [100, 50, 700, 0],
    }
)
VERSION = date(2024, 3, 1)


def lake(folder: Path, rows: pl.DataFrame = EVENTS) -> Path:
    for (month,), part in rows.group_by(pl.col("at").dt.strftime("%Y-%m")):
        files.write_parquet(folder / f"month={month}" / "events.parquet", part)
    return folder


def section(source: Path | str, version: date = VERSION, **more: Any) -> dict[str, Any]:
    return {"source": str(source), "dataset_version": version, "max_silence_days": 31, **more}


def ingest(
    source: Path | str,
    out: Path,
    version: date = VERSION,
    time: str | None = "at",
    silence: int = 31,
) -> None:
    values = section(source, version, time_column=time, max_silence_days=silence)
    run(str(source), out, ingest=Ingest.model_validate(values))


def test_snapshot_and_manifest(tmp_path: Path):
    ingest(lake(tmp_path / "lake"), tmp_path / "out")
    assert files.read_parquet(tmp_path / "out/snapshot.parquet").equals(
        EVENTS.sort("at", "customer", "cents")
    )
    manifest = files.read_json(tmp_path / "out/manifest.json")
    assert manifest["rows"] == 4
    assert (manifest["first_event"], manifest["last_event"]) == ("2024-01-05", "2024-02-29")
    assert [file["path"] for file in manifest["files"]] == [
        "month=2024-01/events.parquet",
        "month=2024-02/events.parquet",
    ]
    assert len(manifest["files"][0]["sha256"]) == 64


def test_events_from_the_version_on_are_unknown(tmp_path: Path):
    """A store that has grown since must give the very same bytes."""
    ingest(lake(tmp_path / "lake"), tmp_path / "grown", date(2024, 2, 1))
    ingest(lake(tmp_path / "lake", EVENTS.head(2)), tmp_path / "then", date(2024, 2, 1))
    for name in ("snapshot.parquet", "manifest.json"):
        assert (tmp_path / "grown" / name).read_bytes() == (tmp_path / "then" / name).read_bytes()


def test_order_and_number_of_files_do_not_matter(tmp_path: Path):
    shuffled = EVENTS.sample(fraction=1.0, shuffle=True, seed=random.randrange(1000))
    files.write_parquet(tmp_path / "one/all.parquet", shuffled)
    ingest(tmp_path / "one", tmp_path / "a")
    ingest(lake(tmp_path / "many"), tmp_path / "b")
    assert (tmp_path / "a/snapshot.parquet").read_bytes() == (
        tmp_path / "b/snapshot.parquet"
    ).read_bytes()


def test_types_of_csv_files_are_those_of_what_was_known(tmp_path: Path):
    """Fractions that arrive later must not make floats of the whole numbers before."""
    (tmp_path / "lake").mkdir()
    for month, cents in (("01", "1"), ("02", "2.5")):
        (tmp_path / f"lake/{month}.csv").write_text(f"at,cents\n2024-{month}-05,{cents}\n")
    ingest(tmp_path / "lake", tmp_path / "then", date(2024, 2, 1))
    ingest(tmp_path / "lake", tmp_path / "now")
    then, now = (
        files.read_parquet(tmp_path / name / "snapshot.parquet") for name in ("then", "now")
    )
    assert then["cents"].to_list() == [1]
    assert then["cents"].dtype == pl.Int64
    assert now["cents"].to_list() == [1.0, 2.5]


def test_csv_file_without_any_time(tmp_path: Path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/1.csv").write_text("at,cents\n2024-02-05,1\n")
    (tmp_path / "lake/2.csv").write_text("at,cents\n,2\n")
    ingest(tmp_path / "lake", tmp_path / "out")
    rows = files.read_parquet(tmp_path / "out/snapshot.parquet")
    assert rows.sort("cents")["at"].to_list() == [date(2024, 2, 5), None]


def test_csv_and_single_file(tmp_path: Path):
    EVENTS.write_csv(tmp_path / "events.csv")
    ingest(tmp_path / "events.csv", tmp_path / "out")
    assert files.read_parquet(tmp_path / "out/snapshot.parquet").height == 4


def test_datetimes_are_compared_by_their_day(tmp_path: Path):
    rows = pl.DataFrame({"at": [datetime(2024, 2, 29, 23, 59), datetime(2024, 3, 1, 0, 0)]})
    files.write_parquet(tmp_path / "lake/all.parquet", rows)
    ingest(tmp_path / "lake", tmp_path / "out")
    assert files.read_parquet(tmp_path / "out/snapshot.parquet").height == 1


def test_event_without_a_time_is_left_for_validate(tmp_path: Path):
    rows = pl.concat([EVENTS, EVENTS.head(1).with_columns(at=pl.lit(None, pl.Date))])
    files.write_parquet(tmp_path / "lake/all.parquet", rows)
    ingest(tmp_path / "lake", tmp_path / "out")
    assert files.read_parquet(tmp_path / "out/snapshot.parquet")["at"].null_count() == 1


def test_table_without_time_is_taken_whole(tmp_path: Path):
    files.write_parquet(tmp_path / "lake/all.parquet", EVENTS.drop("at"))
    ingest(tmp_path / "lake", tmp_path / "out", time=None)
    assert files.read_json(tmp_path / "out/manifest.json")["last_event"] is None


def test_latest_is_the_day_after_the_newest_event(tmp_path: Path):
    assert latest(str(lake(tmp_path / "lake")), "at") == VERSION


def test_latest_needs_a_time_column(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"ingest\.time_column: must be set for `latest`"):
        latest(str(lake(tmp_path / "lake")), None)


def test_table_without_time_and_without_rows(tmp_path: Path):
    files.write_parquet(tmp_path / "lake/all.parquet", EVENTS.drop("at").clear())
    with pytest.raises(DataValidationError, match="must hold rows"):
        ingest(tmp_path / "lake", tmp_path / "out", time=None)


@pytest.mark.parametrize(
    "source",
    ["data/lake", "s3://bucket/events", "../data.v2", "/mnt/a=b@c+d~1", "données", "x.csv"],
)
def test_source_that_a_shell_takes_as_it_is(source: str):
    assert Ingest.model_validate(section(source)).source == source


@pytest.mark.parametrize(
    "source", ["", "my data", "a;b", "$HOME", "a&b", "a|b", "`a`", "a*", "~/a", "-x", "a\n", "'a'"]
)
def test_source_that_a_shell_would_change(source: str):
    with pytest.raises(ValidationError, match="source"):
        Ingest.model_validate(section(source))


def refused(source: Path | str, tmp_path: Path, version: date = VERSION) -> str:
    with pytest.raises(DataValidationError) as caught:
        ingest(source, tmp_path / "out", version)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_version_in_the_future_of_the_data(tmp_path: Path):
    message = refused(lake(tmp_path / "lake"), tmp_path, date(2024, 6, 1))
    assert "ingest.dataset_version" in message
    assert "newest 2024-02-29" in message


def test_how_far_in_the_future_is_a_parameter(tmp_path: Path):
    lake(tmp_path / "lake")
    with pytest.raises(DataValidationError, match=r"max_silence_days \(9\) after"):
        ingest(tmp_path / "lake", tmp_path / "out", date(2024, 3, 10), silence=9)
    ingest(tmp_path / "lake", tmp_path / "out", date(2024, 3, 10), silence=10)


def test_version_before_all_data(tmp_path: Path):
    assert "newest none" in refused(lake(tmp_path / "lake"), tmp_path, date(2020, 1, 1))
