"""Talk to MLflow, as the one module that does, and import it only when there is need.

Runs are found by their lineage key, and only a finished run counts. `find` is asked before every
run of the flow, so it does without MLflow where the store is a local SQLite file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tasks import store
from tasks.errors import StageError
from tasks.open_run import HISTORY, OpenRun
from tasks.store import GATE, LINEAGE_KEY, Record

RECORDER, SEEN = "recorder", "seen"
"""Tags of a run: the process that writes it, as `host:id`, or `host:id:live` while its training
goes on; and when it last did, in milliseconds."""
LIVE = ":live"

LONGEST_SILENCE_SECONDS = 3600.0
"""After which a run that another machine left open is taken for broken."""

LONGEST_DESCRIPTION = 5000
"""What MLflow's tables can hold."""


class AbsentError(StageError):
    """The store lacks a run, a version or an artifact, whatever is tried."""


def connect() -> Any:
    """Import MLflow, silent and without telemetry, and point it at the store."""
    for name, value in store.QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    mlflow.set_tracking_uri(store.uri())
    return mlflow


def connect_to_write() -> Any:
    """Connect, and let a store that was moved know its new place first."""
    store.follow_move()
    return connect()


def find(key: str, *, experiment: str, model_name: str, alias: str) -> Record | None:
    """Look up the newest finished run with this lineage key whose artifacts are still there.

    Nothing is written. Raises TemporaryError if the store does not answer.
    """
    names = {"experiment": experiment, "model_name": model_name, "alias": alias}
    file = store.database()
    if file is not None and not file.exists():
        return None
    if file is not None:
        with suppress(sqlite3.Error):  # locked, or laid out by another MLflow
            return store.find(file, key, **names)
    with store.reachable():
        return _find(key, **names)


def is_recorded(key: str, *, experiment: str) -> bool:
    """Tell whether a finished run has this lineage key, whatever became of its model."""
    return find(key, experiment=experiment, model_name="", alias="") is not None


def _find(key: str, *, experiment: str, model_name: str, alias: str) -> Record | None:
    client = connect().MlflowClient()
    place = client.get_experiment_by_name(experiment)
    if place is None or place.lifecycle_stage != "active":
        return None
    for run in client.search_runs(
        [place.experiment_id],
        f"tags.{LINEAGE_KEY} = '{key}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    ):
        if store.holds(run.info.artifact_uri):
            its = f"name = '{model_name}' and run_id = '{run.info.run_id}'"
            versions = [int(version.version) for version in client.search_model_versions(its)]
            passed = run.data.tags.get(GATE) == "passed"
            newest = max(versions, default=None)
            aliased = newest is not None and newest == _aliased(client, model_name, alias)
            return Record(run.info.run_id, place.experiment_id, passed, newest, aliased)
    return None


def _aliased(client: Any, model_name: str, alias: str) -> int | None:
    """Give the version that an alias points to."""
    for model in client.search_registered_models(f"name = '{model_name}'"):
        if alias in model.aliases:
            return int(model.aliases[alias])
    return None


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process of this user on this machine is recording in the same store."""
    name = hashlib.sha256(f"{os.getuid()} {store.uri()}".encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"verbatim-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def recording(
    name: str, *, experiment: str, key: str, tags: Mapping[str, str]
) -> Iterator[OpenRun]:
    """Open a run, to end as FINISHED, or as FAILED after any error, interrupt or SIGTERM.

    Goes on in the run of this key that has shown its training on this machine, if there is one.
    Runs that killed processes left open are closed as FAILED first, and so are those of this key
    that were killed or lost their artifacts. Two machines that share a server may record the same
    content at the same time: both runs stay, and the newer one counts.
    """
    mlflow = connect_to_write()
    client = mlflow.MlflowClient()
    place = settled(client, experiment, key)
    live = live_run(client, place, key)
    tags = {LINEAGE_KEY: key, **recorder(), **tags}
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        with mlflow.start_run(live, experiment_id=place, run_name=name, tags=tags) as run:
            yield OpenRun(run.info.run_id, mlflow, recorded_points(client, live))
    finally:
        signal.signal(signal.SIGTERM, before)


def recorder(mark: str = "") -> dict[str, str]:
    """Give the tags that say that this process writes a run, now."""
    return {
        RECORDER: f"{socket.gethostname()}:{os.getpid()}{mark}",
        SEEN: str(time.time_ns() // 1_000_000),
    }


def settled(client: Any, experiment: str, key: str) -> str:
    """Give the id of an experiment, made if there is none, whose broken runs are closed."""
    place = _experiment(client, experiment)
    _close_broken(client, place, key)
    return place


def live_run(client: Any, experiment_id: str, key: str) -> str | None:
    """Give the id of the run of this key that a process of this machine shows live, if one does."""
    running = f"tags.{LINEAGE_KEY} = '{key}' and attributes.status = 'RUNNING'"
    here = f"tags.{RECORDER} LIKE '{socket.gethostname()}:%{LIVE}'"
    found = client.search_runs([experiment_id], f"{running} and {here}", max_results=1)
    return str(found[0].info.run_id) if found else None


def recorded_points(client: Any, run_id: str | None) -> frozenset[tuple[str, int]]:
    """Give name and step of each point that a run has of the curves; none if there is no run."""
    if run_id is None:
        return frozenset()
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith(HISTORY)]
    points = [point for name in names for point in client.get_metric_history(run_id, name)]
    return frozenset((point.key, point.step) for point in points)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _experiment(client: Any, name: str) -> str:
    place = client.get_experiment_by_name(name)
    if place is None:
        return str(client.create_experiment(name, artifact_location=store.artifacts()))
    if place.lifecycle_stage != "active":
        raise StageError(
            f"{store.shown()}: experiment {name!r} must be active (got deleted)\n"
            f"next: mlflow experiments restore --experiment-id {place.experiment_id}, "
            "or set register.experiment in params.yaml to another name"
        )
    return str(place.experiment_id)


def _close_broken(client: Any, experiment_id: str, key: str) -> None:
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
    ended = client.search_runs(
        [experiment_id],
        f"tags.{LINEAGE_KEY} = '{key}' and attributes.status != 'RUNNING' "
        "and attributes.status != 'FAILED'",
    )
    for run in [*filter(is_abandoned, running), *filter(_is_lost, ended)]:
        client.set_terminated(run.info.run_id, "FAILED")


def _is_lost(run: Any) -> bool:
    return run.info.status == "KILLED" or not store.holds(run.info.artifact_uri)


def is_abandoned(run: Any) -> bool:
    """Tell whether the process that recorded a run is gone.

    Of another machine's process only its last sign of life is known; if it lives after all, it ends
    its run as FINISHED. Machines are told apart by host name, so containers that share a server
    must not share one. A process id that is in use again keeps a run open.
    """
    tags = run.data.tags
    return is_gone(tags.get(RECORDER, ""), int(tags.get(SEEN, run.info.start_time)))


def is_gone(process: str, seen: int) -> bool:
    """Tell whether a process that `recorder` named is gone; `seen`: its last sign, milliseconds."""
    host, _, number = process.removesuffix(LIVE).partition(":")
    if host == socket.gethostname():
        return not is_alive(int(number))
    silence_seconds = time.time() - seen / 1000
    return bool(host) and silence_seconds > LONGEST_SILENCE_SECONDS


def is_alive(process: int) -> bool:
    """Tell whether a process of this machine is at work; one that ended unnoticed is not."""
    import psutil  # type: ignore[import-untyped]

    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def rename(run_id: str, name: str, tags: Mapping[str, str]) -> None:
    """Give a recorded run the name and tags that its content goes by now."""
    client = connect().MlflowClient()
    client.update_run(run_id, name=name)
    for tag, value in tags.items():
        client.set_tag(run_id, tag, value)


def release(
    run_id: str,
    *,
    model_name: str,
    alias: str,
    tags: Mapping[str, str],
    describe: Callable[[str], str],
) -> int:
    """Make a version of the run's model unless there is one, point the alias to it; give it.

    describe  gives the description of MODEL/VERSION; of "", of one whose number is not known
    """
    client = connect_to_write().MlflowClient()
    its = f"name = '{model_name}' and run_id = '{run_id}'"
    versions = [int(version.version) for version in client.search_model_versions(its)]
    if not versions:
        make_sure_of(client, model_name)
        model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
        made = client.create_model_version(
            model_name,
            f"models:/{model_id}",
            run_id,
            tags=dict(tags),
            description=describe(""),
            model_id=model_id,
        )
        named = describe(f"{model_name}/{made.version}")
        client.update_model_version(model_name, made.version, named)
        versions = [int(made.version)]
    client.set_registered_model_alias(model_name, alias, str(max(versions)))
    return max(versions)


def read_run(run_id: str) -> Any:
    """Read a run of MLflow; raises AbsentError if it is not there, or was deleted."""
    mlflow = connect()
    try:
        run = mlflow.MlflowClient().get_run(run_id)
    except mlflow.exceptions.MlflowException as error:
        if not is_absent(error):
            raise
        raise AbsentError(f"run {run_id} must be in {store.shown()} (got {error})") from error
    if run.info.lifecycle_stage != "active":
        raise AbsentError(f"run {run_id} must be in {store.shown()} (got deleted)")
    return run


def named(run: str) -> str | None:
    """Give the id of the newest finished run with this name or id, in any experiment."""
    if not re.fullmatch(r"[\w.-]+", run):
        return None
    client = connect().MlflowClient()
    places = [each.experiment_id for each in client.search_experiments()]
    for attribute in ("run_name", "run_id"):
        found = client.search_runs(
            places,
            f"attributes.{attribute} = '{run}' and attributes.status = 'FINISHED'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        if found:
            return str(found[0].info.run_id)
    return None


def fetch(run_id: str, names: Iterable[str], folder: Path) -> None:
    """Copy artifacts of a run below a folder, each to the place that it has in the run.

    Raises AbsentError if the run lacks one of them.
    """
    mlflow = connect()
    for name in names:  # some stores flatten what they give: each into its own folder
        place = (folder / name).parent
        place.mkdir(parents=True, exist_ok=True)
        try:
            found = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=name, dst_path=str(place)
            )
        except (mlflow.exceptions.MlflowException, OSError) as error:
            if not is_absent(error):
                raise
            raise AbsentError(f"run {run_id} must hold {name} (got {error})") from error
        Path(found).rename(folder / name)


def fetch_model(uri: str, folder: Path) -> None:
    """Copy a logged model, or that of a version, into a folder; raises AbsentError if it is gone.

    A file of it that is gone is for the caller to see.
    """
    mlflow = connect()
    folder.mkdir(parents=True)
    try:
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        if not is_absent(error):
            raise
        raise AbsentError(f"{uri} must be in {store.shown()} (got {error})") from error
    if not (folder / "MLmodel").is_file():
        raise AbsentError(f"{uri} must be in {store.shown()} (got no MLmodel)")


def curves(run_id: str, names: Iterable[str]) -> dict[str, float]:
    """Give each point of these metrics of a run, as `NAME at step STEP`.

    Raises TemporaryError if the store does not answer.
    """
    with store.reachable():
        client = connect().MlflowClient()
        points = [point for name in names for point in client.get_metric_history(run_id, name)]
    return {f"{point.key} at step {point.step}": float(point.value) for point in points}


def tag(run_id: str, tags: Mapping[str, str]) -> None:
    """Write tags of a run."""
    client = connect().MlflowClient()
    for name, value in tags.items():
        client.set_tag(run_id, name, value)


def is_absent(error: BaseException) -> bool:
    """Tell whether what was asked for is not there, from a store that does not answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_plain = type(error) in {OSError, FileNotFoundError}  # of artifacts in a folder
    is_unknown = getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
    return is_plain or is_unknown or status == HTTPStatus.NOT_FOUND


def make_sure_of(client: Any, model_name: str) -> None:
    """Make a registered model unless there is one."""
    if not client.search_registered_models(f"name = '{model_name}'"):
        client.create_registered_model(model_name)
