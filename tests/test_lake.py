from datetime import date
from pathlib import Path

import fsspec
import polars as pl
import pytest
from conftest import free_ports
from fsspec.spec import AbstractFileSystem

from tasks import files, lake
from tasks.errors import DataValidationError, StageError, TemporaryError

EVENTS = pl.DataFrame(
    {
        "customer": [1, 2, 2, 3],
        "at": [date(2024, 1, 5), date(2024, 1, 5), date(2024, 2, 1), date(2024, 2, 29)],
        "cents": [100, 50, 700, 0],
    }
)


def laid(folder: Path, rows: pl.DataFrame = EVENTS) -> Path:
    for (month,), part in rows.group_by(pl.col("at").dt.strftime("%Y-%m")):
        files.write_parquet(folder / f"month={month}" / "events.parquet", part)
    return folder


def texts(folder: Path, *tables: str) -> str:
    folder.mkdir()
    for number, table in enumerate(tables):
        (folder / f"{number}.csv").write_text(table)
    return str(folder)


def refused(source: Path | str) -> str:
    with pytest.raises(DataValidationError) as caught:
        lake.read(str(source), "at")
    return str(caught.value)


def test_missing_source(tmp_path: Path):
    message = refused(tmp_path / "nowhere")
    assert "nowhere: must exist" in message
    assert "ingest.source" in message


def test_folder_without_tables(tmp_path: Path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/readme.txt").write_text("soon")
    assert "must hold .parquet or .csv files (got 1 others)" in refused(tmp_path / "lake")


def test_truncated_and_empty_files_are_all_named(tmp_path: Path):
    january, february = sorted(laid(tmp_path / "lake").rglob("*.parquet"))
    january.write_bytes(january.read_bytes()[:-20])
    february.write_bytes(b"")
    message = refused(tmp_path / "lake")
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
    odd = max(laid(tmp_path / "lake", pl.concat([EVENTS, more])).rglob("*.parquet"))
    files.write_parquet(odd, change(files.read_parquet(odd)))
    message = refused(tmp_path / "lake")
    assert "month=2024-02/events.parquet" in message
    assert named in message


def test_time_column_must_be_a_time(tmp_path: Path):
    files.write_parquet(tmp_path / "lake/all.parquet", EVENTS.cast({"at": pl.String}))
    assert "'at' must be a date or datetime (got String)" in refused(tmp_path / "lake")


def test_event_outside_its_partition(tmp_path: Path):
    february = max(laid(tmp_path / "lake").rglob("*.parquet"))
    files.write_parquet(february, EVENTS.tail(2).with_columns(at=pl.lit(date(2099, 1, 1))))
    message = refused(tmp_path / "lake")
    assert "must lie in 2024-02 (got 2 events from 2099-01-01 to 2099-01-01)" in message


def test_event_that_has_not_happened_yet(tmp_path: Path):
    files.write_parquet(
        tmp_path / "lake/all.parquet", EVENTS.with_columns(at=pl.lit(date(2999, 1, 1)))
    )
    assert "must not lie in the future (got 4 events" in refused(tmp_path / "lake")


def test_endings_may_be_in_capitals(tmp_path: Path):
    (tmp_path / "EVENTS.CSV").write_text("id,at\n1,2024-01-01\n")
    (part,) = lake.read(str(tmp_path), "at")
    assert part.rows["id"].to_list() == [1]


def test_csv_files_of_whole_numbers_and_of_fractions_are_one_table(tmp_path: Path):
    source = texts(tmp_path / "lake", "id,dose\n1,2\n", "id,dose\n2,2.5\n", "id,dose\n3,\n")
    parts = lake.unified(lake.read(source, None))
    assert [part.rows.schema for part in parts] == [{"id": pl.Int64, "dose": pl.Float64}] * 3
    assert pl.concat([part.rows for part in parts])["dose"].to_list() == [2.0, 2.5, None]


@pytest.mark.parametrize("value", ["2024-01-05", "7", "text", "true"])
def test_csv_column_without_values_takes_the_type_of_the_others(tmp_path: Path, value: str):
    source = texts(tmp_path / "lake", "id,x\n1,\n", f"id,x\n2,{value}\n", "id,x\n3,\n4,\n")
    first, second, third = lake.unified(lake.read(source, None))
    assert first.rows["x"].dtype == second.rows["x"].dtype == third.rows["x"].dtype
    assert second.rows["x"].null_count() == 0


def test_csv_files_of_texts_and_of_numbers_are_refused(tmp_path: Path):
    message = refused(texts(tmp_path / "lake", "id,x\n1,2\n", "id,x\n1,2\n", "id,x\n2,much\n"))
    assert "lake/2.csv: column 'x' must be Int64 as in the other files (got String)" in message


def test_parquet_files_state_their_types(tmp_path: Path):
    files.write_parquet(tmp_path / "lake/1.parquet", pl.DataFrame({"x": [1]}))
    files.write_parquet(tmp_path / "lake/2.parquet", pl.DataFrame({"x": [1.5]}))
    with pytest.raises(DataValidationError, match="'x' must be"):
        lake.read(str(tmp_path / "lake"), None)


def test_a_file_that_is_gone_is_no_fault_of_the_data(tmp_path: Path):
    laid(tmp_path / "lake")
    (tmp_path / "lake/more.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StageError, match=r"more\.parquet: must be reachable") as caught:
        lake.read(str(tmp_path / "lake"), "at")
    assert not isinstance(caught.value, TemporaryError)


class Interrupted(AbstractFileSystem):
    """A store that lists its files and then drops the connection."""

    protocol = "interrupted"

    def find(self, path: str, **_: object) -> dict[str, dict[str, object]]:
        return {f"{path}/1.parquet": {"name": f"{path}/1.parquet", "size": 4}}

    def cat_file(self, *_: object, **__: object) -> bytes:
        raise ConnectionResetError("the other side hung up")


def test_a_connection_that_breaks_may_be_back():
    fsspec.register_implementation("interrupted", Interrupted, clobber=True)
    with pytest.raises(TemporaryError, match=r"lake/1\.parquet: must be reachable.*hung up"):
        lake.read("interrupted://lake", "at")


def test_an_unknown_kind_of_address(tmp_path: Path):
    with pytest.raises(StageError, match="must be reachable") as caught:
        lake.read("gopher://lake", "at")
    assert not isinstance(caught.value, TemporaryError)


@pytest.fixture
def bucket(s3, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.bucket


def test_s3_gives_the_same_files_as_a_folder(tmp_path: Path, bucket: str):
    laid(tmp_path / "lake")
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    fsspec.filesystem("s3", skip_instance_cache=True).put(
        f"{tmp_path}/lake/", f"{bucket}/events/", recursive=True
    )
    remote, local = (
        lake.read(at, "at") for at in (f"s3://{bucket}/events", str(tmp_path / "lake"))
    )
    for one, other in zip(remote, local, strict=True):
        assert one.path == other.path
        assert one.rows.equals(other.rows)
        assert one.identity.pop("etag")
        assert one.identity == other.identity


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"skip_instance_cache": True})


def test_s3_with_wrong_credentials(bucket: str, fresh, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StageError, match=r"must be reachable[\s\S]*credentials") as caught:
        lake.read(f"s3://{bucket}/events", "at")
    assert not isinstance(caught.value, TemporaryError)


def test_s3_without_the_bucket(bucket: str, fresh):
    with pytest.raises(StageError, match="does not exist") as caught:
        lake.read(f"s3://no-{bucket}/events", "at")
    assert not isinstance(caught.value, TemporaryError)


def test_s3_that_does_not_answer_may_be_back(bucket: str, fresh, monkeypatch: pytest.MonkeyPatch):
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(TemporaryError, match="must be reachable"):
        lake.read(f"s3://{bucket}/events", "at")
