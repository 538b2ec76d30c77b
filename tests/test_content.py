"""Hashes of files and folders are those that DVC takes."""

import json
import subprocess
from pathlib import Path

import pytest

from tasks import content, files


def test_is_the_hash_that_dvc_takes(tmp_path: Path, environment):
    folder = tmp_path / "made"
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "b/é.json").write_text("{}")
    (folder / "b.txt").write_text("two")
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "made", "--no-commit"]):
        subprocess.run(["dvc", *command], cwd=tmp_path, env=environment, check=True)
    (out,) = files.read_yaml(tmp_path / "made.dvc")["outs"]
    assert content.of(folder) == out["md5"]
    assert content.listing(folder).keys() == {"a.txt", "b.txt", "b/é.json"}


def test_what_is_no_list_of_files_is_told():
    assert content.listed(json.dumps([{"md5": "1", "relpath": "a"}]).encode()) == {"a": "1"}
    for text in (b"[{}]", b"1", b"<", b"[1]"):
        with pytest.raises(ValueError, match=r"no list of files|Expecting value"):
            content.listed(text)
