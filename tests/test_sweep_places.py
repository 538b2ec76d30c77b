"""Sweeps on a Ray cluster, and on a PostgreSQL that several drivers share."""

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from conftest import free_ports, wait_for_port
from optuna.trial import TrialState
from sweeps import (
    PATIENCE_SECONDS,
    SLOW,
    agree,
    begun,
    command,
    finished,
    named,
    runs,
    sweep,
    task_runs,
    trials,
    wait_until,
)

from flows.sweep.study import is_retried

pytestmark = pytest.mark.xdist_group("sweeps")
RAY = ("sweep.engine=ray", "sweep.workers=2")


def on_ray(name: str) -> list[psutil.Process]:
    """The workers of Ray that do something of this name."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].startswith(f"ray::{name}")
    ]


def test_on_ray_it_comes_to_the_same(searching: Path, prefect: dict[str, str]) -> None:
    sweep(searching, prefect, *RAY)
    agree(searching)
    parent, children = runs(searching)
    assert parent["tags"]["sweep.engine"] == "ray"
    shown = task_runs(prefect, named(searching))
    assert set(children) <= set(shown)
    assert {shown[name] for name in children} <= {"Completed", "Pruned"}
    first = trials(searching)[0]
    (searching / ".verbatim/sweeps.db").unlink()
    sweep(searching, prefect, "sweep.n_trials=1")
    (alone,) = trials(searching)
    assert (alone.params, alone.value) == (first.params, first.value)


def test_a_trial_whose_ray_worker_dies_is_tried_once_more(
    searching: Path,
    prefect: dict[str, str],
) -> None:
    with begun(searching, prefect, *RAY, *SLOW) as process:
        wait_until(lambda: finished(searching) >= 1 and on_ray("trial-"), process)
        victim = on_ray("trial-")[0]
        name = victim.cmdline()[0].removeprefix("ray::")
        victim.kill()
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    assert agree(searching)["failed"] == 1
    (dead,) = (trial for trial in trials(searching) if trial.user_attrs.get("lost"))
    assert f"trial-{dead.number:04}" == name
    assert is_retried(dead)
    assert "its worker on Ray died" in dead.user_attrs["reason"]
    assert task_runs(prefect, named(searching))[name] == "Crashed"


@pytest.mark.parametrize(
    ("setting", "word"), [("sweep.gpus=1", "gpus=1"), ("sweep.cpus=99", "cpus=99")]
)
def test_what_this_machine_cannot_give_is_said_at_once(
    setting: str,
    word: str,
    searching: Path,
    prefect: dict[str, str],
) -> None:
    with begun(searching, prefect, *RAY, setting) as process:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert word in output
    assert "ask for less" in output
    assert not [trial for trial in trials(searching) if trial.state == TrialState.RUNNING]
    assert runs(searching)[0]["status"] == "KILLED"
    assert not on_ray("trial-")


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A Ray cluster of two machines, one of them spot: the environment that finds it."""
    (port,) = free_ports(1)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    settings = {**environment, **token, "RAY_USAGE_STATS_ENABLED": "0"}
    common = ["--num-cpus=1", "--disable-usage-stats", "--block"]
    host = ray.util.get_node_ip_address()
    address = f"{host}:{port}"
    commands = [
        ["ray", "start", "--head", f"--port={port}", "--include-dashboard=false", *common],
        ["ray", "start", f"--address={address}", "--labels=ray.io/market-type=spot", *common],
    ]
    with contextlib.ExitStack() as running:
        for command in commands:
            process = running.enter_context(
                subprocess.Popen(
                    command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            running.callback(process.terminate)
            wait_for_port(port, process, host)
        yield {**token, "RAY_ADDRESS": address}


def test_a_cluster_that_runs_already_gets_the_code_and_spot_machines_go_first(
    searching: Path, prefect: dict[str, str], cluster: dict[str, str]
) -> None:
    environment = {**prefect, **cluster}
    sweep(searching, environment, *RAY, "sweep.n_trials=4")
    agree(searching, 4)
    where = (
        "import ray; from flows.sweep.cluster import SPOT_FIRST; ray.init(); "
        "here = ray.remote(**SPOT_FIRST)(lambda: ray.get_runtime_context().get_node_labels()); "
        "print(ray.get(here.remote()))"
    )
    done = subprocess.run(
        ["python", "-c", where],
        cwd=searching,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "'ray.io/market-type': 'spot'" in done.stdout, done.stderr


def test_a_cluster_that_does_not_answer_is_named(searching: Path, prefect: dict[str, str]) -> None:
    (port,) = free_ports(1)
    environment = {**prefect, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    with begun(searching, environment, *RAY) as process:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert f"RAY_ADDRESS: a Ray cluster must answer at 127.0.0.1:{port}" in output


def test_two_drivers_share_a_postgresql(
    searching: Path,
    prefect: dict[str, str],
    postgres: str,
) -> None:
    environment = {**prefect, "OPTUNA_STORAGE": postgres}
    sweep(searching, environment, "sweep.n_trials=1")
    drivers = [
        subprocess.Popen(
            command("sweep.n_trials=12"),
            cwd=searching,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [driver.communicate(timeout=PATIENCE_SECONDS)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    agree(searching, 12, storage=postgres, drivers=2)
    owners = Counter(
        trial.user_attrs["driver"]["process"] for trial in trials(searching, storage=postgres)
    )
    assert len(owners) == 3, "one before, and both of them had their share"
