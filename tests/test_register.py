import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import free_ports
from left_behind import ASKED, FOLDERS, MLFLOW_WARNS, REGISTER, leave, settle, start
from pydantic import ValidationError
from receiving import listening

from tasks import files, lineage, register, seeds, tracking
from tasks.errors import GateError, StageError, TemporaryError
from tasks.register import Register

pytestmark = MLFLOW_WARNS

PATIENCE_SECONDS = 120


def rows(folder: Path, query: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute(statement)


def statuses(folder: Path) -> list[str]:
    return sorted(status for (status,) in rows(folder, "SELECT status FROM runs"))


def versions(folder: Path) -> list[int]:
    known = "SELECT version FROM model_versions WHERE current_stage <> 'Deleted_Internal'"
    return sorted(version for (version,) in rows(folder, known))


def complete(key: str) -> bool:
    record = tracking.find(key, **ASKED)
    return record is not None and record.complete


@pytest.fixture
def run() -> Callable[[], None]:
    """Run the stage in this process."""
    paths = [Path("data", name) for name in FOLDERS]
    return lambda: register.run(*paths, register=Register(**REGISTER))


def test_records_every_group(recorded: Path) -> None:
    params = dict(rows(recorded, "SELECT key, value FROM params"))
    assert params["seed"] == "1"
    assert params["seeds.train"] == str(seeds.derive(1, "train"))
    assert params["models.trees.max_depth"] == "2"
    assert params["learner.trees"] == "5"
    assert params["data.dataset_version"] == "1998-07-01"
    assert params["data.rows.test"] == "50"
    assert json.loads(params["data.split"]) == {"recipe": "table", "split": "random"}
    assert {"data.snapshot_md5", "data.preprocessing_sha256", "data.share.train"} < params.keys()

    metrics = dict(rows(recorded, "SELECT key, max(value) FROM metrics GROUP BY key"))
    assert metrics["test/roc_auc"] == 0.75
    assert metrics["test_interval/roc_auc/high"] == 0.8
    assert metrics["baseline/base_rate/test/roc_auc"] == 0.5
    assert metrics["cost/train/wall_seconds"] == 1.5
    assert "cost/register/wall_seconds" not in metrics  # an older call's
    assert "test/f1" not in metrics  # undefined
    for size in ("one_row", "batch"):
        p50, p95, p99 = (metrics[f"latency_ms/{size}_p{each}"] for each in (50, 95, 99))
        assert 0 < p50 <= p95 <= p99
    curve = rows(recorded, "SELECT step FROM metrics WHERE key = 'history/val_log_loss'")
    assert sorted(step for (step,) in curve) == [1, 2, 3, 4, 5]

    tags = dict(rows(recorded, "SELECT key, value FROM tags"))
    assert tags["lineage_key"] == lineage.read(recorded / "dvc.lock").key
    assert tags["mlflow.runName"] == f"baseline-trees-{tags['lineage_key'][:8]}"
    assert tags["gate"] == "passed"
    assert tags["intent"] == "baseline"
    assert {"git_commit", "git_dirty", "author", "output.data/train"} < tags.keys()
    assert {"environment.cpu", "environment.gpu", "environment.lock_sha256"} < tags.keys()
    assert tags["library.xgboost"] == "3.2.0"
    assert rows(recorded, "SELECT digest FROM datasets") == [(params["data.snapshot_md5"],)]

    ((place,),) = rows(recorded, "SELECT artifact_uri FROM runs")
    for artifact in (
        "contents.txt",
        "lineage.mmd",
        "model_card.md",
        "openlineage.ndjson",
        "params.yaml",
        "dvc.lock",
        "environment.json",
        "train/model.ubj",
        "evaluate/gate.json",
        "validate/report.json",
        "featurize/encoder.json",
    ):
        assert Path(place, artifact).exists(), artifact


def test_version_tells_where_it_comes_from(recorded: Path) -> None:
    tags = dict(rows(recorded, "SELECT key, value FROM model_version_tags"))
    key = lineage.read(recorded / "dvc.lock").key
    assert tags["lineage_key"] == key
    assert tags["dataset_version"] == "1998-07-01"
    assert {"git_commit", "output.data/train"} < tags.keys()
    assert rows(recorded, "SELECT alias, version FROM registered_model_aliases") == [("staging", 1)]
    ((description,),) = rows(recorded, "SELECT description FROM model_versions")
    assert key in description
    assert "The hashes above must come out again." in description
    assert "python -m flows prove churn-predictor/1" in description
    assert (tags["device"], tags["deterministic"]) == ("cpu", "true")
    assert files.read_json(recorded / "data" / "register" / "version.json") == {
        "model_name": "churn-predictor",
        "alias": "staging",
        "lineage_key": key,
        "gate_passed": True,
        "outputs": lineage.read(recorded / "dvc.lock").outputs,
    }


def test_same_content_is_recorded_once(here: Path, run: Callable[[], None]) -> None:
    written = (here / "data" / "register" / "version.json").read_bytes()
    run()
    assert statuses(here) == ["FINISHED"]
    assert versions(here) == [1]
    assert (here / "data" / "register" / "version.json").read_bytes() == written


def test_other_content_is_another_run_and_version(here: Path, run: Callable[[], None]) -> None:
    settle(here, seed=2)
    run()
    assert statuses(here) == ["FINISHED", "FINISHED"]
    assert versions(here) == [1, 2]
    assert rows(here, "SELECT version FROM registered_model_aliases") == [(2,)]
    places = {Path(place).parts for (place,) in rows(here, "SELECT artifact_uri FROM runs")}
    assert all(parts[: len(here.parts)] == here.parts for parts in places)


def test_lost_version_is_made_again_from_the_run(here: Path, run: Callable[[], None]) -> None:
    change(here, "UPDATE model_versions SET current_stage = 'Deleted_Internal'")
    key = lineage.read().key
    assert not complete(key)
    run()
    assert statuses(here) == ["FINISHED"]
    assert versions(here) == [2]
    assert complete(key)


def test_alias_points_again_to_what_was_registered_before(
    here: Path, run: Callable[[], None]
) -> None:
    first = lineage.read().key
    settle(here, seed=2)
    run()
    assert not complete(first)
    settle(here, seed=1)
    run()
    assert complete(first)
    assert rows(here, "SELECT alias, version FROM registered_model_aliases") == [("staging", 1)]
    assert statuses(here) == ["FINISHED", "FINISHED"]
    assert versions(here) == [1, 2]


def test_lost_alias_is_made_again(here: Path, run: Callable[[], None]) -> None:
    change(here, "DELETE FROM registered_model_aliases")
    run()
    assert complete(lineage.read().key)
    assert (statuses(here), versions(here)) == (["FINISHED"], [1])


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_half_recorded_run_is_replaced(here: Path, run: Callable[[], None], status: str) -> None:
    change(here, f"UPDATE runs SET status = '{status}'")  # noqa: S608
    run()
    assert statuses(here) == ["FAILED", "FINISHED"]
    assert complete(lineage.read().key)


def test_run_of_a_dead_process_is_closed(here: Path, run: Callable[[], None]) -> None:
    change(here, "UPDATE runs SET status = 'RUNNING'")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    recorder = f"{os.uname().nodename}:{gone.pid}"
    change(here, f"UPDATE tags SET value = '{recorder}' WHERE key = 'recorder'")  # noqa: S608
    settle(here, seed=3)
    run()
    assert statuses(here) == ["FAILED", "FINISHED"]


def test_failed_gate_is_recorded_but_makes_no_version(here: Path, run: Callable[[], None]) -> None:
    (here / "data" / "register" / "version.json").unlink()
    leave(here, passed=False)
    settle(here, seed=4)
    for _ in range(2):  # DVC has no result to keep, so it will ask again
        with pytest.raises(GateError, match=r"min_auc: ROC AUC 0\.7500.*bound 0\.8, got 0\.75"):
            run()
    assert statuses(here) == ["FINISHED", "FINISHED"]
    assert versions(here) == [1]
    assert not (here / "data" / "register" / "version.json").exists()
    gates = rows(here, "SELECT value FROM tags WHERE key = 'gate' ORDER BY value")
    assert gates == [("failed",), ("passed",)]


def test_model_that_scores_otherwise_fails_its_run(here: Path, run: Callable[[], None]) -> None:
    settle(here, seed=5)
    path = here / "data" / "evaluate" / "predictions.parquet"
    files.write_parquet(path, files.read_parquet(path).with_columns(pl.col("score") * 0.9))
    with pytest.raises(StageError, match="must score as `evaluate` did") as raised:
        run()
    assert not isinstance(raised.value, TemporaryError)
    assert statuses(here) == ["FAILED", "FINISHED"]
    assert versions(here) == [1]


def test_server_out_of_reach_is_worth_another_try(here: Path) -> None:
    (port,) = free_ports(1)
    process = start(
        here,
        MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == os.EX_TEMPFAIL, errors
    assert errors.startswith(f"TemporaryError: http://127.0.0.1:{port}: must answer")


def test_terminated_registration_ends_as_failed(here: Path) -> None:
    settle(here, seed=6)
    params = (here / "params.yaml").read_text().replace("latency_calls: 3", "latency_calls: 999999")
    (here / "params.yaml").write_text(params)
    process = start(here)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "RUNNING" not in statuses(here) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert process.returncode != 0
    assert statuses(here) == ["FAILED", "FINISHED"]


def test_a_collector_of_lineage_that_refuses_does_not_break_the_record(here: Path) -> None:
    settle(here, seed=7)
    with listening() as collector:
        collector.status = 400
        process = start(here, OPENLINEAGE_URL=collector.address)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert errors.startswith("the OpenLineage collector was not told: HTTPError: 400")
    assert [each["job"]["name"] for each in collector.received] == ["training"]
    assert statuses(here) == ["FINISHED", "FINISHED"]


@pytest.mark.parametrize("stage", ["latest", "v1", "to staging", ""])
def test_alias_that_mlflow_refuses_is_refused_first(stage: str) -> None:
    with pytest.raises(ValidationError, match="stage"):
        Register(**{**REGISTER, "stage": stage})


def test_unknown_intent_is_refused() -> None:
    with pytest.raises(ValidationError, match="intent"):
        Register(**{**REGISTER, "intent": "fun"})
