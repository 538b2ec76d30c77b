"""Scores as files: in a folder and in a real S3 store, and what a kill or a fault leaves."""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from tasks import score_files
from tasks.destination import Destination
from tasks.errors import StageError, TemporaryError
from tasks.registry import Version

DAY = date(2024, 3, 1)
VERSION = Version(3, "run", "key", "2024-03-01", passed=True, tags={})
SCORES = pl.DataFrame({"customer": range(5), "score": [0.1, 0.2, 0.3, 0.4, 0.5], "name": "m"})
FACTS = {"rows": 5, "model_name": "m", "lineage_key": "key"}


def write(destination: Path | str, *, batch_rows: int = 2) -> dict[str, Any]:
    where = score_files.place(str(destination), DAY, 3)
    return score_files.write(where, SCORES, FACTS, batch_rows=batch_rows)


def found(destination: Path | str, name: str = "m", version: Version = VERSION) -> Any:
    return score_files.written(score_files.place(str(destination), DAY, 3), name, version)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_a_file_for_each_batch_and_a_manifest_with_their_hashes(tmp_path: Path) -> None:
    manifest = write(tmp_path)
    folder = tmp_path / "date=2024-03-01/version=3"
    names = ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert sorted(content(folder)) == ["manifest.json", *names]
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert [(file["path"], file["rows"]) for file in manifest["files"]] == [
        *zip(names, [2, 2, 1], strict=True)
    ]
    for file in manifest["files"]:
        data = (folder / file["path"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert {name: manifest[name] for name in FACTS} == FACTS
    assert found(tmp_path) == manifest


def test_all_days_are_read_at_once(tmp_path: Path) -> None:
    write(tmp_path)
    rows = pl.read_parquet(f"{tmp_path}/**/*.parquet", hive_partitioning=True)
    assert rows.drop("date", "version").equals(SCORES)
    assert rows.select("date", "version").unique().rows() == [(DAY, 3)]


def test_nothing_was_written(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") is None


@pytest.mark.parametrize("cut", [b"", b'{"rows": 5, "model_na', b"null"])
def test_without_a_whole_manifest_all_is_written_anew_to_the_same_bytes(
    tmp_path: Path, cut: bytes
) -> None:
    write(tmp_path)
    whole = content(tmp_path)
    folder = tmp_path / "date=2024-03-01/version=3"
    (folder / "part-00002.parquet").unlink()
    (folder / "manifest.json").write_bytes(cut)
    if not cut:
        (folder / "manifest.json").unlink()
    assert found(tmp_path) is None
    write(tmp_path)
    assert content(tmp_path) == whole


def harm(folder: Path) -> None:
    data = bytearray((folder / "part-00001.parquet").read_bytes())
    data[40] ^= 1
    (folder / "part-00001.parquet").write_bytes(data)


def lose(folder: Path) -> None:
    (folder / "part-00001.parquet").unlink()


def leave(folder: Path) -> None:
    """As of a run with smaller batches, which was killed."""
    (folder / "part-00009.parquet").write_bytes((folder / "part-00000.parquet").read_bytes())


@pytest.mark.parametrize("damage", [harm, lose, leave])
def test_damage_is_noticed_and_mended(tmp_path: Path, damage) -> None:
    manifest = write(tmp_path)
    whole = content(tmp_path)
    damage(tmp_path / "date=2024-03-01/version=3")
    assert found(tmp_path) is None
    assert write(tmp_path) == manifest
    assert content(tmp_path) == whole


def test_scores_of_an_earlier_registry_are_not_taken_for_its(tmp_path: Path) -> None:
    write(tmp_path)
    other = Version(3, "run", "another key", "2024-03-01", passed=True, tags={})
    assert found(tmp_path, version=other) is None


def test_scores_of_another_model_stay(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(StageError, match=r"must hold scores of n \(got those of m\)"):
        found(tmp_path, name="n")


class Breaking(DirFileSystem):
    """A store that breaks off when a third file is written."""

    protocol = "breaking"
    left = 2

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        if not type(self).left:
            raise ConnectionResetError("the other side hung up")
        type(self).left -= 1
        super().pipe_file(path, value, **options)


def test_cut_off_it_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    options = {"path": str(tmp_path), "fs": LocalFileSystem(auto_mkdir=True)}
    monkeypatch.setitem(fsspec.config.conf, "breaking", options)
    with pytest.raises(TemporaryError, match=r"date=2024-03-01/version=3: must be reachable"):
        write("breaking://scores")
    folder = tmp_path / "scores/date=2024-03-01/version=3"
    assert sorted(content(folder)) == ["part-00000.parquet", "part-00001.parquet"]
    assert found(tmp_path / "scores") is None
    write(tmp_path / "scores")
    assert found(tmp_path / "scores")


@pytest.fixture
def bucket(s3, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    if not system.exists(s3.bucket):
        system.mkdir(s3.bucket)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"skip_instance_cache": True})
    return f"s3://{s3.bucket}/scores"


def test_s3_holds_what_a_folder_does(tmp_path: Path, bucket: str) -> None:
    assert found(bucket) is None
    assert write(bucket) == write(tmp_path)
    where = "date=2024-03-01/version=3"
    assert Destination(bucket).below(where).read() == content(tmp_path / where)
    assert found(bucket) == found(tmp_path)
    assert pl.read_parquet(f"{bucket}/{where}/*.parquet", hive_partitioning=False).equals(SCORES)


def test_damage_in_s3_is_noticed_and_mended(bucket: str) -> None:
    write(bucket, batch_rows=1)
    Destination(bucket).below("date=2024-03-01", "version=3").write("part-00000.parquet", b"PAR1")
    assert found(bucket) is None
    manifest = write(bucket)
    assert found(bucket) == manifest
    names = Destination(bucket).below("date=2024-03-01", "version=3").read()
    assert len(names) == 4


def test_s3_with_wrong_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StageError, match=r"check score\.destination in params\.yaml") as caught:
        write(bucket)
    assert not isinstance(caught.value, TemporaryError)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("no folder")
    with pytest.raises(StageError, match="must be reachable"):
        write(tmp_path / "scores")
