"""Flows that die, deployed on a real server, and the workers that carry them out."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from checkouts import ROOT
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

PATIENCE_SECONDS = 60
POOL = "cpu-pool"

TINY = '''
import os, signal, subprocess, time
from pathlib import Path
from prefect import flow, task


@task
def wait(folder: Path) -> None:
    """Wait for the word `go`, with a process of its own at work meanwhile."""
    nowhere = subprocess.DEVNULL  # or the worker would wait for the end of what it inherits
    child = subprocess.Popen(
        ["sleep", "600"], start_new_session=True, stdout=nowhere, stderr=nowhere
    )
    with (folder / "children").open("a") as file:
        file.write(f"{child.pid}\\n")
    while not (folder / "go").exists():
        time.sleep(0.1)
    child.kill()
    child.wait()


@flow
def inner(folder: Path) -> None:
    wait(folder)


@flow
def tiny(folder: Path) -> None:
    with (folder / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if (folder / "exit").exists():
        os._exit(int((folder / "exit").read_text()))
    inner(folder)
'''

DEPLOY = """
import sys
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

with get_client(sync_client=True) as client:
    try:
        client.create_work_pool(WorkPoolCreate(name="cpu-pool", type="process"))
    except ObjectAlreadyExists:
        pass
source, entrypoint, name, *tags = sys.argv[1:]
flow.from_source(source=source, entrypoint=entrypoint).deploy(
    name=name, work_pool_name="cpu-pool", tags=tags, print_next_steps=False, ignore_warnings=True
)
"""


def deploy(environment: dict[str, str], source: Path, entrypoint: str, name: str, *tags: str):
    command = [sys.executable, "-c", DEPLOY, str(source), entrypoint, name, *tags]
    subprocess.run(command, env=environment, cwd=source, check=True, stdout=subprocess.DEVNULL)


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True)
class Place:
    """A server with deployments of `tiny`, and the environment of its workers."""

    environment: dict[str, str]
    folder: Path
    client: SyncPrefectClient
    started: list[UUID] = field(default_factory=list)

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        command = ["prefect", "worker", "start", "--pool", POOL, "--name", f"w-{time.time_ns()}"]
        given = {"env": self.environment, "cwd": self.folder}
        with (
            (self.folder / "workers.log").open("a") as log,
            subprocess.Popen(command, **given, stdout=log, stderr=log) as process,
        ):
            try:
                yield process
            finally:
                for child in children(process):
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
                process.kill()

    def start(self, deployment: str, folder: Path, **parameters: Any) -> UUID:
        folder.mkdir(exist_ok=True)
        found = self.client.read_deployment_by_name(deployment)
        parameters = {"folder": str(folder)} if deployment.startswith("tiny/") else parameters
        made = self.client.create_flow_run_from_deployment(found.id, parameters=parameters)
        self.started.append(made.id)
        return made.id

    def forget(self) -> None:
        """Delete the runs that a test has started: no later worker is to find them."""
        while self.started:
            self.client.delete_flow_run(self.started.pop())

    def run(self, run_id: UUID) -> FlowRun:
        return self.client.read_flow_run(run_id)

    def state(self, run_id: UUID) -> str:
        return self.run(run_id).state_name or ""

    def states(self, run_id: UUID) -> list[str]:
        found = self.client.read_flow_run_states(run_id)
        return [state.name for state in sorted(found, key=lambda state: state.timestamp)]

    def wait(self, run_id: UUID, name: str, seconds: float = PATIENCE_SECONDS) -> None:
        wait_until(lambda: self.state(run_id) == name, seconds)

    def task_runs(self, run_id: UUID) -> list[str]:
        """State of each task run, of the flow that `tiny` calls too."""
        inner = self.filter("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [str(run_id)]}})
        ids = [str(run_id), *(run["id"] for run in inner)]
        found = self.filter("task_runs", flow_runs={"id": {"any_": ids}})
        return sorted(run["state_name"] for run in found)

    def filter(self, kind: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.environment['PREFECT_API_URL']}/{kind}/filter",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def reconcile(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flows", "reconcile", *arguments],
            env={**self.environment, "COLUMNS": "250"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def children(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def numbers(file: Path) -> list[int]:
    """The process ids that the attempts of a run have written down."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def is_alive(number: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    return False


def kill(number: int) -> None:
    os.kill(number, signal.SIGKILL)


@pytest.fixture(scope="session")
def graveyard(prefect: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("dying")
    (folder / "dying_flows.py").write_text(TINY)
    environment = {
        **prefect,
        "PYTHONPATH": str(ROOT),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "OPTUNA_STORAGE": f"sqlite:///{folder / 'sweeps.db'}",
    }
    deploy(environment, folder, "dying_flows.py:tiny", "plain")
    deploy(environment, folder, "dying_flows.py:tiny", "on-spot", "spot")
    deploy(environment, ROOT, "flows/reconcile.py:reconcile", "crashed")
    deploy(environment, ROOT, "flows/training.py:training", "nightly")
    with SyncPrefectClient(api=prefect["PREFECT_API_URL"]) as client:
        yield Place(environment, folder, client)


@pytest.fixture
def place(graveyard: Place) -> Iterator[Place]:
    yield graveyard
    graveyard.forget()
