"""The training flow, as a process of its own against a real Prefect server, on the real data."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import fsspec
import polars as pl
import psutil
import pytest
from conftest import train
from prefect.states import Failed

from flows import walk
from flows.graph import Step
from flows.process import CommandError
from flows.remote_errors import RemoteError
from tasks import files, lineage, sample

pytestmark = pytest.mark.xdist_group("trained")  # one worker trains, once
STAGES = ["sample", "ingest", "validate", "featurize", "train", "evaluate", "register"]


def dvc(checkout: Path, environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["dvc", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def happened(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What the terminal's table says of each stage."""
    cells = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    return {row[1].strip(): row[2].strip() for row in cells if row[1].strip() in STAGES}


def api(environment, path: str, **body) -> list[dict]:
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/{path}/filter",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flow_runs(environment, name: str) -> list[dict]:
    wanted = {"name": {"any_": [name]}}
    return api(environment, "flow_runs", flow_runs=wanted, sort="START_TIME_DESC")


def store(checkout: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(checkout / "mlflow.db")) as database:
        return database.execute(query).fetchall()


VERSIONS = "SELECT version, current_stage FROM model_versions WHERE current_stage='None'"


class TestFirstRun:
    def test_every_stage_runs(self, first):
        assert first[1].returncode == 0, first[1].stdout + first[1].stderr
        assert happened(first[1]) == dict.fromkeys(STAGES, "ran")

    def test_arrives_at_the_committed_lock(self, first):
        root = Path(__file__).parent.parent
        assert (first[0] / "dvc.lock").read_text() == (root / "dvc.lock").read_text()

    def test_is_what_dvc_calls_up_to_date(self, first, environment):
        assert "up to date" in dvc(first[0], environment, "status").stdout

    def test_says_nothing_of_errors(self, first):
        text = first[1].stdout + first[1].stderr
        noise = [line for line in text.splitlines() if "ERROR" in line or "WARN" in line]
        assert noise == []

    def test_bears_one_name_everywhere(self, first, prefect):
        name = f"baseline-trees-{lineage.read(first[0] / 'dvc.lock').short}"
        assert name in first[1].stdout
        assert [run["state_type"] for run in flow_runs(prefect, name)][-1] == "COMPLETED"
        assert (name,) in store(first[0], "SELECT name FROM runs")

    def test_registers_one_version(self, first):
        assert store(first[0], VERSIONS) == [(1, "None")]
        assert "churn-predictor/1" in first[1].stdout

    def test_publishes_what_a_person_would_open(self, first, prefect):
        name = f"baseline-trees-{lineage.read(first[0] / 'dvc.lock').short}"
        run = flow_runs(prefect, name)[-1]
        made = api(prefect, "artifacts", flow_runs={"id": {"any_": [run["id"]]}})
        kinds = {artifact["key"]: artifact["type"] for artifact in made}
        assert kinds["report"] == "markdown"
        assert kinds["validation"] == "table"
        assert kinds["train"] == "progress"
        assert kinds["roc"] == "image"
        report = next(artifact["data"] for artifact in made if artifact["key"] == "report")
        assert "| roc_auc |" in report
        assert "churn-predictor" in report


def test_second_run_does_nothing(trained: Path, prefect):
    before = (trained / "dvc.lock").read_bytes()
    done = train(trained, prefect)
    assert happened(done) == dict.fromkeys(STAGES, "cached")
    assert (trained / "dvc.lock").read_bytes() == before
    assert store(trained, "SELECT count(*) FROM runs") == [(1,)]
    name = f"baseline-trees-{lineage.read(trained / 'dvc.lock').short}"
    run = flow_runs(prefect, name)[0]
    tasks = api(prefect, "task_runs", flow_runs={"id": {"any_": [run["id"]]}})
    assert {task["name"]: task["state_name"] for task in tasks} == dict.fromkeys(STAGES, "Cached")


def test_dvc_repro_finds_nothing_to_do(trained: Path, environment):
    assert "Data and pipelines are up to date" in dvc(trained, environment, "repro").stdout


def test_lost_store_is_recorded_again(trained: Path, prefect):
    (trained / "mlflow.db").unlink()
    done = train(trained, prefect)
    assert happened(done) == {**dict.fromkeys(STAGES, "cached"), "register": "ran"}
    assert len(store(trained, VERSIONS)) == 1


def test_lost_version_is_registered_again(trained: Path, prefect):
    with closing(sqlite3.connect(trained / "mlflow.db")) as database, database:
        database.execute("DELETE FROM model_version_tags")
        database.execute("DELETE FROM registered_model_aliases")
        database.execute("DELETE FROM model_versions")
    done = train(trained, prefect)
    assert happened(done)["register"] == "ran"
    assert len(store(trained, VERSIONS)) == 1
    assert store(trained, "SELECT count(*) FROM runs") == [(1,)]


def test_lost_outputs_come_back_from_the_cache(trained: Path, prefect):
    shutil.rmtree(trained / "data/train")
    assert happened(train(trained, prefect)) == dict.fromkeys(STAGES, "cached")
    assert (trained / "data/train/model.ubj").exists()


def test_bad_data_leaves_everything_as_it_was(trained: Path, prefect):
    shutil.copytree(trained / "data/lake", trained / "data/other")
    june = trained / "data/other/month=1998-06/purchases.parquet"
    rows = pl.read_parquet(june, hive_partitioning=False)
    rows.with_columns(amount_cents=-pl.col("amount_cents")).write_parquet(june)
    kept = [trained / "dvc.lock", *sorted((trained / "data/train").iterdir())]
    before = {path: path.read_bytes() for path in kept}
    snapshot = (trained / "data/ingest/snapshot.parquet").read_bytes()

    done = train(trained, prefect, "--set", "ingest.source=data/other")
    assert done.returncode == 1
    assert happened(done)["validate"] == "failed"
    assert "featurize" not in happened(done)
    assert "DataValidationError" in done.stderr
    assert "amount_cents" in done.stderr
    assert {path: path.read_bytes() for path in kept} == before
    assert (trained / "data/ingest/snapshot.parquet").read_bytes() == snapshot
    assert store(trained, "SELECT count(*) FROM runs") == [(1,)]
    assert json.loads((trained / ".verbatim/failed/validate/report.json").read_text())["failed"]


def test_bad_data_in_a_fresh_clone_is_named(checkout: Path, prefect):
    """Nothing was ever made here, so nothing can be put back; the error must be the data's own."""
    lake = checkout / "data/other"
    sample.run(lake)
    june = lake / "month=1998-06/purchases.parquet"
    files.write_parquet(june, files.read_parquet(june).drop("quantity"))
    done = train(checkout, prefect, "--set", "ingest.source=data/other")
    assert done.returncode == 1
    assert happened(done)["ingest"] == "failed"
    assert "month=1998-06/purchases.parquet: column 'quantity' is missing" in done.stderr
    assert git(checkout, "diff", "--stat", "dvc.lock") == ""


def git(checkout: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout


def test_a_lake_on_s3_is_tracked(trained: Path, s3, environment):
    remote = fsspec.filesystem(
        "s3",
        key=s3.environment["AWS_ACCESS_KEY_ID"],
        secret=s3.environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=s3.environment["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
    )
    remote.mkdir("tracked")
    remote.put(f"{trained}/data/lake/", "tracked/purchases/", recursive=True)
    text = (trained / "params.yaml").read_text()
    source = text.replace("source: data/lake", "source: s3://tracked/purchases")
    (trained / "params.yaml").write_text(source)
    known = {**environment, **s3.environment}
    before = (trained / "data/ingest/snapshot.parquet").read_bytes()
    assert "69,659 rows of 18 files" in dvc(trained, known, "repro", "ingest").stdout
    assert (trained / "data/ingest/snapshot.parquet").read_bytes() == before
    assert "didn't change" in dvc(trained, known, "repro", "ingest").stdout


def test_wrong_parameters_stop_before_the_first_stage(trained: Path, prefect):
    before = (trained / "params.yaml").read_text()
    done = train(
        trained, prefect, "--set", "models.trees.subsample=1.2", "--set", "evaluate.min_auc=high"
    )
    assert done.returncode == 1
    assert (
        "params.yaml: models.trees.subsample: Input should be less than or equal to 1 (got 1.2)"
        in done.stderr
    )
    assert "params.yaml: evaluate.min_auc: Input should be a valid number" in done.stderr
    assert (trained / "params.yaml").read_text() == before


def test_a_server_that_does_not_answer_is_named(trained: Path, environment):
    done = train(trained, {**environment, "PREFECT_API_URL": "http://127.0.0.1:1/api"})
    assert done.returncode == 1
    assert "PREFECT_API_URL: a Prefect server must answer at http://127.0.0.1:1/api" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_parameter_is_refused(trained: Path, prefect):
    done = train(trained, prefect, "--set", "models.trees.depth=3")
    assert done.returncode == 1
    assert "depth" in done.stderr


def test_latest_version_is_written_down(trained: Path, prefect):
    source = (trained / "params.yaml").read_text()
    older = source.replace('dataset_version: "1998-07-01"', 'dataset_version: "1998-06-01"')
    assert older != source
    (trained / "params.yaml").write_text(older)
    done = train(trained, prefect, "--dataset-version", "latest")
    assert done.returncode == 0
    assert "1998-07-01" in (trained / "params.yaml").read_text()
    assert happened(done) == dict.fromkeys(STAGES, "cached")


def test_a_killed_stage_is_tried_again(trained: Path, prefect):
    """Training is killed once, as the out-of-memory killer would; the run succeeds all the same."""
    hunter = threading.Thread(target=lambda: stage_process(trained, "tasks.train").kill())
    hunter.start()
    done = train(trained, prefect, "--set", "models.trees.max_rounds=20")
    hunter.join()
    assert "killed by SIGKILL" in done.stdout + done.stderr
    assert happened(done)["train"] == "ran"


def test_a_killed_flow_takes_its_stage_along_and_the_next_one_succeeds(trained: Path, prefect):
    command = ["python", "-m", "flows", "train", "--set", "models.trees.max_depth=2"]
    flow = subprocess.Popen(
        command, cwd=trained, env=prefect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stage = stage_process(trained, "tasks.train")
    flow.kill()
    flow.wait()
    psutil.wait_procs([stage], timeout=30)
    assert not list(trained.glob("data/train/*"))  # it did not finish its work first
    done = train(trained, prefect)
    assert done.returncode == 0, done.stdout + done.stderr
    assert happened(done)["train"] == "ran"
    assert len(store(trained, VERSIONS)) == 2


def stage_process(checkout: Path, module: str) -> psutil.Process:
    """Wait for the process of a stage in this checkout."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            if module in (process.info["cmdline"] or []) and process.info["cwd"] == str(checkout):
                return process
        time.sleep(0.02)
    raise AssertionError(f"no {module} in {checkout}")


def test_a_model_below_the_gate_is_recorded_but_not_registered(trained: Path, prefect):
    before = store(trained, VERSIONS)
    done = train(trained, prefect, "--set", "evaluate.min_auc=0.99")
    assert done.returncode == 1
    assert happened(done)["register"] == "failed"
    assert "GateError: gate: min_auc: ROC AUC on test 0.8" in done.stderr
    assert store(trained, "SELECT count(*) FROM runs") == [(2,)]
    assert store(trained, VERSIONS) == before


@pytest.mark.parametrize(
    ("error", "tries", "again"),
    [
        (CommandError("ingest", os.EX_TEMPFAIL, []), 2, True),
        (CommandError("ingest", os.EX_TEMPFAIL, []), 3, False),
        (CommandError("ingest", os.EX_DATAERR, []), 1, False),
        (CommandError("ingest", 1, []), 1, False),
        (CommandError("ingest", -9, []), 1, True),
        (CommandError("ingest", 137, []), 1, True),
        (CommandError("train", 143, ["Interrupted: train: stopped by SIGTERM"]), 1, True),
        (CommandError("ingest", -9, []), 2, False),
        (RemoteError("cut off", may_pass=True), 2, True),
        (RemoteError("cut off", may_pass=True), 3, False),
        (RemoteError("no such bucket"), 1, False),
        (ValueError("a mistake of ours"), 1, False),
    ],
)
def test_only_what_can_heal_is_tried_again(error: Exception, tries: int, again: bool):  # noqa: FBT001
    heals = walk._heals(Step("ingest", retries=2, guards=True))
    assert heals(None, SimpleNamespace(run_count=tries), Failed(data=error)) is again


def test_help_explains_every_verb(environment):
    root = Path(__file__).parent.parent
    for arguments, word in ([], "train"), (["train"], "--dataset-version"):
        done = subprocess.run(
            [sys.executable, "-m", "flows", *arguments, "--help"],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert word in done.stdout
