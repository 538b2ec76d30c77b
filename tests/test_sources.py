"""Source data of a proof: brought if it is as it was, and named if it is gone."""

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import s3fs

from flows.proof import sources
from flows.proof.objects import Objects
from tasks import content, files


@dataclass
class Claim:
    """As much of a claim as sources are found by."""

    manifest: dict[str, Any]
    sources: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def lineage(self) -> "Claim":
        return self


def dvc(folder: Path, environment, *words: str) -> None:
    subprocess.run(["dvc", *words], cwd=folder, env=environment, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path, environment) -> Path:
    """A checkout with a lake that git does not hold."""
    folder = tmp_path / "root"
    (folder / "data/mine/month=1").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, environment, "init", "-q")
    (folder / "data/mine/month=1/rows.csv").write_text("a\n1\n")
    (folder / "data/mine/more.csv").write_text("a\n2\n")
    return folder


@pytest.fixture
def tree(root: Path) -> Path:
    folder = root.parent / "tree"
    for command in (["clone", "--quiet", str(root), str(folder)],):
        subprocess.run(["git", *command], check=True, capture_output=True)
    return folder


def claim_of(root: Path, source: str, *names: str) -> Claim:
    listed = [
        {"path": name, "sha256": hashlib.sha256((root / source / name).read_bytes()).hexdigest()}
        for name in names
    ]
    return Claim({"source": source, "files": listed}, {source: content.of(root / source)})


def test_only_the_files_that_were_read_are_brought(root: Path, tree: Path):
    claim = claim_of(root, "data/mine", "month=1/rows.csv")
    assert sources.bring(tree, claim, root, Objects(root, root.parent / "site")) == []
    assert content.listing(tree / "data/mine").keys() == {"month=1/rows.csv"}


def test_what_is_gone_or_another_is_named(root: Path, tree: Path):
    claim = claim_of(root, "data/mine", "month=1/rows.csv", "more.csv")
    (root / "data/mine/more.csv").unlink()
    (root / "data/mine/month=1/rows.csv").write_text("a\n3\n")
    other, gone = sources.bring(tree, claim, root, Objects(root, root.parent / "site"))
    assert other.startswith("data/mine/month=1/rows.csv: must have the SHA-256")
    assert gone.startswith("data/mine/more.csv: is gone")


def test_data_that_dvc_tracks_comes_from_its_remote(root: Path, tree: Path, environment):
    for words in (
        ("remote", "add", "--default", "-q", "store", str(root.parent / "store")),
        ("add", "-q", "data/mine"),
        ("push", "-q"),
    ):
        dvc(root, environment, *words)
    claim = claim_of(root, "data/mine", "month=1/rows.csv", "more.csv")
    (tree / "data").mkdir()
    (tree / "data/mine.dvc").write_bytes((root / "data/mine.dvc").read_bytes())
    dvc(tree, environment, "init", "-q")
    subprocess.run(["rm", "-rf", root / ".dvc/cache", root / "data/mine"], check=True)
    assert sources.bring(tree, claim, root, Objects(root, root.parent / "site")) == []
    assert (
        content.of(tree / "data/mine") == files.read_yaml(tree / "data/mine.dvc")["outs"][0]["md5"]
    )

    subprocess.run(["rm", "-rf", root.parent / "store", tree / "data/mine"], check=True)
    (fault,) = sources.bring(tree, claim, root, Objects(root, root.parent / "site"))
    assert fault == "data/mine.dvc: neither the cache nor DVC's remote has what it names"


def test_etags_that_are_gone_are_named(s3, monkeypatch: pytest.MonkeyPatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    place = s3fs.S3FileSystem()
    place.makedirs("pinned", exist_ok=True)
    for name in ("a.csv", "b.csv", "c.csv"):
        place.pipe(f"pinned/lake/{name}", name.encode())
    tags = {
        name: place.info(f"pinned/lake/{name}")["ETag"].strip('"')
        for name in ("a.csv", "b.csv", "c.csv")
    }
    manifest = {"files": [{"path": name, "etag": tag} for name, tag in tags.items()]}
    assert list(sources.changed_remotely("s3://pinned/lake", manifest)) == []
    place.rm("pinned/lake/a.csv")
    place.pipe("pinned/lake/b.csv", b"another")
    gone, other = sources.changed_remotely("s3://pinned/lake", manifest)
    assert gone == f"s3://pinned/lake/a.csv: is gone (ETag {tags['a.csv']})"
    assert other.startswith(f"s3://pinned/lake/b.csv: must have the ETag {tags['b.csv']} (got ")
    nowhere = list(sources.changed_remotely("s3://pinned/nowhere", manifest))
    assert len(nowhere) == 3


def test_a_lake_that_was_changed_since_it_was_made_is_damage(root: Path):
    claim = claim_of(root, "data/mine", "more.csv")
    claim.outputs = claim.sources
    lock = {
        "stages": {"sample": {"outs": [{"path": "data/mine", "md5": claim.sources["data/mine"]}]}}
    }
    assert sources.damage(root, claim, lock) == []
    (root / "data/mine/more.csv").write_text("a\n9\n")
    (fault,) = sources.damage(root, claim, lock)
    assert fault.startswith("data/mine/more.csv: must have the SHA-256")
    assert sources.damage(root, claim, {}) == []  # another lake, of another commit
