"""The whole system of `make up`, started in a checkout of its own on free ports."""

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest
from checkouts import copy_checkout

PATIENCE_SECONDS = 600
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Up:
    """A running system: its checkout, and what its `environment` file exports."""

    checkout: Path
    environment: dict[str, str]

    @property
    def pages(self) -> str:
        return self.environment["PREFECT_API_URL"].removesuffix("/api")

    def api(self, path: str, body: object = None) -> dict | list:
        status, answer = ask(f"{self.environment['PREFECT_API_URL']}/{path}", body)
        if status >= HTTPStatus.BAD_REQUEST:
            raise OSError(f"{path}: {status}: {answer}")
        return answer

    def trigger(self, deployment: str, **parameters: object) -> str:
        """Start a run as the form does, and give its id."""
        found = self.api(f"deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.api(f"deployments/{found['id']}/create_flow_run", body)["id"]

    def run(self, flow_run_id: str) -> dict:
        return self.api(f"flow_runs/{flow_run_id}")

    def tasks(self, flow_run_id: str) -> dict[str, str]:
        wanted = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
        return {each["name"]: each["state_name"] for each in self.api("task_runs/filter", wanted)}

    def wait(self, flow_run_id: str, states: set[str] = FINAL) -> dict:
        """Wait until a run is in one of these states."""
        for _ in polling():
            with contextlib.suppress(OSError):  # the server may be down for a while
                if (run := self.run(flow_run_id))["state_type"] in states:
                    return run
        pytest.fail(f"{flow_run_id} is {run['state']} after {PATIENCE_SECONDS} s")

    def wait_for_task(self, flow_run_id: str, name: str) -> None:
        """Wait until a stage of a run has begun."""
        for _ in polling():
            if self.tasks(flow_run_id).get(name) == "Running":
                return

    def command(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=cwd or self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """Find all processes that the system has started, and theirs."""
        mine = self.environment["VERBATIM_FOLDER"]
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("VERBATIM_FOLDER") == mine:
                    found.append(process)
        return [each for each in found if each.pid != os.getpid()]

    def program(self, name: str) -> psutil.Process:
        """Find the process of a program of supervisord.conf."""
        said = self.command("supervisorctl", "-c", "supervisord.conf", "pid", name).stdout
        return psutil.Process(int(said))


def ask(url: str, body: object = None) -> tuple[int, Any]:
    """Ask Prefect's server: the status and what it says."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def polling() -> Iterator[None]:
    """Go round until patience ends; the test then fails on what it waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield
        time.sleep(0.3)


@contextlib.contextmanager
def started(folder: Path, environment: dict[str, str], **settings: str) -> Iterator[Up]:
    """Start a system, and end it however the test ends."""
    from conftest import free_ports

    checkout = copy_checkout(folder / "checkout")
    ports = dict(zip(("PREFECT_PORT", "MLFLOW_PORT", "S3_PORT"), free_ports(3), strict=True))
    given = {**environment, **settings, **{f"VERBATIM_{k}": str(v) for k, v in ports.items()}}
    try:
        command(checkout, given, "up")
        yield Up(checkout, {**given, **exported(checkout)})
    finally:
        command(checkout, given, "down")


def command(checkout: Path, environment: dict[str, str], verb: str) -> str:
    """Run `python -m flows VERB`; it must succeed."""
    done = subprocess.run(
        ["python", "-m", "flows", verb],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(checkout: Path) -> dict[str, str]:
    """Give what a shell has that sources the file of the system."""
    words = "set -a; . .verbatim/system/environment; env -0"
    clean = {"PATH": os.environ["PATH"]}
    said = subprocess.run(
        ["/bin/sh", "-c", words],
        cwd=checkout,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pairs = (line.partition("=") for line in said.split("\0") if line)
    return {name: value for name, _, value in pairs if name not in {"PATH", "PWD"}}
