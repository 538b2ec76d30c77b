"""What cache, remote and lakes hold of source data: nothing else is brought, or led elsewhere."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from flows.proof import comparing, examine, sources
from flows.proof.examine import Case
from flows.proof.objects import Objects
from flows.proof.rebuild import Rebuilt
from flows.proof.tree import git
from flows.proof.verdict import Row
from tasks import content, files
from tasks.errors import TemporaryError
from tasks.lineage import Lineage

RAW = "data/raw.csv"
BYTES = b"day,amount\n1,2\n"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()  # noqa: S324


def claim_of(manifest: dict | None = None, **sources: str) -> SimpleNamespace:
    """As much of a claim as is asked for of its sources."""
    told = Lineage({"make": {"cmd": "true", "params": {}, "deps": sources}}, {})
    return SimpleNamespace(lineage=told, manifest=manifest or {}, commit="")


def write(file: Path, data: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def cached(root: Path, data: bytes) -> Path:
    found = md5(data)
    return write(root / f".dvc/cache/files/md5/{found[:2]}/{found[2:]}", data)


def track(tree: Path, path: str, found: str) -> None:
    out = {"md5": found, "size": len(BYTES), "hash": "md5", "path": Path(path).name}
    write(tree / f"{path}.dvc", yaml.safe_dump({"outs": [out]}).encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a cache."""
    write(tmp_path / "root/.dvc/config", b"")
    git("init", "--quiet", cwd=tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clean tree whose commit tracks a file with DVC."""
    folder = tmp_path / "proof/checkout"
    write(folder / ".dvc/config", b"")
    git("init", "--quiet", cwd=folder)
    track(folder, RAW, md5(BYTES))
    return folder


@pytest.fixture
def objects(root: Path, tmp_path: Path) -> Objects:
    return Objects(root, tmp_path / "site")


def remote(root: Path, place: Path) -> Objects:
    (root / ".dvc/config").write_text(
        f"[core]\n    remote = far\n['remote \"far\"']\n    url = {place}\n"
    )
    return Objects(root, root.parent / "site")


def test_what_dvc_tracks_is_brought(root: Path, tree: Path, objects: Objects):
    cached(root, BYTES)
    claim = claim_of(**{RAW: md5(BYTES)})
    assert sources.unlike_commit(tree, claim) == []
    assert sources.bring(tree, claim, root, objects) == []
    assert (tree / RAW).read_bytes() == BYTES
    assert objects.repo.site_cache_dir.startswith(str(root.parent / "site"))


def test_a_commit_that_names_other_data_than_the_record_is_told(tree: Path):
    (said,) = sources.unlike_commit(tree, claim_of(**{RAW: "0" * 32}))
    assert said == f"{RAW}.dvc names {RAW} with the MD5 {md5(BYTES)}, and it was {'0' * 32}"


def test_what_stages_have_read_otherwise_is_told(tree: Path):
    claim = claim_of({"source": "data/lake"}, **{RAW: "1", "data/lake": "2", "code.py": "3"})
    read = {RAW: "other", "data/lake": "grown", "code.py": "3"}
    assert sources.unlike_read(tree, claim, read) == [
        f"{RAW} was read with the hash other, and must have 1"
    ]
    claim = claim_of({"source": RAW}, **{RAW: "1"})
    assert len(sources.unlike_read(tree, claim, read)) == 1, "a lake that DVC tracks is known whole"


def test_a_rebuild_tells_what_it_has_read(tmp_path: Path):
    stage = {"deps": [{"path": RAW, "md5": "1"}], "outs": [{"path": "made", "md5": "2"}]}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"make": stage}}))
    made = Rebuilt(tmp_path, tmp_path / "registry")
    assert (made.read, made.hashes) == ({RAW: "1"}, {"made": "2"})


def test_what_neither_cache_nor_remote_has_is_gone(root: Path, tree: Path, tmp_path: Path):
    (tmp_path / "far").mkdir()
    (said,) = sources.bring(tree, claim_of(**{RAW: "1"}), root, remote(root, tmp_path / "far"))
    assert said == f"{RAW}.dvc: neither the cache nor DVC's remote has what it names"


def test_a_remote_that_does_not_answer_says_nothing(root: Path, tree: Path, tmp_path: Path):
    far = remote(root, write(tmp_path / "far", b"no folder"))
    with pytest.raises(TemporaryError, match=r"DVC's remote far: must answer \(got NotADir"):
        sources.bring(tree, claim_of(**{RAW: "1"}), root, far)
    rows = [Row("train", "data/train", md5(BYTES), "0" * 32)]
    (said,) = comparing.first_difference(rows, tmp_path, tree, far, tmp_path / "expected")
    assert said.endswith("the bytes of then are nowhere any more")


def test_a_list_of_files_that_leads_out_of_its_folder_is_not_laid_out(
    root: Path, objects: Objects, tmp_path: Path
):
    cached(root, BYTES)
    listed = json.dumps([{"md5": md5(BYTES), "relpath": "../escaped"}]).encode()
    found = cached(root, listed)
    found.rename(f"{found}{content.FOLDER}")
    assert not objects.bring(md5(listed) + content.FOLDER, tmp_path / "laid/out")
    assert not (tmp_path / "laid/escaped").exists()


def test_a_dvc_file_that_leads_out_of_the_tree_is_refused(
    root: Path, tree: Path, objects: Objects, tmp_path: Path
):
    cached(root, BYTES)
    out = {"md5": md5(BYTES), "size": len(BYTES), "hash": "md5", "path": str(tmp_path / "mine")}
    write(tree / f"{RAW}.dvc", yaml.safe_dump({"outs": [out]}).encode())
    (said,) = sources.bring(tree, claim_of(**{RAW: md5(BYTES)}), root, objects)
    assert "must lie in the checkout" in said
    assert not (tmp_path / "mine").exists()


def test_damage_of_what_dvc_tracks_is_named(root: Path, tree: Path, objects: Objects):
    cached(root, BYTES).write_bytes(b"changed")
    claim = claim_of(**{RAW: md5(BYTES), "s3://lake": "an-etag"})
    case = Case(claim, root, tree.parent, lambda _: None, make_env=False)
    (said,) = examine._damage(case, objects)
    assert said.startswith(f"DVC's cache: {RAW}: ")


def lake(folder: Path) -> dict:
    write(folder / "one.csv", BYTES)
    known = {"path": "one.csv", "sha256": content.digest(folder / "one.csv", "sha256")}
    return {"source": str(folder), "files": [known]}


def test_a_lake_elsewhere_that_has_grown_is_as_good_and_is_not_copied(
    root: Path, tree: Path, objects: Objects, tmp_path: Path
):
    manifest = lake(tmp_path / "lake")
    source = manifest["source"]
    claim = claim_of(manifest, **{source: content.of(tmp_path / "lake")})
    write(tmp_path / "lake/two.csv", BYTES)
    assert sources.outside(tree, claim) == [source]
    assert sources.bring(tree, claim, root, objects) == []
    assert sources.unlike_read(tree, claim, {source: content.of(tmp_path / "lake")}) == []
    write(tmp_path / "lake/one.csv", b"changed")
    (said,) = sources.bring(tree, claim, root, objects)
    assert said.startswith(f"{source}/one.csv: must have the SHA-256")


def test_a_lake_here_is_copied_as_far_as_its_manifest_names_it(
    root: Path, tree: Path, objects: Objects
):
    manifest = {**lake(root / "lake"), "source": "lake"}
    write(root / "lake/two.csv", BYTES)
    assert sources.bring(tree, claim_of(manifest, lake="1"), root, objects) == []
    assert [file.name for file in (tree / "lake").iterdir()] == ["one.csv"]
    shutil.rmtree(tree / "lake")
    manifest["files"][0]["path"] = "../other/one.csv"
    (said,) = sources.bring(tree, claim_of(manifest, lake="1"), root, objects)
    assert "must lie in the checkout" in said
    assert not (tree / "lake").exists()


def test_a_lake_elsewhere_that_was_changed_meanwhile_is_named(tree: Path, tmp_path: Path):
    manifest = lake(tmp_path / "lake")
    then, other = manifest["files"][0], {"path": "two.csv", "sha256": "2"}
    made = Rebuilt(tree, tmp_path)
    case = Case(claim_of(manifest), tmp_path, tree.parent, print, make_env=False)
    assert examine._other_sources(case, made) == []
    now = {"files": [{**then, "sha256": "1"}, other]}
    files.write_json(tree / "data/ingest/manifest.json", now)
    assert examine._other_sources(case, made) == [
        f"{manifest['source']}/one.csv: is not what it was",
        f"{manifest['source']}/two.csv: has come since, with events from before",
    ]
    here = replace(case, claim=claim_of({**manifest, "source": "lake"}))
    assert examine._other_sources(here, made) == [], "a lake here was copied"
