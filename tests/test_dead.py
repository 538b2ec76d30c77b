"""Flow runs that die: with a real server, real workers, and real kills."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from dying import Place, children, deploy, is_alive, kill, numbers, wait_until
from prefect.client.schemas.objects import StateType
from prefect.states import (
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Pending,
    Retrying,
    Running,
    State,
)

from flows import preflight
from flows.automations import SILENT, WINDOW_SECONDS, silence
from flows.dead import closing, evidence, reviving

pytestmark = pytest.mark.xdist_group("dead")
APPLY = "from flows import automations; print('\\n'.join(automations.apply()))"
NAMES = ("a run whose heartbeat is missing is Crashed", "a crashed run is reconciled")


def apply(place: Place) -> list[str]:
    command = [sys.executable, "-c", APPLY]
    ran = subprocess.run(
        command, env=place.environment, cwd=place.folder, check=True, stdout=subprocess.PIPE
    )
    return [line.partition(":")[0] for line in ran.stdout.decode().splitlines()]


def died(place: Place, deployment: str, folder: Path, *said: str) -> UUID:
    """A run that no worker has taken, and that has died as often, by what the server was told."""
    run_id = place.start(deployment, folder)
    for number, message in enumerate(said, 1):
        for state in (Pending(), Running(), Crashed(message=message)):
            place.client.set_flow_run_state(run_id, state)
        if number < len(said):
            assert reviving.revive(place.client, place.run(run_id))[0] == "AwaitingRetry"
    return run_id


def revived(place: Place, run_id: UUID) -> tuple[str, str]:
    return reviving.revive(place.client, place.run(run_id))


class TestReviving:
    KILLED = "Process exited with status code: -9. Process exited due to a SIGKILL signal."

    def test_what_a_signal_ended_runs_again_three_times_and_no_more(self, place, tmp_path):
        run_id = died(place, "tiny/plain", tmp_path, self.KILLED)
        said = revived(place, run_id)
        assert said == ("AwaitingRetry", "Preempted, and scheduled again: 1 of 3 times")
        poisoned = died(place, "tiny/plain", tmp_path, *[self.KILLED] * 4)
        assert revived(place, poisoned) == ("Crashed", "given up: it died 4 times")
        assert place.states(poisoned).count("AwaitingRetry") == 3

    @pytest.mark.parametrize(
        "said",
        [
            "Flow run infrastructure exited with non-zero status code -15.",
            "Process exited with status code: 137. Killed.",
            "Execution was aborted by a termination signal.",
            "Execution was aborted by Python system exit call.",
            SILENT,
        ],
    )
    def test_signals_are_known_by_what_is_said_of_them(self, place, tmp_path, said):
        assert revived(place, died(place, "tiny/plain", tmp_path, said))[0] == "AwaitingRetry"

    def test_what_failed_by_itself_runs_again_only_where_machines_are_taken_away(
        self, place, tmp_path
    ):
        said = "Process exited with status code: 1. An error."
        plain = died(place, "tiny/plain", tmp_path, said)
        assert revived(place, plain) == ("Crashed", f"it was not preempted: {said}")
        assert revived(place, died(place, "tiny/on-spot", tmp_path, said))[0] == "AwaitingRetry"

    def test_what_was_being_cancelled_does_not_run_again(self, place, tmp_path):
        run_id = place.start("tiny/on-spot", tmp_path)
        for state in (Pending(), Running(), Cancelling()):
            place.client.set_flow_run_state(run_id, state)
        ended = closing.end(place.client, place.run(run_id))
        assert ended.state_type == StateType.CANCELLED
        assert revived(place, run_id) == ("Cancelled", "it was being cancelled")


class TestEvidence:
    def test_run_that_never_gave_a_sign_is_not_called_dead(self, place, tmp_path):
        run_id = place.start("tiny/plain", tmp_path)
        for state in (Pending(), Running()):
            place.client.set_flow_run_state(run_id, state)
        run = place.run(run_id)
        assert run.state is not None
        run.state.timestamp = datetime.now(UTC) - timedelta(hours=2)
        assert evidence.is_dead(place.client, run)  # for a worker of ours would have had it say so
        run.work_pool_name = None  # as one that was started by hand
        assert not evidence.is_dead(place.client, run)

    @pytest.mark.parametrize(
        ("ages", "is_ours", "window"),
        [
            ([10, 40], True, WINDOW_SECONDS),
            ([10, 40], False, WINDOW_SECONDS),
            ([10, 190], False, 450),
            ([10], False, 450),
        ],
    )
    def test_window_is_wider_for_a_run_that_gives_signs_at_its_own_pace(
        self, ages, is_ours, window
    ):
        now = datetime.now(UTC)
        beats = [now - timedelta(seconds=age) for age in ages]
        assert evidence.window(beats, is_ours=is_ours) == window

    def test_process_that_says_which_run_it_is_is_evidence_of_life(self, place, tmp_path):
        run_id = place.start("tiny/plain", tmp_path)
        named = {**os.environ, evidence.FLOW_RUN: str(run_id)}
        sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
        with subprocess.Popen(sleeping, env=named) as process:
            try:
                run = place.run(run_id)
                assert not evidence.is_at_work(run)  # what it has started is not it
                run.infrastructure_pid = str(process.pid)
                assert evidence.is_at_work(run)
                run.infrastructure_pid = None
                assert evidence.end_what_is_left(run) == [f"process {process.pid}"]
                assert not is_alive(process.pid)
            finally:
                process.kill()


def in_state(place: Place, folder: Path, *states: State) -> UUID:
    """A run of ours that no worker has taken, in these states one after the other."""
    run_id = place.start("tiny/plain", folder)
    for state in (Pending(), *states):
        place.client.set_flow_run_state(run_id, state)
    return run_id


@contextmanager
def watched(place: Place, seconds: float) -> Iterator[None]:
    """Have silence marked as `automations.silence` has it, after another time."""
    wanted = silence().model_copy(deep=True, update={"name": "silence of a test"})
    wanted.trigger.within = timedelta(seconds=seconds)
    for name in NAMES:
        for known in place.client.read_automations_by_name(name):
            place.client.delete_automation(known.id)
    made = place.client.create_automation(wanted)
    try:
        yield
    finally:
        place.client.delete_automation(made)


class TestAutomations:
    def test_they_are_created_once_and_updated_only_where_they_differ(self, place):
        apply(place)
        assert set(apply(place)) == {"unchanged"}
        (known,) = place.client.read_automations_by_name(NAMES[0])
        place.client.pause_automation(known.id)
        first, *others = apply(place)
        assert (first, set(others)) == ("updated", {"unchanged"})
        (again,) = place.client.read_automations_by_name(NAMES[0])
        assert (again.id, again.enabled) == (known.id, True)

    @pytest.mark.parametrize("at_work", [[], [Retrying()]], ids=["running", "retrying"])
    def test_silence_is_death_at_work_and_in_no_state_in_which_a_flow_ends(
        self, place, tmp_path, at_work
    ):
        """With the shortest window that Prefect takes; those at rest are silent for the longest."""
        ends = [Completed(name="Kept"), Failed(name="DataRefused"), Failed(name="Unforeseen")]
        with watched(place, seconds=10):
            at_rest = [in_state(place, tmp_path, Running(), end) for end in ends]
            silent = in_state(place, tmp_path, Running(), *at_work)
            wait_until(lambda: place.state(silent) == "Crashed")
        assert [place.state(each) for each in at_rest] == [end.name for end in ends]


class TestKilled:
    @pytest.fixture(autouse=True)
    def applied(self, place: Place):
        apply(place)

    def test_flow_process_killed_alone_runs_again_and_leaves_nothing_open(self, place, tmp_path):
        with place.worker():
            run_id = place.start("tiny/plain", tmp_path)
            wait_until(lambda: numbers(tmp_path / "children"))
            wait_until(lambda: place.task_runs(run_id) == ["Running", "Running"])
            kill(numbers(tmp_path / "attempts")[0])
            wait_until(lambda: "Crashed" in place.states(run_id), seconds=5)
            wait_until(lambda: len(numbers(tmp_path / "children")) == 2)
            assert not is_alive(numbers(tmp_path / "children")[0])
            wait_until(
                lambda: (
                    place.task_runs(run_id) == ["Crashed", "Crashed", "Running", "Running"]
                    or place.task_runs(run_id) == ["Crashed", "Running", "Running"]
                )
            )
            (tmp_path / "go").touch()
            place.wait(run_id, "Completed")
        assert place.states(run_id).count("AwaitingRetry") == 1
        assert "Running" not in place.task_runs(run_id)
        assert len(numbers(tmp_path / "attempts")) == 2

    def test_worker_killed_alone_costs_its_flow_time_at_most(self, place, tmp_path):
        """The flow goes on, until its next word for the worker finds nobody to read it."""
        with place.worker() as worker:
            run_id = place.start("tiny/plain", tmp_path)
            wait_until(lambda: numbers(tmp_path / "children"))
            flows = children(worker)
            worker.kill()
            worker.wait()
        reconciling = place.reconcile(str(run_id))
        told, _ = reconciling.communicate()
        assert (reconciling.returncode, place.state(run_id)) == (0, "Running"), told
        (tmp_path / "go").touch()
        with place.worker():
            place.wait(run_id, "Completed", seconds=120)
        for process in flows:
            with suppress(psutil.Error):
                process.wait(10)

    def test_run_that_was_called_dead_while_it_lived_is_called_running_again(self, place, tmp_path):
        with place.worker():
            run_id = place.start("tiny/on-spot", tmp_path)
            wait_until(lambda: numbers(tmp_path / "children"))
            place.client.set_flow_run_state(run_id, Crashed(message=SILENT))
            place.wait(run_id, "Running")
            (tmp_path / "go").touch()
            place.wait(run_id, "Completed")
        assert len(numbers(tmp_path / "attempts")) == 1

    def test_two_that_reconcile_at_once_schedule_a_run_once(self, place, tmp_path):
        run_id = died(place, "tiny/plain", tmp_path, TestReviving.KILLED)
        both = [place.reconcile(str(run_id)) for _ in range(2)]
        told = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert place.states(run_id).count("AwaitingRetry") == 1
        assert sorted("nothing was left open" in text for text in told) == [False, True], told
        (text,) = (text for text in told if "Preempted" in text)
        assert "AwaitingRetry" in text

    def test_machine_that_vanishes_is_noticed_and_its_run_goes_on_elsewhere(self, place, tmp_path):
        """The slow one, about 150 seconds: Prefect takes no shorter heartbeat than 30 seconds."""
        doomed, healthy = tmp_path / "doomed", tmp_path / "healthy"
        with place.worker() as one:
            killed = place.start("tiny/plain", doomed)
            wait_until(lambda: place.task_runs(killed) == ["Running", "Running"])
            os.kill(one.pid, signal.SIGSTOP)  # so that the other takes the next
            with place.worker():
                spared = place.start("tiny/plain", healthy)
                wait_until(lambda: numbers(healthy / "children"))
                kill(one.pid)
                kill(numbers(doomed / "attempts")[0])
                began = time.monotonic()
                wait_until(lambda: "Crashed" in place.states(killed), seconds=110)
                assert time.monotonic() - began > WINDOW_SECONDS - 31
                wait_until(lambda: len(numbers(doomed / "children")) == 2, seconds=120)
                assert place.states(spared).count("Running") == 1
                assert place.state(spared) == "Running"
                for folder in (doomed, healthy):
                    (folder / "go").touch()
                for run_id in (killed, spared):
                    place.wait(run_id, "Completed")
        assert "Crashed" not in place.states(spared)
        assert not is_alive(numbers(doomed / "children")[0])


SLOW = {
    "models.trees.learning_rate": "0.001",
    "models.trees.max_rounds": "400",
    "models.trees.early_stopping_rounds": "400",
    "evaluate.min_auc": "0.5",
    "evaluate.min_accuracy": "0.5",
}


def runs_of(checkout: Path) -> list[str]:
    """How the runs in the store of a checkout have ended, the oldest first."""
    with contextlib.closing(sqlite3.connect(checkout / "mlflow.db", timeout=60)) as database:
        found = database.execute("SELECT status FROM runs ORDER BY start_time").fetchall()
    return [status for (status,) in found]


@pytest.mark.xdist_group("trained")
def test_training_whose_process_is_killed_is_taken_up_by_the_same_flow_run(
    graveyard: Place, trained: Path
):
    for name, value in SLOW.items():
        preflight.override([f"{name}={value}"], trained / "params.yaml")
    environment = {
        **graveyard.environment,
        "MLFLOW_TRACKING_URI": f"sqlite:///{trained / 'mlflow.db'}",
        "VERBATIM_CHECKPOINTS": str(trained.parent / "checkpoints"),
        "PYTHONPATH": str(trained),
    }
    place = replace(graveyard, environment=environment, started=[])
    apply(place)
    deploy(environment, trained, "flows/training.py:training", "manual", "spot")
    before = runs_of(trained)
    with place.worker() as worker:
        run_id = place.start("training/manual", trained)

        def at_work() -> list[psutil.Process]:
            return [each for each in children(worker) if "tasks.train" in " ".join(each.cmdline())]

        wait_until(at_work, seconds=120)
        stages = at_work()
        kill(int(place.run(run_id).infrastructure_pid or 0))
        wait_until(lambda: "AwaitingRetry" in place.states(run_id))
        assert not [each for each in stages if is_alive(each.pid)]
        place.wait(run_id, "Completed", seconds=240)
    place.forget()
    assert runs_of(trained)[len(before) :][-1] == "FINISHED"
    assert "RUNNING" not in runs_of(trained)
