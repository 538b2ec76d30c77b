"""Runs of MLflow that dead processes left open."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from left_behind import MLFLOW_WARNS

from tasks import abandoned, tracking
from tasks.sweep_run import SWEEP_KEY
from tasks.tracking import RECORDER, SEEN

pytestmark = MLFLOW_WARNS
HERE = socket.gethostname()


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tracking.connect_to_write()


def test_store_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert abandoned.close() == []
    assert not (tmp_path / "mlflow.db").exists()


def test_only_what_the_dead_left_open_is_closed(mlflow):
    client, gone, now = mlflow.MlflowClient(), dead_process(), time.time_ns() // 1_000_000
    place = client.create_experiment("e")

    def run(name: str, recorder: str | None, **tags: str) -> str:
        signed = {} if recorder is None else {RECORDER: recorder, SEEN: str(now)}
        return client.create_run(place, run_name=name, tags=signed | tags).info.run_id

    runs = {
        "killed": run("killed", f"{HERE}:{gone}:live"),
        "sweep": run("sweep", f"{HERE}:{gone}", **{SWEEP_KEY: "k"}),
        "alive": run("alive", f"{HERE}:{os.getpid()}"),
        "foreign": run("foreign", None),
        "elsewhere": run("elsewhere", "other:1"),
        "known to be dead": run("known to be dead", "other:2"),
    }
    closed = abandoned.close({"known to be dead", "alive"})
    assert {(each.name, each.status) for each in closed} == {
        ("killed", "FAILED"),
        ("sweep", "KILLED"),
        ("known to be dead", "FAILED"),
    }
    assert {name for name in runs if client.get_run(runs[name]).info.status == "RUNNING"} == {
        "alive",
        "foreign",
        "elsewhere",
    }
    assert abandoned.close({"known to be dead", "alive"}) == []
