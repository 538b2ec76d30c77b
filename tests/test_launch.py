"""Runs by the worker of `make up`: begun in one process, and in all else as by Prefect's own."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkouts import ROOT
from pool_server import (
    PATIENCE_SECONDS,
    connected,
    deploy,
    make_pool,
    state,
    submit,
    wait_until,
)
from prefect.states import Cancelling

WORK = """
import json
import os
import sys
import time
from pathlib import Path

import profile  # a module of this folder, as of the worker's
import flows

from prefect import flow


def hook(flow, flow_run, state):
    (Path(os.environ["SEEN"]) / "hook").write_text(state.name)


@flow(on_cancellation=[hook], on_crashed=[hook])
def work(seconds: float, status: int = 0):
    seen = {
        "prepared here": "prefect.runner._workspace_supervisor" in sys.modules,
        "main": sys.modules["__main__"].__spec__.name,
        "argv": sys.argv[1:],
        "folder": os.getcwd(),
        "first": sys.path[0],
        "profile": profile.__file__,
        "flows": flows.__file__,
        "given": os.environ["GIVEN"],
        "paths": [path for path in sys.path if path.endswith("/flows")],
    }
    (Path(os.environ["SEEN"]) / "seen").write_text(json.dumps(seen))
    time.sleep(seconds)
    if status:
        os._exit(status)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of a flow that tells what it is run in."""
    folder = tmp_path / "repository"
    (folder / "flows").mkdir(parents=True)
    for name, text in {"work.py": WORK, "profile.py": "", "flows/__init__.py": ""}.items():
        (folder / name).write_text(text)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init"], ["add", "."], [*author, "commit", "--message", "work"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def pool(prefect: dict[str, str], repository: Path, tmp_path: Path):
    """A process pool whose runs begin in a clone of the repository."""
    with connected(prefect) as client:
        made = make_pool(client, "process")
        clone = {"repository": str(repository), "clone_directory_name": "checkout"}
        deploy(
            client,
            made,
            step={"prefect.deployments.steps.git_clone": clone},
            job_variables={"env": {"SEEN": str(tmp_path), "GIVEN": "a value with spaces"}},
        )
        return made


@contextmanager
def working(prefect, pool):
    """The worker of `make up`, for a pool; gives what it has said, when it has ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.system.worker", "--pool", pool.name, "--type", "process"],
        cwd=ROOT,
        env={**prefect, "PREFECT_WORKER_QUERY_SECONDS": "0.5"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = list[str]()
    try:
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=PATIENCE_SECONDS)[0]


def test_a_run_is_prepared_and_run_by_one_process_with_the_code_of_its_clone(
    prefect, pool, tmp_path
):
    run = submit(prefect, pool, seconds=0)
    with working(prefect, pool):
        wait_until(lambda: state(prefect, run).is_final(), "the run should end")
    assert state(prefect, run).is_completed()
    seen = json.loads((tmp_path / "seen").read_text())
    folder = seen["folder"]
    assert Path(folder).name == "checkout"
    assert seen == {
        "prepared here": True,
        "main": "prefect.engine",
        "argv": [],
        "folder": folder,
        "first": folder,
        "profile": f"{folder}/profile.py",
        "flows": f"{folder}/flows/__init__.py",
        "given": "a value with spaces",
        "paths": [],
    }


def test_a_run_that_is_cancelled_ends_and_its_hooks_are_run(prefect, pool, tmp_path):
    run = submit(prefect, pool, seconds=600)
    with working(prefect, pool):
        wait_until((tmp_path / "seen").exists, "the run should begin")
        with connected(prefect) as client:
            client.set_flow_run_state(run, Cancelling())
        wait_until(lambda: state(prefect, run).is_cancelled(), "the run should be cancelled")
        wait_until((tmp_path / "hook").exists, "the hook should run")
    assert (tmp_path / "hook").read_text() == "Cancelling"


def test_a_run_whose_process_dies_is_crashed(prefect, pool, tmp_path):
    run = submit(prefect, pool, seconds=0, status=7)
    with working(prefect, pool):
        wait_until(lambda: state(prefect, run).is_final(), "the run should end")
        wait_until((tmp_path / "hook").exists, "the hook should run")
    assert state(prefect, run).is_crashed()
    assert "exited with status code: 7" in state(prefect, run).message


def test_a_clone_that_cannot_be_made_is_told(prefect, pool, repository):
    repository.rename(repository.with_name("away"))
    run = submit(prefect, pool, seconds=0)
    with working(prefect, pool) as said:
        wait_until(lambda: state(prefect, run).is_final(), "the run should end")
    assert state(prefect, run).is_crashed()
    assert "Failed to clone repository" in "".join(said)
