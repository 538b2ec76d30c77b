"""A clone of a checkout as it stands, with all that git would take up, and nothing it ignores."""

import subprocess
from pathlib import Path

import pytest

from flows import clones
from tasks.errors import StageError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    (root / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root)
    for name, text in {".gitignore": "/ignored\n", "kept": "1", "gone": "1", ".dvc/x": ""}.items():
        Path(name).write_text(text)
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], check=True)
    return root


def test_changed_new_and_removed_files_come_along(checkout: Path):
    Path("kept").write_bytes("é".encode("latin-1") + b"\0\n")
    Path("gone").unlink()
    Path("new/deep").mkdir(parents=True)
    Path("new/deep/file").write_text("2")
    Path("new/link").symlink_to("nowhere")
    Path("ignored").write_text("3")
    target = checkout.parent / "other/clone"
    clones.clone(target, cache=checkout.parent / "cache", site=checkout.parent / "site")
    assert (target / "kept").read_bytes() == Path("kept").read_bytes()
    assert (target / "new/deep/file").read_text() == "2"
    assert (target / "new/link").readlink() == Path("nowhere")
    assert not (target / "gone").exists()
    assert not (target / "ignored").exists()
    config = (target / ".dvc/config.local").read_text()
    assert f"dir = {checkout.parent}/cache" in config
    assert f"site_cache_dir = {checkout.parent}/site" in config


def test_what_a_clone_would_hold_has_a_hash(checkout: Path):
    found = [clones.standing()]
    Path("ignored").write_text("3")
    assert clones.standing() == found[0]
    for name, text in (("kept", "2"), ("new", "1"), ("new", "2")):
        Path(name).write_text(text)
        found.append(clones.standing())
    assert len(set(found)) == len(found)


def test_what_is_no_repository_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match="git rev-parse: must work on this checkout"):
        clones.standing()
