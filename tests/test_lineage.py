"""`python -m flows lineage` as a person types it, in a checkout that has trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import files, lineage

pytestmark = pytest.mark.xdist_group("trained")
MODEL = "churn-predictor"
MARCH = "data/lake/month=1997-03/purchases.parquet"


def ask(checkout: Path, environment: dict[str, str], *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flows", "lineage", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert status or not done.stderr
    return done.stdout or done.stderr


def test_the_tree_leads_from_the_version_to_every_file(trained: Path, environment) -> None:
    its = lineage.read(trained / "dvc.lock")
    told = ask(trained, environment, f"{MODEL}@staging")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=trained, capture_output=True, text=True, check=True
    ).stdout.strip()
    manifest = files.read_json(trained / "data/ingest/manifest.json")
    for words in (
        f"{MODEL} version 1, passed the gate",
        f"run baseline-trees-{its.short}",
        f"commit {commit}",
        its.key,
        "models.trees.max_depth: 3",
        *(f"{path}  {md5}" for path, md5 in {**its.sources, **its.outputs}.items()),
        *(file["sha256"] for file in manifest["files"]),
    ):
        assert words in told, words
    found = json.loads(ask(trained, environment, "--json"))
    assert found["model"] == {**found["model"], "name": MODEL, "version": 1}
    assert [each["stage"] for each in found["stages"]] == list(its.causes)
    inner = {
        path for each in found["stages"] for out in each["outputs"] for path in out.get("files", {})
    }
    made = [trained / path for path in its.outputs if path != "data/lake"]
    assert {path.relative_to(trained).as_posix() for at in made for path in at.rglob("*") if
            path.is_file()} <= inner  # fmt: skip


def test_bytes_lead_to_every_run_that_saw_them(trained: Path, environment) -> None:
    told = ask(trained, environment, "--uses", MARCH)
    assert "seen by 1 run, 1 model version" in told
    assert f"{MODEL}/1" in told
    assert f"data file {MARCH}" in told
    assert "output data/lake" in ask(trained, environment, "--uses", "data/lake")
    recipe = ask(trained, environment, "--uses", "tasks/recipes/table.py")
    assert "source tasks/recipes/table.py" in recipe
    answer = json.loads(ask(trained, environment, "--uses", MARCH, "--json"))
    assert (answer["is_cut"], answer["unlooked"]) == (False, 0)
    (found,) = answer["runs"]
    assert found["versions"] == [[MODEL, 1]]

    with (trained / MARCH).open("ab") as lake:
        lake.write(b"x")
    told = ask(trained, environment, "--uses", MARCH, status=1)
    assert "no recorded run ever saw this" in told
    assert "a file of this name, with other bytes, was seen by 1 run" in told
    (trained / MARCH).unlink()
    assert f"data file {MARCH}" in ask(trained, environment, "--uses", MARCH)


def test_two_results_are_told_apart_recorded_or_not(trained: Path, environment) -> None:
    same = ask(trained, environment, f"{MODEL}/1", f"{MODEL}@staging")
    assert "are the same content" in same
    lock = trained / "dvc.lock"
    text = lock.read_text().replace("max_depth: 3", "max_depth: 4")
    lock.write_text(text)
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", *author, "commit", "-qam", "deeper"], cwd=trained, check=True)
    told = ask(trained, environment, f"{MODEL}/1", "HEAD")
    assert told.splitlines()[2:] == ["parameters", "  models.trees.max_depth: 3 → 4"]
    assert "no run is recorded of this content" in ask(trained, environment, "HEAD")
    assert "must be MODEL@ALIAS" in ask(trained, environment, "nobody", status=1)
