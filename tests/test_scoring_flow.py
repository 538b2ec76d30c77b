"""The flow `score` on the real data, by its command line, against a real Prefect server."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from test_training import api, flow_runs

from flows import scoring
from tasks import files, sample
from tasks.errors import ParamsError

pytestmark = pytest.mark.xdist_group("trained")  # one worker trains, once
PROMOTE = """
from tasks.registry import opened
with opened("churn-predictor") as registry:
    registry.decide("promoted", by="tests", seen=None, subject=1, to=1, reason="the first")
"""
PLACE = "data/scores/date=1998-04-01/version=1"
NAME = "score-churn-predictor-v1-1998-04-01"


def run(checkout: Path, environment, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=checkout,
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def score(checkout: Path, environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(checkout, environment, "python", "-m", "flows", "score", *arguments)


def promote(checkout: Path, environment) -> Path:
    done = run(checkout, environment, "python", "-c", PROMOTE)
    assert done.returncode == 0, done.stderr
    return checkout


@pytest.fixture(scope="module")
def night(first, prefect, tmp_path_factory) -> SimpleNamespace:
    """A checkout with a champion that has scored the test cutoff once, and how that went."""
    folder = tmp_path_factory.mktemp("night") / "checkout"
    checkout = promote(Path(shutil.copytree(first[0], folder, symlinks=True)), prefect)
    done = score(checkout, prefect, "--as-of", "1998-04-01")
    assert done.returncode == 0, done.stdout + done.stderr
    return SimpleNamespace(checkout=checkout, done=done)


def newest(environment, name: str = NAME) -> dict:
    return flow_runs(environment, name)[0]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_test_rows_get_the_scores_of_their_evaluation_digit_by_digit(night):
    scores = pl.read_parquet(night.checkout / PLACE / "*.parquet", hive_partitioning=False)
    evaluated = files.read_parquet(night.checkout / "data/evaluate/predictions.parquet")
    wanted = evaluated.sort("customer_id").select("customer_id", "score")
    assert scores.select("customer_id", "score").equals(wanted)


def test_each_file_says_by_which_model(night):
    parts = sorted((night.checkout / PLACE).glob("part-*.parquet"))
    assert [len(files.read_parquet(part)) for part in parts] == [8_192, 8_192, 7_186]
    manifest = files.read_json(night.checkout / PLACE / "manifest.json")
    for part in parts:
        told = files.read_parquet(part).select("model_name", "model_version", "lineage_key")
        assert told.unique().rows() == [("churn-predictor", 1, manifest["lineage_key"])]
    assert (manifest["rows"], manifest["last_event"]) == (23_570, "1998-03-31")


def test_the_page_of_the_run(night, prefect):
    (found,) = [run for run in flow_runs(prefect, NAME) if run["state_name"] == "Completed"]
    made = api(prefect, "artifacts", flow_runs={"id": {"any_": [found["id"]]}})
    (told,) = json.loads(next(each["data"] for each in made if each["key"] == "scores"))
    assert (told["model version"], told["rows"], told["where"]) == (
        "churn-predictor/1",
        "23,570",
        PLACE,
    )
    tasks = api(prefect, "task_runs", flow_runs={"id": {"any_": [found["id"]]}})
    assert {each["name"] for each in tasks} == {"champion", "read", "score", "write"}


def test_the_command_says_where_the_scores_are_and_what_to_type(night, environment):
    lines = night.done.stdout.splitlines()
    assert f"where          {PLACE}" in lines
    command = lines[-1].removeprefix("next           ")
    shown = run(night.checkout, environment, "bash", "-c", command)
    assert "shape: (23_570, 5)" in shown.stdout, shown.stderr
    ignored = run(night.checkout, environment, "git", "status", "--porcelain", "data")
    assert ignored.stdout == ""


def test_a_day_that_is_scored_is_left_alone_and_a_damaged_one_is_not(night, prefect):
    whole = content(night.checkout / PLACE)
    assert score(night.checkout, prefect, "--as-of", "1998-04-01").returncode == 0
    assert newest(prefect)["state_name"] == "Cached"
    assert newest(prefect)["state"]["message"].startswith("already scored: 23570 rows")
    (night.checkout / PLACE / "part-00001.parquet").write_bytes(b"PAR1")
    assert score(night.checkout, prefect, "--as-of", "1998-04-01").returncode == 0
    assert newest(prefect)["state_name"] == "Completed"
    assert content(night.checkout / PLACE) == whole


def test_other_feature_code_writes_nothing_unless_it_gives_the_same_scores(night, prefect):
    recipe = night.checkout / "tasks/recipes/transactions.py"
    text = recipe.read_text()
    try:
        recipe.write_text(text + "\n# of no effect\n")
        assert score(night.checkout, prefect).returncode == 0
        found = newest(prefect, "score-churn-predictor-v1-1998-07-01")
        tasks = api(prefect, "task_runs", flow_runs={"id": {"any_": [found["id"]]}})
        assert "check" in {each["name"] for each in tasks}
        recipe.write_text(
            text.replace('age.min().alias("recency_days")', 'age.max().alias("recency_days")')
        )
        done = score(night.checkout, prefect, "--as-of", "1998-05-01")
    finally:
        recipe.write_text(text)
    assert done.returncode == 1
    message = newest(prefect, "score-churn-predictor-v1-1998-05-01")["state"]["message"]
    assert "of 23570 rows with another score" in message
    assert not (night.checkout / "data/scores/date=1998-05-01").exists()


def test_a_lake_with_another_schema_is_refused_before_anything_is_written(night, prefect):
    lake = night.checkout.parent / "lake"
    sample.run(lake)
    for path in sorted(lake.rglob("*.parquet")):
        files.write_parquet(path, files.read_parquet(path).rename({"quantity": "pieces"}))
    params = night.checkout / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("source: data/lake", f"source: {lake}"))
        done = score(night.checkout, prefect, "--as-of", "1998-06-01")
    finally:
        params.write_text(text)
    assert done.returncode == 1
    state = newest(prefect, "score-churn-predictor-v1-1998-06-01")["state"]
    assert state["name"] == "DataRefused"
    assert "column 'quantity' must be Int64 (got none)" in state["message"]
    assert "column 'pieces' must be left out (got Int64)" in state["message"]
    assert not (night.checkout / "data/scores/date=1998-06-01").exists()


def test_without_a_champion(trained: Path, prefect):
    done = score(trained, prefect)
    assert done.returncode == 1
    assert "must have a version with the alias 'champion' (got none)" in done.stdout + done.stderr
    assert not (trained / "data/scores").exists()


def test_without_the_section(trained: Path, environment):
    params = trained / "params.yaml"
    params.write_text(params.read_text().partition("\n# `python -m flows score`")[0])
    done = score(trained, environment)
    assert (done.returncode, done.stderr) == (
        1,
        "ParamsError: params.yaml: score: Field required\n",
    )


class TestWhereScoresGo:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(scoring.SCORES, raising=False)

    @pytest.mark.parametrize("stated", ["s3://lake/scores", "/mnt/scores"])
    def test_an_address_is_taken_as_it_is(self, stated, monkeypatch):
        monkeypatch.setenv(scoring.SCORES, "s3://verbatim/scores")
        assert scoring.settled(stated) == stated

    def test_a_relative_one_is_a_folder_here_or_what_the_environment_says(self, monkeypatch):
        assert scoring.settled("data/scores") == "data/scores"
        monkeypatch.setenv(scoring.SCORES, "s3://verbatim/scores")
        assert scoring.settled("data/scores") == "s3://verbatim/scores"

    def test_in_a_clone_that_vanishes_it_is_refused(self, monkeypatch):
        monkeypatch.setattr(scoring.workspace, "is_own", lambda: True)
        with pytest.raises(ParamsError, match=r"score\.destination: must outlast the clone"):
            scoring.settled("data/scores")
