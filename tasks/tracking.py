"""Talk to MLflow, as the one module that does, and import it only when there is need.

Runs are found by their lineage key, and only a finished run counts. `find` is asked before every
run of the flow, so it does without MLflow where the store is a local SQLite file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars import selectors

from tasks import packing, store
from tasks.errors import StageError
from tasks.store import GATE, LINEAGE_KEY, MODEL, Record

Scores = NDArray[np.float64]

RECORDER = "recorder"
"""Tag of a run: the process that writes it, as `host:id`."""

LONGEST_RECORDING_SECONDS = 3600.0
"""After which a run that another machine left open is taken for broken."""

NAMED_BY_MLFLOW: dict[Any, Any] = {
    selectors.date(): pl.Datetime,
    selectors.categorical() | selectors.enum(): pl.String,
    selectors.unsigned_integer(): pl.Int64,
    selectors.decimal(): pl.Float64,
}
"""How column types are stated in a dataset's schema: MLflow warns of those it has no name for."""

LONGEST_DESCRIPTION, LONGEST_PARAM = 5000, 6000
PARAMS_PER_REQUEST, METRICS_PER_REQUEST = 100, 1000
"""What MLflow's tables and requests can hold."""


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


@dataclass(frozen=True)
class OpenRun:
    """A run that is being recorded."""

    run_id: str
    mlflow: Any

    def values(self, params: Mapping[str, Any], metrics: Iterable[tuple[str, float, int]]) -> None:
        """Record parameters, and metrics as (name, value, step)."""
        now, entities, client = time.time_ns() // 1_000_000, self.mlflow.entities, self._client()
        texts = [entities.Param(name, _text(value)) for name, value in params.items()]
        points = [entities.Metric(name, value, now, step) for name, value, step in metrics]
        for start in range(0, len(texts), PARAMS_PER_REQUEST):
            client.log_batch(self.run_id, params=texts[start : start + PARAMS_PER_REQUEST])
        for start in range(0, len(points), METRICS_PER_REQUEST):
            client.log_batch(self.run_id, metrics=points[start : start + METRICS_PER_REQUEST])

    def files(self, places: Mapping[Path, str]) -> None:
        """Record files and folders, each in the artifact folder given for it ("" is the root)."""
        client = self._client()
        for path, place in places.items():
            record = client.log_artifacts if path.is_dir() else client.log_artifact
            record(self.run_id, str(path), place or None)

    def text(self, name: str, text: str) -> None:
        """Record a text as one artifact."""
        self._client().log_text(self.run_id, text, name)

    def json(self, name: str, value: Any) -> None:
        """Record a JSON value as one artifact."""
        self.text(name, json.dumps(value, indent=2))

    def dataset(self, rows: pl.DataFrame, *, name: str, source: str, digest: str) -> None:
        """Record an input by its hash; the rows themselves stay where they are."""
        from mlflow.data.dataset_source_registry import get_dataset_source_from_json

        kind = "s3" if source.startswith("s3:") else "local"
        origin = get_dataset_source_from_json(json.dumps({"uri": source}), kind)
        rows = rows.cast(NAMED_BY_MLFLOW, strict=False)
        dataset = self.mlflow.data.from_polars(rows, source=origin, name=name, digest=digest)
        self.mlflow.log_input(dataset, context="training")

    def model(
        self, train_folder: Path, encoder: Path, *, example: pl.DataFrame
    ) -> Callable[[Any], Scores]:
        """Log weights, encoder and code as one model of raw columns; give its `predict`.

        Every column is optional and of any type, because MLflow refuses int64 where a double is
        stated, and a null where an integer is; the model itself judges columns and values.
        """
        from mlflow.models import ModelSignature
        from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec

        columns = [ColSpec(AnyType(), name, required=False) for name in example.columns]
        scores = TensorSpec(np.dtype(np.float64), (-1,))
        importable = sys.path  # which MLflow replaces, to put the model's copy of this code first
        with tempfile.TemporaryDirectory() as folder:
            logged = self.mlflow.pyfunc.log_model(
                name=MODEL,
                python_model=str(packing.SERVING),
                code_paths=[str(packing.copy_code(Path(folder)))],
                artifacts={"encoder": str(encoder), "train": str(train_folder)},
                signature=ModelSignature(Schema(columns), Schema([scores])),
                input_example=example.to_pandas(),
                pip_requirements=packing.requirements(),
                metadata={"columns": {name: str(kind) for name, kind in example.schema.items()}},
            )
        loaded = self.mlflow.pyfunc.load_model(logged.model_uri)
        sys.path = importable
        return loaded.predict  # type: ignore[no-any-return]

    def _client(self) -> Any:
        return self.mlflow.MlflowClient()


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:LONGEST_PARAM]


@contextmanager
def recording(
    name: str, *, experiment: str, key: str, tags: Mapping[str, str]
) -> Iterator[OpenRun]:
    """Open a run, to end as FINISHED, or as FAILED after any error, interrupt or SIGTERM.

    Runs that killed processes left open are closed as FAILED first, and so are those of this key
    that were killed or lost their artifacts. Two machines that share a server may record the same
    content at the same time: both runs stay, and the newer one counts.
    """
    mlflow = connect_to_write()
    place = _experiment(mlflow.MlflowClient(), experiment)
    _close_broken(mlflow.MlflowClient(), place, key)
    tags = {LINEAGE_KEY: key, RECORDER: f"{socket.gethostname()}:{os.getpid()}", **tags}
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        with mlflow.start_run(experiment_id=place, run_name=name, tags=tags) as run:
            yield OpenRun(run.info.run_id, mlflow)
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _experiment(client: Any, name: str) -> str:
    place = client.get_experiment_by_name(name)
    if place is None:
        return str(client.create_experiment(name, artifact_location=store.artifacts()))
    if place.lifecycle_stage != "active":
        raise StageError(
            f"{store.uri()}: experiment {name!r} must be active (got deleted)\n"
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
    for run in [*filter(_is_abandoned, running), *filter(_is_lost, ended)]:
        client.set_terminated(run.info.run_id, "FAILED")


def _is_lost(run: Any) -> bool:
    return run.info.status == "KILLED" or not store.holds(run.info.artifact_uri)


def _is_abandoned(run: Any) -> bool:
    """Tell whether the process that recorded a run is gone.

    Of another machine's process only the age of its run is known; if it lives after all, it ends
    its run as FINISHED. Machines are told apart by host name, so containers that share a server
    must not share one. A process id that is in use again keeps a run open.
    """
    host, _, process = run.data.tags.get(RECORDER, "").partition(":")
    if host == socket.gethostname():
        return not _is_alive(int(process))
    age_seconds = time.time() - run.info.start_time / 1000
    return bool(host) and age_seconds > LONGEST_RECORDING_SECONDS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # but another user's
    return True


def rename(run_id: str, name: str, tags: Mapping[str, str]) -> None:
    """Give a recorded run the name and tags that its content goes by now."""
    client = connect().MlflowClient()
    client.update_run(run_id, name=name)
    for tag, value in tags.items():
        client.set_tag(run_id, tag, value)


def release(
    run_id: str, *, model_name: str, alias: str, tags: Mapping[str, str], description: str
) -> int:
    """Make a version of the run's model unless there is one, point the alias to it; give it."""
    client = connect_to_write().MlflowClient()
    its = f"name = '{model_name}' and run_id = '{run_id}'"
    versions = [int(version.version) for version in client.search_model_versions(its)]
    if not versions:
        _make_sure_of(client, model_name)
        model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
        made = client.create_model_version(
            model_name,
            f"models:/{model_id}",
            run_id,
            tags=dict(tags),
            description=description[:LONGEST_DESCRIPTION],
            model_id=model_id,
        )
        versions = [int(made.version)]
    client.set_registered_model_alias(model_name, alias, str(max(versions)))
    return max(versions)


def _make_sure_of(client: Any, model_name: str) -> None:
    if not client.search_registered_models(f"name = '{model_name}'"):
        client.create_registered_model(model_name)
