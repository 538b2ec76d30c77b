"""The sweep, as a user runs it, against a real Prefect server, and killed in every way."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import free_ports
from optuna.trial import TrialState
from sweeps import (
    PATIENCE_SECONDS,
    SLOW,
    SPACE,
    TRIALS,
    agree,
    begun,
    change,
    command,
    finished,
    named,
    others,
    runs,
    sweep,
    task_runs,
    trials,
    wait_until,
)

from flows.sweep.study import is_retried
from tasks import files

pytestmark = pytest.mark.xdist_group("sweeps")


def test_it_searches_records_and_proposes(searching: Path, prefect: dict[str, str]) -> None:
    before = (searching / "params.yaml").read_bytes()
    done = sweep(searching, prefect)
    assert (searching / "params.yaml").read_bytes() == before
    states = agree(searching)
    assert states["complete"] >= 3
    assert states["failed"] == 0

    parent, children = runs(searching)
    assert re.fullmatch(r"hyperopt-trees-[0-9a-f]{8}", parent["name"])
    assert parent["params"]["sweep.sampler"] == "tpe"
    assert parent["params"]["sweep.space.trees.max_depth.high"] == "6"
    assert parent["params"]["models.trees.max_rounds"] == "60", "what is not searched"
    best = max(trial.value for trial in trials(searching) if trial.state == TrialState.COMPLETE)
    assert parent["latest_metrics"]["winner/roc_auc"] == best
    assert parent["latest_metrics"]["best/roc_auc"] == best
    artifacts = searching / "mlartifacts" / parent["id"] / "artifacts"
    pictures = {"history.png", "parallel_coordinates.png", "importance.png"}
    assert {each.name for each in artifacts.iterdir()} == pictures | {"report.md", "params.diff"}
    child = children["trial-0000"]
    assert child["tags"]["current"] == "True"
    assert child["latest_metrics"]["duration_seconds"] == child["milliseconds"] / 1000
    assert child["latest_metrics"]["history/val_log_loss"] > 0

    shown = task_runs(prefect, parent["name"])
    told = {name: state for name, state in shown.items() if name.startswith("trial-")}
    assert sorted(told) == sorted(children)
    pruned = {name for name, run in children.items() if run["tags"]["state"] == "pruned"}
    assert {name for name, state in told.items() if state == "Pruned"} == pruned

    for number in re.findall(r"(?<= )\d{4}(?= )", done.stdout.split("trial ")[1].splitlines()[0]):
        assert trials(searching)[int(number)].state == TrialState.COMPLETE
    assert "verdict " in done.stdout
    assert "python -m flows sweep --apply" in done.stdout or "as good" in done.stdout

    again = sweep(searching, prefect)
    assert f"{TRIALS} of {TRIALS} trials were there before" in again.stderr + again.stdout
    assert len(trials(searching)) == TRIALS
    agree(searching)


def test_a_trial_is_the_very_training_of_the_stage(
    searching: Path, prefect: dict[str, str]
) -> None:
    sweep(searching, prefect, "sweep.n_trials=1")
    subprocess.run(["dvc", "repro", "train"], cwd=searching, env=prefect, check=True)
    history = json.loads((searching / "data/train/history.json").read_text())
    (trial,) = trials(searching)
    kept = {point["step"]: point for point in trial.user_attrs["outcome"]["curve"]}
    assert len(kept) > 10
    for step in history:
        if point := kept.get(step["step"]):
            for name, value in step.items():
                assert round(point[name], 6) == value


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_with_all_it_started_it_goes_on(
    workers: int, searching: Path, prefect: dict[str, str]
) -> None:
    settings = (*SLOW, "sweep.n_trials=20", f"sweep.workers={workers}")
    for _ in range(2):
        known = finished(searching)
        with begun(searching, prefect, *settings) as process:
            wait_until(lambda before=known: finished(searching) > before, process)
            time.sleep(random.uniform(0, 1.5))
            os.killpg(process.pid, signal.SIGKILL)
    kept = {trial.number: trial for trial in trials(searching) if trial.state.is_finished()}
    sweep(searching, prefect, *settings)
    after = trials(searching)
    for number, trial in kept.items():
        assert after[number].params == trial.params
        assert after[number].value == trial.value
    lost = [trial for trial in after if trial.user_attrs.get("lost")]
    assert all("killed" in trial.user_attrs["reason"] for trial in lost)
    again = {trial.user_attrs.get("retry_of"): trial.params for trial in after}
    drawn = [trial for trial in lost if trial.params.keys() == SPACE["trees"].keys()]
    assert all(again[trial.number] == trial.params for trial in drawn)
    agree(searching, 20)


def test_interrupted_by_ctrl_c_it_leaves_nothing_open(
    searching: Path, prefect: dict[str, str]
) -> None:
    settings = (*SLOW, "sweep.n_trials=12")
    with begun(searching, prefect, *settings) as process:
        wait_until(lambda: finished(searching) >= 1, process)
        group = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
    psutil.wait_procs(group, timeout=PATIENCE_SECONDS)
    parent, children = runs(searching)
    assert parent["status"] == "KILLED"
    assert {run["status"] for run in children.values()} <= {"FINISHED", "FAILED"}
    assert not [trial for trial in trials(searching) if trial.state == TrialState.RUNNING]
    sweep(searching, prefect, *settings)
    agree(searching, 12)


def test_a_trial_whose_worker_dies_is_tried_once_more(
    searching: Path, prefect: dict[str, str]
) -> None:
    with begun(searching, prefect, *SLOW, "sweep.workers=2") as process:
        wait_until(lambda: finished(searching) >= 1, process)
        _workers(process)[0].kill()
        wait_until(lambda: finished(searching) >= 4, process)
        _workers(process)[-1].kill()
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    states = agree(searching)
    dead = [trial for trial in trials(searching) if trial.user_attrs.get("lost")]
    assert states["failed"] == len(dead) >= 1
    assert all("SIGKILL" in trial.user_attrs["reason"] for trial in dead)
    assert output.count("its parameters are tried again") == sum(map(is_retried, dead)) >= 1
    shown = task_runs(prefect, named(searching))
    assert {shown[f"trial-{trial.number:04}"] for trial in dead} == {"Failed"}


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What computes the trials; the process that writes to MLflow is nicer."""
    children = psutil.Process(process.pid).children()
    return [each for each in children if "spawn_main" in str(each.cmdline()) and not each.nice()]


@pytest.mark.parametrize("sampler", ["random", "grid", "cmaes"])
def test_every_sampler_reaches_the_end(
    sampler: str, searching: Path, prefect: dict[str, str]
) -> None:
    spaces = {
        "random": {},
        "grid": {"max_depth": [2, 3], "reg_lambda": [1, 10]},
        "cmaes": {
            "learning_rate": {"low": 0.01, "high": 0.3},
            "subsample": {"low": 0.5, "high": 1},
        },
    }
    change(searching, sampler=sampler, space={"trees": spaces[sampler] or SPACE["trees"]})
    sweep(searching, prefect)
    agree(searching, 4 if sampler == "grid" else TRIALS)
    if sampler == "grid":
        tried = {tuple(sorted(trial.params.items())) for trial in trials(searching)}
        assert len(tried) == len(trials(searching)) == 4


def test_the_network_is_searched_too(searching: Path, prefect: dict[str, str]) -> None:
    sweep(searching, prefect, "model=network", "sweep.pruner=hyperband", "sweep.n_trials=4")
    agree(searching, 4)
    parent, _ = runs(searching)
    assert re.fullmatch(r"hyperopt-network-[0-9a-f]{8}", parent["name"])


def test_mistakes_are_told_before_anything_starts(
    searching: Path, environment: dict[str, str]
) -> None:
    wrong = {"trees": {"depth": [1, 2], "max_depth": {"low": 9, "high": 2}, "subsample": [0.5, 2]}}
    change(searching, space=wrong)
    done = subprocess.run(
        command("sweep.n_trials=0"),
        cwd=searching,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    for key in ("n_trials", *(f"space.trees.{name}" for name in wrong["trees"])):
        assert f"params.yaml: sweep.{key}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (searching / ".verbatim/sweeps.db").exists()


def test_the_winner_is_applied_and_trained_as_a_run_of_its_own(
    searching: Path, prefect: dict[str, str]
) -> None:
    change(searching, space={"trees": {"learning_rate": [0.0001, 0.2], "max_depth": [1, 4]}})
    weak = ("models.trees.learning_rate=0.0001", "models.trees.max_depth=1")
    done = sweep(searching, prefect, *weak, flags=("--train",))
    best = max(
        (trial for trial in trials(searching) if trial.state == TrialState.COMPLETE),
        key=lambda trial: trial.value,
    )
    assert best.params["learning_rate"] == 0.2
    values = files.read_yaml(searching / "params.yaml")
    assert values["models"]["trees"].items() >= best.params.items()
    assert values["register"]["intent"] == "hyperparameter-search"
    parent, _ = runs(searching)
    (trained,) = others(searching)
    assert re.fullmatch(r"hyperparameter-search-trees-[0-9a-f]{8}", trained["name"])
    assert trained["status"] == "FINISHED"
    assert trained["tags"]["sweep"] == parent["name"]
    assert trained["tags"]["sweep_run_id"] == parent["id"]
    assert trained["params"]["models.trees.learning_rate"] == "0.2"
    assert trained["name"] in done.stdout
    again = sweep(searching, prefect, flags=("--apply",))
    assert "the current parameters are the best that was found" in again.stdout


def test_without_mlflow_it_goes_on_and_the_next_command_adds_what_is_missing(
    searching: Path, prefect: dict[str, str]
) -> None:
    (port,) = free_ports(1)
    nowhere = {**prefect, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    done = sweep(searching, nowhere, "sweep.n_trials=4")
    assert done.stderr.count("the sweep goes on, but not its record in MLflow") == 1
    assert "MLflow run     none" in done.stdout
    sweep(searching, prefect, "sweep.n_trials=5")
    agree(searching, 5)


def test_a_mirror_that_is_killed_is_replaced(searching: Path, prefect: dict[str, str]) -> None:
    with begun(searching, prefect, *SLOW) as process:
        wait_until(lambda: finished(searching) >= 2, process)
        children = psutil.Process(process.pid).children()
        (mirror,) = (child for child in children if child.nice())
        mirror.kill()
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    agree(searching)


def test_the_best_so_far_only_rises_over_all_commands(
    searching: Path, prefect: dict[str, str]
) -> None:
    for count in (2, 4, 7):
        sweep(searching, prefect, f"sweep.n_trials={count}", "sweep.sampler=random")
    with closing(sqlite3.connect(searching / "mlflow.db")) as store:
        best = store.execute(
            "SELECT value FROM metrics WHERE key = 'best/roc_auc' ORDER BY step"
        ).fetchall()
    assert best == sorted(set(best))
    parent, _ = runs(searching)
    assert best[-1] == (parent["latest_metrics"]["winner/roc_auc"],)
    assert trials(searching)[int(parent["tags"]["winner"][-4:])].value == best[-1][0]


def test_a_storage_that_fails_under_way_is_told_in_a_line(
    searching: Path, prefect: dict[str, str]
) -> None:
    sweep(searching, prefect, "sweep.n_trials=1")
    with closing(sqlite3.connect(searching / ".verbatim/sweeps.db")) as storage, storage:
        storage.execute(
            "CREATE TRIGGER full BEFORE INSERT ON trials "
            "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    with begun(searching, prefect, "sweep.n_trials=2") as process:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "must be a database that answers" in output
    assert "database or disk is full" in output
    assert "Traceback" not in output
    assert runs(searching)[0]["status"] == "KILLED"
