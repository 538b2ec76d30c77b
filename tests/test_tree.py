"""A clean tree of a commit: from wherever it is, without what any stage has made."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.proof import tree
from flows.proof.verdict import UnprovableError
from tasks.errors import TemporaryError


@dataclass
class Claim:
    """As much of a claim as a tree is settled by."""

    params: str = "seed: 2\n"
    lock: dict[str, Any] = field(
        default_factory=lambda: {"stages": {"train": {"outs": [{"path": "data/train"}]}}}
    )


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    done = subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, text: str) -> str:
    (folder / "code.py").write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "data/train").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "data/train/history.json").write_text("[]")  # as the commit of an experiment has it
    (folder / "params.yaml").write_text("seed: 1\n")
    (folder / "dvc.lock").write_text("stages: {}\n")
    commit(folder, "first")
    return folder


def test_is_what_the_commit_holds_without_what_stages_made(root: Path, tmp_path: Path):
    first = git(root, "rev-parse", "HEAD")
    commit(root, "second")
    folder = tmp_path / "tree"
    tree.lay_out(folder, first, root)
    assert (folder / "code.py").read_text() == "first"
    tree.settle(folder, Claim(), tmp_path)
    assert (folder / "params.yaml").read_text() == "seed: 2\n"
    assert not (folder / "dvc.lock").exists()
    assert not (folder / "data/train").exists()
    assert git(folder, "ls-files", "data") == ""
    assert git(root, "status", "--porcelain") == ""


def test_comes_from_the_origin_of_a_shallow_clone(root: Path, tmp_path: Path):
    first = git(root, "rev-parse", "HEAD")
    commit(root, "second")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth=1", root.as_uri(), str(clone))
    tree.lay_out(tmp_path / "tree", first, clone)
    assert (tmp_path / "tree/code.py").read_text() == "first"
    assert not tree.is_dropped(first, clone)


def test_one_that_is_nowhere_is_told_from_an_origin_that_does_not_answer(
    root: Path, tmp_path: Path
):
    for nothing in ("", "HEAD", "--upload-pack=x"):
        with pytest.raises(UnprovableError, match="the record names no commit"):
            tree.lay_out(tmp_path / "none", nothing, root)
    with pytest.raises(UnprovableError, match="neither in this clone nor in its origin"):
        tree.lay_out(tmp_path / "gone", "0" * 40, root)
    git(root, "remote", "add", "origin", "http://127.0.0.1:1/nobody")
    with pytest.raises(TemporaryError, match="must be fetched from origin"):
        tree.lay_out(tmp_path / "away", "0" * 40, root)


def test_a_commit_that_nothing_leads_to_was_dropped(root: Path, tmp_path: Path):
    first = git(root, "rev-parse", "HEAD")
    second = commit(root, "second")
    assert not tree.is_dropped(first, root)
    git(root, "reset", "--quiet", "--hard", first)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(root), str(clone))  # brings what nothing leads to, too
    assert tree.is_dropped(second, root)
    assert tree.is_dropped(second, clone)
    without = tmp_path / "without"
    git(tmp_path, "clone", "--quiet", "--no-local", str(root), str(without))
    assert tree.is_dropped(second, without), "the origin still gives it, by its hash alone"
    git(root, "update-ref", "refs/exps/12/3456/name", second)
    assert not tree.is_dropped(second, root)
    assert not tree.is_dropped(second, clone)
    assert not tree.is_dropped(second, without)
    assert not tree.is_dropped("0" * 40, clone)
    git(root, "update-ref", "-d", "refs/exps/12/3456/name")
    newer = commit(root, "newer")
    assert not tree.is_dropped(newer, without), "of a branch that has gone on since"


def test_what_a_tree_has_otherwise_is_named():
    stage = {"cmd": "a", "params": {"seed": 1}, "deps": {"code.py": "1", "lake": "2"}}
    other = {"cmd": "b", "params": {"seed": 2}, "deps": {"code.py": "absent", "lake": "3"}}
    said = tree.unlike({"train": stage, "gone": stage}, {"train": other, "new": other}, ["lake"])
    assert list(said.values()) == [
        "stage gone is not in dvc.yaml",
        "stage new is recorded by no run",
        "the command of stage train is 'b', and was 'a'",
        "parameter seed is 2, and was 1",
        "code.py is not there",
    ]
    assert tree.unlike({"train": stage}, {"train": stage}) == {}
