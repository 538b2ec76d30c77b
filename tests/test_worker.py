"""The worker that gives its machine back, on a real server, with runs that really run."""

import contextlib
import signal
import subprocess

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
from prefect.states import Completed
from prefect.workers.base import BaseWorker

from flows import placement, worker

FLOW = """
import time
from pathlib import Path

from prefect import flow


@flow
def work(seconds: float):
    folder = Path(__file__).parent
    time.sleep(seconds)
    (folder / "ended").touch()
"""
LAST_WORDS = "stopping, so that the machine can be given back"


@pytest.fixture
def pool(prefect, tmp_path):
    """A process pool, with a deployment of a flow that takes as long as it is told."""
    (tmp_path / "work.py").write_text(FLOW)
    with connected(prefect) as client:
        made = make_pool(client, "process")
        deploy(client, made, tmp_path)
        return made


@contextlib.contextmanager
def started(prefect, *command):
    """A Python process that polls often."""
    process = subprocess.Popen(
        ["python", *command],
        cwd=ROOT,
        env={**prefect, "PREFECT_WORKER_QUERY_SECONDS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def working(prefect, pool, minutes, *options):
    """A worker for the pool, from its command line."""
    command = ["-m", "flows", "worker", "--pool", pool.name, *options]
    return started(prefect, *command, "--idle-timeout-minutes", str(minutes))


def test_it_stops_by_itself_when_no_run_comes(prefect, pool):
    with working(prefect, pool, 0.02) as process:
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert f"no run for 0.02 minutes: {LAST_WORDS}" in said


def test_it_does_not_stop_while_a_run_takes_longer_than_its_patience(prefect, pool, tmp_path):
    run = submit(prefect, pool, seconds=8)
    with working(prefect, pool, 0.05, "--limit", "1") as process:
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert state(prefect, run).is_completed()
    assert (tmp_path / "ended").exists()
    assert said.index("Completed") < said.index(LAST_WORDS)


def test_it_takes_runs_one_after_the_other_and_stops_after_the_last(prefect, pool):
    first = submit(prefect, pool, seconds=0)
    with working(prefect, pool, 0.2) as process:
        wait_until(lambda: state(prefect, first).is_final(), "the first run should end")
        second = submit(prefect, pool, seconds=0)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert state(prefect, first).is_completed()
    assert state(prefect, second).is_completed()
    assert said.count(LAST_WORDS) == 1


def test_it_ends_when_told_to_as_prefects_own_does(prefect, pool):
    with working(prefect, pool, 15) as process:
        wait_until(lambda: online(prefect, pool), "the worker should be seen by the server")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert "Received SIGTERM" in said
    assert LAST_WORDS not in said


def online(prefect, pool):
    with connected(prefect) as client:
        return bool(client.read_work_pool(pool.name).status == "READY")


def test_a_run_of_a_process_pool_ends_at_its_time_limit(prefect, pool, tmp_path):
    variables = placement._process({"time_limit_seconds": 20})
    run = submit(prefect, pool, variables, seconds=300)
    with working(prefect, pool, 0.05) as process:
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert not (tmp_path / "ended").exists()
    assert state(prefect, run).is_crashed()
    assert "sending signal TERM" in said


def test_a_pool_that_is_not_there_is_told_with_how_to_make_it(prefect):
    command = ["python", "-m", "flows", "worker", "--pool", "nowhere"]
    ended = subprocess.run(
        command, cwd=ROOT, env=prefect, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "must exist on the Prefect server (got nowhere)" in ended.stderr
    assert "prefect work-pool create nowhere" in ended.stderr


def test_without_a_server_there_is_nothing_to_work_for(environment):
    command = ["python", "-m", "flows", "worker", "--pool", "nowhere"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "PREFECT_API_URL: must name the Prefect server" in ended.stderr


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "soon"])
def test_a_patience_that_is_none_is_refused(environment, minutes):
    command = ["python", "-m", "flows", "worker", "--pool", "p", "--idle-timeout-minutes", minutes]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "--idle-timeout-minutes" in ended.stderr


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_every_type_of_worker_can_be_idle_and_stays_what_it_was(kind):
    known = BaseWorker.get_worker_class_from_type(kind)
    made = worker._kind(kind)
    assert issubclass(made, known)
    assert issubclass(made, worker.IdleWorker)
    assert made.__name__ == known.__name__
    assert BaseWorker.get_worker_class_from_type(kind) is known


def test_a_job_that_its_worker_does_not_wait_for_keeps_it_too(prefect):
    with connected(prefect) as client:
        pool = make_pool(client, "hands-off")
        deploy(client, pool)
    run = submit(prefect, pool, seconds=0)
    with started(prefect, "tests/hands_off.py", pool.name, "0.02") as process:
        wait_until(lambda: state(prefect, run).is_running(), "the run should start")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=6)  # five times its patience
        with connected(prefect) as client:
            client.set_flow_run_state(run, Completed(), force=True)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert LAST_WORDS in said
