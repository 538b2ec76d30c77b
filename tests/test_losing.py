"""Trials that are lost, in any study of a storage."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from flows.sweep import losing
from flows.sweep.study import is_retried


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sweeps.db'}"


def signed(process: int) -> dict[str, object]:
    return {"process": f"{socket.gethostname()}:{process}", "seen": time.time_ns() // 1_000_000}


def test_storage_that_is_not_there_is_not_made(url: str, tmp_path: Path):
    assert losing.lose_left(url) == []
    assert list(tmp_path.iterdir()) == []


def test_only_trials_of_dead_drivers_are_lost_and_are_tried_again(url: str):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    study = optuna.create_study(study_name="s", storage=losing.connect(url))
    drivers = {"dead": gone.pid, "alive": os.getpid(), "unsigned": None}
    trials = {name: study.ask() for name in drivers}
    for name, process in drivers.items():
        if process is not None:
            trials[name].set_user_attr(losing.DRIVER, signed(process))
    assert losing.lose_left(url) == [("s", trials[name].number) for name in ("dead", "unsigned")]
    assert losing.lose_left(url) == []
    states = {name: study.trials[trial.number].state for name, trial in trials.items()}
    assert states == {
        "dead": TrialState.FAIL,
        "alive": TrialState.RUNNING,
        "unsigned": TrialState.FAIL,
    }
    lost = study.trials[trials["dead"].number]
    assert is_retried(lost)
    assert lost.user_attrs["kills"] == 1
