"""Drive sweeps as processes of their own, on a small table, and read what they left everywhere."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState
from own_table import draft, own_table

from flows.sweep.study import is_retried
from tasks import files

TRIALS = 8
PATIENCE_SECONDS = 120
SLOW = ("models.trees.max_rounds=400", "models.trees.early_stopping_rounds=400")
"""Settings with which a trial takes a second or two, so that one can be hit."""

SPACE = {
    "trees": {
        "learning_rate": {"low": 0.01, "high": 0.3, "log": True},
        "max_depth": {"low": 2, "high": 6},
        "reg_lambda": [1, 10],
    },
    "network": {"width": [8, 16], "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
}


@pytest.fixture(scope="session")
def prepared(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the table, with a suite and a small space; nothing is featurized."""
    checkout = own_table(tmp_path_factory.mktemp("prepared") / "checkout")
    draft(checkout, environment)
    file = checkout / "params.yaml"
    values = files.read_yaml(file)
    values["sweep"] |= {"n_trials": TRIALS, "resamples": 50, "space": SPACE}
    values["models"]["trees"]["max_rounds"] = 60
    values["models"]["network"] |= {"width": 16, "max_epochs": 3}
    file.write_text(yaml.safe_dump(values))
    return checkout


@pytest.fixture
def searching(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as a test likes."""
    return Path(shutil.copytree(prepared, tmp_path / "checkout", symlinks=True))


def change(checkout: Path, **settings: Any) -> None:
    """Change the section `sweep` of the parameters."""
    file = checkout / "params.yaml"
    values = files.read_yaml(file)
    values["sweep"] |= settings
    file.write_text(yaml.safe_dump(values))


def command(*settings: str, flags: tuple[str, ...] = ()) -> list[str]:
    given = [word for setting in settings for word in ("--set", setting)]
    return ["python", "-m", "flows", "sweep", *given, *flags]


def sweep(
    checkout: Path, environment: dict[str, str], *settings: str, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end."""
    done = subprocess.run(
        command(*settings, flags=flags),
        cwd=checkout,
        env={**environment, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@contextmanager
def begun(
    checkout: Path, environment: dict[str, str], *settings: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep in a process group of its own, as a terminal does."""
    process = subprocess.Popen(
        command(*settings),
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trials(checkout: Path, *, storage: str | None = None) -> list[FrozenTrial]:
    """All trials of the one study of a checkout."""
    opened = optuna.storages.RDBStorage(storage or f"sqlite:///{checkout / '.verbatim/sweeps.db'}")
    (study,) = opened.get_all_studies()
    found = opened.get_all_trials(study._study_id)
    opened.engine.dispose()
    return found


def finished(checkout: Path) -> int:
    """How many trials have finished, asked without a word to the storage that is being made."""
    file = checkout / ".verbatim/sweeps.db"
    done = "SELECT count(*) FROM trials WHERE state NOT IN ('RUNNING', 'WAITING')"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as storage:
            return int(storage.execute(done).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it is not there yet


def recorded_runs(checkout: Path) -> list[dict[str, Any]]:
    """What MLflow has of each run that is not deleted."""
    with closing(sqlite3.connect(checkout / "mlflow.db")) as store:
        rows = store.execute(
            "SELECT run_uuid, name, status, start_time, end_time FROM runs "
            "WHERE lifecycle_stage = 'active'"
        ).fetchall()
        found = []
        for run, name, status, start, end in rows:
            one: dict[str, Any] = {"id": run, "name": name, "status": status}
            one["milliseconds"] = (end or 0) - start
            for table in ("tags", "params", "latest_metrics"):
                query = f"SELECT key, value FROM {table} WHERE run_uuid = ?"  # noqa: S608
                one[table] = dict(store.execute(query, [run]).fetchall())
            found.append(one)
    return found


def runs(checkout: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The run of the sweep, and those of its trials by name."""
    found = recorded_runs(checkout)
    (parent,) = (run for run in found if run["name"].startswith("hyperopt-"))
    children = [run for run in found if run["name"].startswith("trial-")]
    assert {run["tags"]["mlflow.parentRunId"] for run in children} <= {parent["id"]}
    by_name = {run["name"]: run for run in children}
    assert len(by_name) == len(children)
    return parent, by_name


def others(checkout: Path) -> list[dict[str, Any]]:
    """The runs of no sweep."""
    return [
        run
        for run in recorded_runs(checkout)
        if not run["name"].startswith(("hyperopt-", "trial-"))
    ]


def agree(
    checkout: Path, count: int = TRIALS, *, storage: str | None = None, drivers: int = 1
) -> Counter[str]:
    """Optuna and MLflow tell the same of each trial, and none is left open; count the states."""
    parent, children = runs(checkout)
    assert parent["status"] == "FINISHED"
    told = trials(checkout, storage=storage)
    assert all(trial.state.is_finished() for trial in told)
    assert sorted(children) == [f"trial-{trial.number:04}" for trial in told]
    assert count <= sum(not is_retried(trial) for trial in told) < count + drivers
    words = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    for trial in told:
        run = children[f"trial-{trial.number:04}"]
        assert run["tags"]["state"] == words[trial.state]
        assert run["status"] == ("FAILED" if trial.state == TrialState.FAIL else "FINISHED")
        shown = {name.rpartition(".")[2]: value for name, value in run["params"].items()}
        assert {name: str(value) for name, value in trial.params.items()} == shown
        if trial.state == TrialState.COMPLETE:
            assert run["latest_metrics"]["val/roc_auc"] == trial.value
    return Counter(run["tags"]["state"] for run in children.values())


def task_runs(environment: dict[str, str], name: str) -> dict[str, str]:
    """Name and state of each task run of the newest flow run of this name."""

    def ask(path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{environment['PREFECT_API_URL']}/{path}/filter",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    wanted = {"name": {"any_": [name]}}
    flow = ask("flow_runs", flow_runs=wanted, sort="START_TIME_DESC")[0]
    found = ask("task_runs", flow_runs={"id": {"any_": [flow["id"]]}})
    return {run["name"]: run["state_name"] for run in found}


def named(checkout: Path) -> str:
    return str(runs(checkout)[0]["name"])
