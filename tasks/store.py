"""Where runs are recorded, and what can be asked of a local store without importing MLflow.

It is `MLFLOW_TRACKING_URI`, else `mlflow.db` in the working folder; the artifacts of a SQLite store
lie next to it, in `mlartifacts`. Importing MLflow takes seconds, a query a millisecond.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import TemporaryError, VerbatimError
from tasks.params import NAMED

DEFAULT = "sqlite:///mlflow.db"
ARTIFACTS = "mlartifacts"

LINEAGE_KEY, GATE = "lineage_key", "gate"
"""Tags of a run: what determined it, and `passed` or `failed`."""

MODEL = "model"
"""The name of the logged model within its run."""

QUIET = {
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Settings that MLflow reads when it is imported; what the environment says goes first."""


@dataclass(frozen=True)
class Record:
    """A finished run, and the version of the registered model that was made of it, if any.

    aliased   whether the alias that was asked for points to this version
    """

    run_id: str
    experiment_id: str
    passed: bool
    version: int | None
    aliased: bool

    @property
    def complete(self) -> bool:
        """Tell whether nothing is left to do: a model that failed the gate gets no version."""
        return (self.version is not None and self.aliased) or not self.passed


def uri() -> str:
    """Say where runs are recorded; the path of a SQLite store is made absolute."""
    file = database()
    return _stated() if file is None else f"sqlite:///{file}"


def shown() -> str:
    """Say it without the name, and perhaps a password, that a server may be asked with."""
    return NAMED.sub("://", uri())


def look() -> str:
    """Say what to type, or to open, to look at it."""
    place = shown()
    is_served = place.startswith("http")
    return f"open {place}" if is_served else f"mlflow ui --backend-store-uri {place}"


def database() -> Path | None:
    """Give the absolute path of a SQLite store's file; None for any other store."""
    scheme, _, path = _stated().partition(":///")
    return Path(path.partition("?")[0]).resolve() if scheme == "sqlite" else None


def _stated() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def artifacts() -> str | None:
    """Give the folder for the artifacts of a SQLite store; None where the server decides."""
    file = database()
    return None if file is None else str(file.with_name(ARTIFACTS))


def holds(artifact_uri: str) -> bool:
    """Tell whether a local folder of artifacts exists; of a remote one it is assumed."""
    return not artifact_uri.startswith("/") or located(artifact_uri) is not None


def located(artifact_uri: str) -> Path | None:
    """Give the local folder that artifacts lie in; None if it is gone, or they are elsewhere.

    It may also have moved along with the store: to the same place below the new `mlartifacts`.
    """
    new, place = artifacts(), artifact_uri.rpartition(f"/{ARTIFACTS}/")[2]
    places = [Path(artifact_uri)] if new is None else [Path(artifact_uri), Path(new, place)]
    is_local = artifact_uri.startswith("/")
    return next((each for each in places if is_local and each.is_dir()), None)


@contextmanager
def reachable() -> Iterator[None]:
    """Raise TemporaryError for what MLflow raises because the store does not answer now."""
    try:
        yield
    except Exception as error:
        if isinstance(error, VerbatimError) or not _may_pass(error):
            raise
        raise TemporaryError(
            f"{shown()}: must answer (got: {error})\n"
            "next: start the MLflow server and the store of its artifacts, or end what holds it, "
            "and try again"
        ) from error


def _may_pass(error: BaseException) -> bool:
    """Look for the cause: no connection, a locked file, or a server that says "not now"."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionError | TimeoutError | socket.gaierror):
            return True
        if _is_busy(seen) or _is_unserved(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    said = getattr(error, "error_code", None)
    return database() is None and said == "TEMPORARILY_UNAVAILABLE"


SERVER_FAULT = 500
"""From which number on an HTTP status says that the request was not at fault."""


def _is_unserved(error: BaseException) -> bool:
    """Tell whether a server broke off, or blames itself, as MLflow's does of its artifact store."""
    from requests import exceptions as http

    if isinstance(error, http.HTTPError):
        return error.response is not None and bool(error.response.status_code >= SERVER_FAULT)
    broken = http.ConnectionError, http.Timeout, http.RetryError, http.ChunkedEncodingError
    return isinstance(error, broken)


def _is_busy(error: BaseException) -> bool:
    """Tell whether SQLite gave up waiting for another process."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return bool(code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


_FINISHED = """
    SELECT run.run_uuid, run.experiment_id, run.artifact_uri, gate.value, (
        SELECT max(version) FROM model_versions
        WHERE run_id = run.run_uuid AND name = :model_name
          AND current_stage <> 'Deleted_Internal'), (
        SELECT version FROM registered_model_aliases
        WHERE name = :model_name AND alias = :alias)
    FROM runs AS run
    JOIN experiments AS experiment USING (experiment_id)
    JOIN tags AS lineage ON lineage.run_uuid = run.run_uuid AND lineage.key = 'lineage_key'
    JOIN tags AS gate ON gate.run_uuid = run.run_uuid AND gate.key = 'gate'
    WHERE lineage.value = :key AND experiment.name = :experiment AND run.status = 'FINISHED'
      AND run.lifecycle_stage = 'active' AND experiment.lifecycle_stage = 'active'
    ORDER BY run.start_time DESC
"""


def find(file: Path, key: str, *, experiment: str, model_name: str, alias: str) -> Record | None:
    """Look up the newest finished run with this lineage key whose artifacts are still there.

    Raises sqlite3.Error if the file is no store of the MLflow that this was written for.
    """
    wanted = {"key": key, "experiment": experiment, "model_name": model_name, "alias": alias}
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
        for run_id, place, artifact_uri, gate, version, aliased in store.execute(_FINISHED, wanted):
            if holds(artifact_uri):
                current = version is not None and version == aliased
                return Record(run_id, str(place), gate == "passed", version, current)
    return None


_PATHS = {  # table: column
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


PATIENCE_SECONDS = 5.0
"""How long to wait for another process that writes to a SQLite store."""


def follow_move() -> None:
    """Tell a SQLite store that was moved or copied where its artifacts are now.

    MLflow makes every local path absolute, and would go on writing into the old folder. That they
    came along is seen by a run that the store names, found next to it; else nothing is changed.
    Raises TemporaryError if another process keeps the store locked.
    """
    file = database()
    if file is None or not file.exists():
        return
    here = str(file.with_name(ARTIFACTS))
    try:
        with closing(sqlite3.connect(file, timeout=PATIENCE_SECONDS)) as store, store:
            places = store.execute("SELECT DISTINCT artifact_location FROM experiments")
            for (old,) in places.fetchall():
                if old != here and Path(old).name == ARTIFACTS and _came_along(store, old, here):
                    _replace(store, old, here)
    except sqlite3.Error as error:  # MLflow itself says what else is wrong with the file
        if _is_busy(error):
            raise TemporaryError(
                f"{file}: must be free to be written (got: {error})\n"
                "next: end what else writes to it, and try again"
            ) from error


def _came_along(store: sqlite3.Connection, old: str, new: str) -> bool:
    below = "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, length(:old) + 1) = :below"
    runs = store.execute(below, {"old": old, "below": f"{old}/"})
    return any(Path(new + uri[len(old) :]).is_dir() for (uri,) in runs)


def _replace(store: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _PATHS.items():
        moved = f":new || substr({column}, length(:old) + 1)"
        below = f"substr({column} || '/', 1, length(:old) + 1) = :old || '/'"
        move = f"UPDATE {table} SET {column} = {moved} WHERE {below}"  # noqa: S608
        store.execute(move, {"old": old, "new": new})
