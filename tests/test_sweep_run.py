"""A sweep in MLflow, in a real store of its own."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from left_behind import MLFLOW_WARNS

from tasks import store, tracking
from tasks.errors import StageError
from tasks.sweep_run import PARENT, STATE, SWEEP_KEY, SweepRun, TrialRecord

pytestmark = MLFLOW_WARNS

KEY, OTHER_KEY = "a" * 64, "b" * 64
EXPERIMENT = "churn-prediction"
PARAMS = {"model": "trees", "sweep.metric": "roc_auc", "models.trees.max_rounds": 1000}
TAGS = {"sweep.n_trials": 4, "sweep.engine": "local"}
POINTS = [
    ("history/val_log_loss", 0.5, 1),
    ("history/val_log_loss", 0.4, 2),
    ("history/val_roc_auc", 0.8, 2),
    ("val/roc_auc", 0.81, 0),
    ("seconds", 1.5, 0),
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store in which nothing is recorded: to make one takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        tracking.connect().MlflowClient().search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def client(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    shutil.copy(empty, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.DEFAULT)
    return tracking.connect().MlflowClient()


@pytest.fixture
def dead() -> str:
    """A process of this machine that has ended, as the tag `recorder` names it."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{socket.gethostname()}:{process.pid}"


def opened(key: str = KEY, **given: Any) -> SweepRun:
    settings = {"experiment": EXPERIMENT, "params": PARAMS, "tags": TAGS}
    settings |= {"study_id": "a-study", "started": 1_000_000, **given}
    return SweepRun("hyperopt-trees-aaaaaaaa", key=key, **settings)


def trial(number: int, state: str = "complete", **given: Any) -> TrialRecord:
    settings: dict[str, Any] = {
        "params": {"models.trees.max_depth": 3, "models.trees.subsample": 0.5},
        "points": POINTS,
        "started": 1_000_000 + number,
        "ended": 1_002_500 + number,
        "tags": {"current": "True"},
        **given,
    }
    return TrialRecord(number, f"trial-{number:04}", state, **settings)


def runs(client: Any) -> list[Any]:
    """All runs of the experiment, the oldest first."""
    place = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs([place.experiment_id], order_by=["attributes.start_time ASC"])


def children(client: Any, run: SweepRun) -> dict[str, Any]:
    return {
        each.info.run_name: each
        for each in runs(client)
        if each.data.tags.get(PARENT) == run.run_id
    }


def test_a_sweep_is_a_run_of_its_own(client: Any) -> None:
    run = opened()
    (found,) = runs(client)
    assert (found.info.run_id, found.info.run_name) == (run.run_id, "hyperopt-trees-aaaaaaaa")
    assert found.info.status == "RUNNING"
    assert found.data.params == {name: str(value) for name, value in PARAMS.items()}
    assert (
        found.data.tags.items()
        >= {
            SWEEP_KEY: KEY,
            "recorder": f"{socket.gethostname()}:{os.getpid()}",
            "sweep.n_trials": "4",
            "sweep.engine": "local",
        }.items()
    )
    assert found.data.tags["mlflow.user"]


def test_the_same_key_goes_on_in_the_same_run(client: Any) -> None:
    first = opened()
    first.write(trial(0))
    again = opened(tags={"sweep.n_trials": 8, "sweep.engine": "ray"})
    assert again.run_id == first.run_id
    assert again.knows(0)
    assert not again.knows(1)
    found = client.get_run(again.run_id)
    assert found.data.tags["sweep.n_trials"] == "8"
    assert found.data.tags["sweep.engine"] == "ray"
    assert found.data.params["models.trees.max_rounds"] == "1000"
    assert opened(OTHER_KEY).run_id != first.run_id
    assert len(runs(client)) == 3


@pytest.mark.parametrize(
    ("state", "status"), [("complete", "FINISHED"), ("pruned", "FINISHED"), ("failed", "FAILED")]
)
def test_a_trial_is_a_run_below_it(client: Any, state: str, status: str) -> None:
    run = opened()
    run.write(trial(7, state))
    (found,) = children(client, run).values()
    assert (found.info.run_name, found.info.status) == ("trial-0007", status)
    assert (found.info.start_time, found.info.end_time) == (1_000_007, 1_002_507)
    assert found.data.params == {"models.trees.max_depth": "3", "models.trees.subsample": "0.5"}
    assert (
        found.data.tags.items()
        >= {
            PARENT: run.run_id,
            "trial": "7",
            STATE: state,
            "current": "True",
            "recorder": f"{socket.gethostname()}:{os.getpid()}",
        }.items()
    )
    history = client.get_metric_history(found.info.run_id, "history/val_log_loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.4)]
    measured = {"history/val_log_loss": 0.4, "history/val_roc_auc": 0.8}
    assert found.data.metrics == measured | {"val/roc_auc": 0.81, "seconds": 1.5}


def test_a_trial_is_written_once(client: Any) -> None:
    run = opened()
    for _ in range(2):
        run.write(trial(0))
    opened().write(trial(0))
    run.write(trial(1, "pruned"))
    assert sorted(children(client, run)) == ["trial-0000", "trial-0001"]


def test_a_trial_without_parameters_or_points_is_written_too(client: Any) -> None:
    run = opened()
    run.write(trial(0, "failed", params={}, points=[], tags={}))
    (found,) = children(client, run).values()
    assert (found.data.params, found.data.metrics) == ({}, {})
    assert found.data.tags[STATE] == "failed"


def test_a_trial_with_a_long_curve_is_written_whole(client: Any) -> None:
    run = opened()
    points = [("history/val_log_loss", 1 / step, step) for step in range(1, 1501)]
    run.write(trial(0, points=points))
    (found,) = children(client, run).values()
    history = client.get_metric_history(found.info.run_id, "history/val_log_loss")
    assert [point.step for point in history] == list(range(1, 1501))
    assert found.data.tags[STATE] == "complete"


def begin_a_trial(client: Any, run: SweepRun, number: int, recorder: str) -> str:
    """Leave a trial as a process does that is killed while it writes it."""
    tags = {PARENT: run.run_id, "trial": str(number), "recorder": recorder, "seen": "1"}
    tags |= {"study_id": "a-study"}
    place = client.get_run(run.run_id).info.experiment_id
    made = client.create_run(place, run_name=f"trial-{number:04}", tags=tags)
    client.log_metric(made.info.run_id, "history/val_log_loss", 0.5, step=1)
    return str(made.info.run_id)


def test_a_trial_that_a_killed_process_wrote_in_part_is_written_anew(
    client: Any, dead: str
) -> None:
    run = opened()
    run.write(trial(0))
    partial = begin_a_trial(client, run, 1, dead)
    again = opened()
    assert client.get_run(partial).info.lifecycle_stage == "deleted"
    assert again.knows(0)
    assert not again.knows(1)
    again.write(trial(1))
    found = children(client, run)
    assert sorted(found) == ["trial-0000", "trial-0001"]
    assert found["trial-0001"].data.tags[STATE] == "complete"
    assert opened().knows(1)


def test_a_trial_whose_run_was_not_ended_is_written_anew(client: Any, dead: str) -> None:
    """Its writer was killed after it had written the state."""
    run = opened()
    partial = begin_a_trial(client, run, 0, dead)
    client.set_tag(partial, STATE, "complete")
    opened().write(trial(0))
    assert client.get_run(partial).info.lifecycle_stage == "deleted"
    (found,) = children(client, run).values()
    assert (found.info.status, found.info.end_time) == ("FINISHED", 1_002_500)


def test_a_trial_whose_writer_dies_while_others_go_on_is_written_anew(
    client: Any, dead: str
) -> None:
    run = opened()
    partial = begin_a_trial(client, run, 0, dead)
    client.set_tag(partial, STATE, "complete")
    run.look()
    assert client.get_run(partial).info.lifecycle_stage == "deleted"
    assert not run.knows(0)


@pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
def test_a_broken_run_is_no_trial_whatever_its_state_would_have_been(
    client: Any, monkeypatch: pytest.MonkeyPatch, dead: str, state: str
) -> None:
    """It is closed as FAILED, as the run of a trial that failed."""
    run = opened()
    with monkeypatch.context() as patch:
        patch.setattr("tasks.sweep_run.OpenRun.values", raises)
        with pytest.raises(ConnectionError):
            run.write(trial(0, state))
    (partial,) = children(client, run).values()
    client.set_tag(partial.info.run_id, "recorder", dead)
    again = opened()
    assert client.get_run(partial.info.run_id).info.lifecycle_stage == "deleted"
    again.write(trial(0, state))
    (found,) = children(client, run).values()
    assert found.data.tags[STATE] == state


def raises(*_: Any) -> None:
    raise ConnectionError


def test_a_trial_that_another_process_is_writing_is_left_alone(client: Any) -> None:
    run = opened()
    partial = begin_a_trial(client, run, 0, f"{socket.gethostname()}:{os.getppid()}")
    opened()
    assert client.get_run(partial).info.lifecycle_stage == "active"
    assert client.get_run(partial).info.status == "RUNNING"


def test_trials_of_another_sweep_are_none_of_ours(client: Any, dead: str) -> None:
    one, other = opened(), opened(OTHER_KEY)
    one.write(trial(0))
    partial = begin_a_trial(client, other, 1, dead)
    again = opened()
    assert not again.knows(1)
    assert client.get_run(partial).info.lifecycle_stage == "active"
    assert not opened(OTHER_KEY).knows(0)


def test_the_best_value_is_a_curve_over_the_trials(client: Any) -> None:
    run = opened()
    for number, value in enumerate((0.7, 0.8, 0.8)):
        run.best("best/roc_auc", value, number)
    points = client.get_metric_history(run.run_id, "best/roc_auc")
    assert [(point.step, point.value) for point in points] == [(0, 0.7), (1, 0.8), (2, 0.8)]


def test_a_sweep_that_has_finished_holds_what_it_came_to(client: Any, tmp_path: Path) -> None:
    run = opened()
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "history.png").write_bytes(b"a picture")
    texts = {"report.md": "# a report", "best.yaml": "a: 1"}
    run.finish({"gain/value": 0.01}, {"winner": "trial-0003"}, texts, folder)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"gain/value": 0.01}
    assert found.data.tags["winner"] == "trial-0003"
    artifacts = Path(found.info.artifact_uri)
    assert artifacts == tmp_path / "mlartifacts" / run.run_id / "artifacts"
    assert {path.name: path.read_text() for path in artifacts.iterdir()} == {
        "report.md": "# a report",
        "best.yaml": "a: 1",
        "history.png": "a picture",
    }
    run.abandon()
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_sweep_that_goes_on_is_running_again_and_finishes_anew(
    client: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    opened().finish({"gain/value": 0.01}, {}, {"report.md": "before"}, folder)
    run = opened()
    assert client.get_run(run.run_id).info.status == "RUNNING"
    run.finish({"gain/value": 0.02}, {}, {"report.md": "after"}, folder)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"gain/value": 0.02}
    assert (Path(found.info.artifact_uri) / "report.md").read_text() == "after"


def test_a_sweep_that_is_abandoned_was_killed(client: Any) -> None:
    run = opened()
    run.abandon()
    assert client.get_run(run.run_id).info.status == "KILLED"
    assert opened().run_id == run.run_id
    assert client.get_run(run.run_id).info.status == "RUNNING"


def test_a_sweep_that_another_process_has_taken_over_is_left_to_it(client: Any) -> None:
    run = opened()
    client.set_tag(run.run_id, "recorder", f"{socket.gethostname()}:{os.getppid()}")
    run.abandon()
    assert client.get_run(run.run_id).info.status == "RUNNING"


def test_a_sweep_whose_recorder_was_killed_goes_on(client: Any, dead: str) -> None:
    run = opened()
    client.set_tag(run.run_id, "recorder", dead)
    opened(OTHER_KEY)
    assert client.get_run(run.run_id).info.status == "FAILED", "it is known to be dead"
    again = opened()
    assert again.run_id == run.run_id
    found = client.get_run(run.run_id)
    assert found.info.status == "RUNNING"
    assert found.data.tags["recorder"] == f"{socket.gethostname()}:{os.getpid()}"


def test_of_two_runs_that_were_made_at_the_same_time_the_first_counts(client: Any) -> None:
    run = opened()
    place = client.get_run(run.run_id).info.experiment_id
    client.create_run(place, run_name="later", tags={SWEEP_KEY: KEY})
    assert opened().run_id == run.run_id


def test_signs_of_life_are_given_once_in_a_while(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened()
    client.set_tag(run.run_id, "seen", "1")
    run.sign()
    assert client.get_run(run.run_id).data.tags["seen"] == "1"
    monkeypatch.setattr("tasks.sweep_run.SECONDS_BETWEEN_SIGNS", -1)
    run.sign()
    seen = int(client.get_run(run.run_id).data.tags["seen"])
    assert not tracking.is_gone("another-machine:1", seen)


def test_a_deleted_experiment_is_named(client: Any) -> None:
    place = client.get_run(opened().run_id).info.experiment_id
    client.delete_experiment(place)
    with pytest.raises(StageError, match=f"mlflow experiments restore --experiment-id {place}"):
        opened()


def test_a_study_begun_anew_replaces_the_trials_of_the_other(client: Any) -> None:
    run = opened()
    run.write(trial(0))
    run.write(trial(1))
    again = opened(study_id="another-study")
    assert again.run_id == run.run_id
    assert not again.knows(0)
    again.write(trial(0, params={"models.trees.max_depth": 9}))
    (found,) = children(client, again).values()
    assert found.data.params["models.trees.max_depth"] == "9"
