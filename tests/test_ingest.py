import random
from datetime import date, datetime
from pathlib import Path

import fsspec
import polars as pl
import pytest

from tasks import files
from tasks.errors import DataValidationError, StageError
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


def ingest(source: Path | str, out: Path, version: date = VERSION, time: str | None = "at") -> None:
    section = Ingest(source=str(source), dataset_version=version, time_column=time)
    run(str(source), out, ingest=section)


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


def refused(source: Path | str, tmp_path: Path, version: date = VERSION) -> str:
    with pytest.raises(DataValidationError) as caught:
        ingest(source, tmp_path / "out", version)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_missing_source(tmp_path: Path):
    message = refused(tmp_path / "nowhere", tmp_path)
    assert "nowhere: must exist" in message
    assert "ingest.source" in message


def test_folder_without_tables(tmp_path: Path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/readme.txt").write_text("soon")
    assert "must hold .parquet or .csv files (got 1 others)" in refused(tmp_path / "lake", tmp_path)


def test_truncated_and_empty_files_are_all_named(tmp_path: Path):
    january, february = sorted(lake(tmp_path / "lake").rglob("*.parquet"))
    january.write_bytes(january.read_bytes()[:-20])
    february.write_bytes(b"")
    message = refused(tmp_path / "lake", tmp_path)
    assert "month=2024-01/events.parquet" in message
    assert "month=2024-02/events.parquet" in message
    assert "0 bytes" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: rows.drop("cents"), "'cents' is missing"),
        (lambda rows: rows.rename({"cents": "amount"}), "'amount' is in no other file"),
        (lambda rows: rows.cast({"cents": pl.String}), "'cents' must be Int64"),
        (lambda rows: rows.select("cents", "at", "customer"), "in the order"),
    ],
)
def test_one_partition_with_other_columns(tmp_path: Path, change, named: str):
    more = EVENTS.with_columns(at=pl.lit(date(2023, 12, 1)))
    odd = max(lake(tmp_path / "lake", pl.concat([EVENTS, more])).rglob("*.parquet"))
    files.write_parquet(odd, change(files.read_parquet(odd)))
    message = refused(tmp_path / "lake", tmp_path)
    assert "month=2024-02/events.parquet" in message
    assert named in message


def test_time_column_must_be_a_time(tmp_path: Path):
    files.write_parquet(tmp_path / "lake/all.parquet", EVENTS.cast({"at": pl.String}))
    assert "'at' must be a date or datetime (got String)" in refused(tmp_path / "lake", tmp_path)


def test_event_outside_its_partition(tmp_path: Path):
    february = max(lake(tmp_path / "lake").rglob("*.parquet"))
    files.write_parquet(february, EVENTS.tail(2).with_columns(at=pl.lit(date(2099, 1, 1))))
    message = refused(tmp_path / "lake", tmp_path)
    assert "must lie in 2024-02 (got 2 events from 2099-01-01 to 2099-01-01)" in message


def test_version_in_the_future_of_the_data(tmp_path: Path):
    message = refused(lake(tmp_path / "lake"), tmp_path, date(2024, 6, 1))
    assert "ingest.dataset_version" in message
    assert "newest 2024-02-29" in message


def test_version_before_all_data(tmp_path: Path):
    assert "newest none" in refused(lake(tmp_path / "lake"), tmp_path, date(2020, 1, 1))


@pytest.fixture
def bucket(s3, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.bucket


def test_s3_gives_the_same_snapshot_as_a_folder(tmp_path: Path, bucket: str):
    lake(tmp_path / "lake")
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    fsspec.filesystem("s3", skip_instance_cache=True).put(
        f"{tmp_path}/lake/", f"{bucket}/events/", recursive=True
    )
    ingest(f"s3://{bucket}/events", tmp_path / "remote")
    ingest(tmp_path / "lake", tmp_path / "local")
    assert (tmp_path / "remote/snapshot.parquet").read_bytes() == (
        tmp_path / "local/snapshot.parquet"
    ).read_bytes()
    manifest = files.read_json(tmp_path / "remote/manifest.json")
    assert all(file["etag"] for file in manifest["files"])


def test_s3_with_wrong_credentials(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fsspec.config.conf["s3"] = {"skip_instance_cache": True}
    with pytest.raises(StageError, match=r"must be reachable[\s\S]*credentials"):
        ingest(f"s3://{bucket}/events", tmp_path / "out")


def test_s3_without_the_bucket(bucket: str, tmp_path: Path):
    with pytest.raises(StageError, match="does not exist"):
        ingest(f"s3://no-{bucket}/events", tmp_path / "out")
