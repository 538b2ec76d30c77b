"""A claim is found by who is meant, and what cannot be read is said, without a traceback."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from tasks import claim as claims
from tasks import revision, sightings
from tasks.errors import ParamsError, StageError, TemporaryError
from tasks.tracking import AbsentError

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]
WANTED = sightings.wanted("0123456789abcdef", Path())


def test_a_run_that_is_called_like_the_id_of_another_does_not_stand_for_it(here: Path):
    known = claims.of_version(MODEL, 1)
    with closing(sqlite3.connect("mlflow.db")) as tables, tables:
        columns = [row[1] for row in tables.execute("PRAGMA table_info(runs)")]
        own = {"run_uuid": "'decoy'", "name": f"'{known.run_id}'"}
        kept = ", ".join(own.get(column, column) for column in columns)
        tables.execute(f"INSERT INTO runs SELECT {kept} FROM runs")  # noqa: S608
    assert claims.find(f"{MODEL}/1", MODEL) == known
    assert claims.of_id(known.run_id, MODEL) == known
    assert revision.of_checkout(**ASKED) == known


TEXTS = {
    "params.yaml": "register: {experiment: it}\n",
    "dvc.yaml": "stages: {a: {cmd: x}}\n",
    "dvc.lock": "stages: {a: {cmd: x}}\n",
}


@pytest.mark.parametrize(
    "manifest",
    ["[]", '{"files": 1}', '{"files": [{}]}', '{"files": [{"path": "a"}]}',
     '{"files": [{"path": "a", "sha256": 1}]}', "{"],
)  # fmt: skip
def test_a_manifest_of_another_shape_is_unreadable(manifest: str):
    fine = {"files": [{"path": "a", "etag": "1"}, {"path": "b", "sha256": "2"}]}
    claims.read_artifacts({**TEXTS, "ingest/manifest.json": json.dumps(fine)})
    with pytest.raises(claims.UNREADABLE):
        claims.read_artifacts({**TEXTS, "ingest/manifest.json": manifest})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("params.yaml", "a: ["),
        ("params.yaml", "model: trees\n"),
        ("dvc.lock", "- 1\n"),
        ("dvc.yaml", "stages: [\n"),
    ],
)
def test_a_revision_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
):
    for each, its in {**TEXTS, name: text}.items():
        (tmp_path / each).write_text(its)
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "it"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StageError, match=r"HEAD: params\.yaml, dvc\.yaml, dvc\.lock must be readable"
    ):
        revision.read("HEAD")


def test_what_is_meant_is_told_from_what_cannot_be_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    known = claims.of_version(MODEL, 1)
    assert claims.found(f"{MODEL}/1", MODEL) == claims.found(known.run_name, MODEL) == known
    assert claims.found("feature/3", MODEL) is None, "a branch of git"
    assert claims.found("main", MODEL) is None
    with pytest.raises(ParamsError, match=r"version must be one of those registered: 1 \(got 7\)"):
        claims.found(f"{MODEL}/7", MODEL)
    with pytest.raises(StageError, match="must be an alias of"):
        claims.found(f"{MODEL}@nobody", MODEL)
    shutil.rmtree(here / "mlartifacts" / known.run_id)
    for target in (f"{MODEL}/1", known.run_name):
        with pytest.raises(AbsentError, match=known.run_id):
            claims.found(target, MODEL)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryError):
        claims.found("main", MODEL)


def test_a_server_that_does_not_answer_is_told_at_once(here: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for ask in (partial(claims.found, f"{MODEL}/1", MODEL), partial(sightings.find, WANTED)):
        with pytest.raises(TemporaryError, match=r"http://127.0.0.1:9: must answer"):
            ask()


def test_a_model_that_is_not_registered_is_named(here: Path):
    with pytest.raises(StageError, match=r"has no model 'nobody'"):
        revision.of_git("nobody/1", **ASKED)


def test_an_empty_target_is_not_one_of_all_versions():
    done = subprocess.run(["python", "-m", "flows", "prove", ""], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"TARGET must name something" in done.stderr
