"""Where runs are recorded, and what can be asked of a local store without importing MLflow.

It is `MLFLOW_TRACKING_URI`, else `mlflow.db` in the working folder; the artifacts of a SQLite store
lie next to it, in `mlartifacts`. Importing MLflow takes seconds, a query a millisecond.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

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
    """A finished run, and the version of the registered model that was made of it, if any."""

    run_id: str
    experiment_id: str
    passed: bool
    version: int | None

    @property
    def complete(self) -> bool:
        """Tell whether nothing is left to do: a model that failed the gate gets no version."""
        return self.version is not None or not self.passed


def uri() -> str:
    """Say where runs are recorded; the path of a SQLite store is made absolute."""
    file = database()
    return _stated() if file is None else f"sqlite:///{file}"


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
    return not artifact_uri.startswith("/") or Path(artifact_uri).is_dir()


_FINISHED = """
    SELECT run.run_uuid, run.experiment_id, run.artifact_uri, gate.value, (
        SELECT max(version) FROM model_versions
        WHERE run_id = run.run_uuid AND name = :model_name
          AND current_stage <> 'Deleted_Internal')
    FROM runs AS run
    JOIN experiments AS experiment USING (experiment_id)
    JOIN tags AS lineage ON lineage.run_uuid = run.run_uuid AND lineage.key = 'lineage_key'
    JOIN tags AS gate ON gate.run_uuid = run.run_uuid AND gate.key = 'gate'
    WHERE lineage.value = :key AND experiment.name = :experiment AND run.status = 'FINISHED'
      AND run.lifecycle_stage = 'active' AND experiment.lifecycle_stage = 'active'
    ORDER BY run.start_time DESC
"""


def find(file: Path, key: str, *, experiment: str, model_name: str) -> Record | None:
    """Look up the newest finished run with this lineage key whose artifacts are still there.

    Raises sqlite3.Error if the file is no store of the MLflow that this was written for.
    """
    wanted = {"key": key, "experiment": experiment, "model_name": model_name}
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
        for run_id, experiment_id, artifact_uri, gate, version in store.execute(_FINISHED, wanted):
            if holds(artifact_uri):
                return Record(run_id, str(experiment_id), gate == "passed", version)
    return None


_PATHS = {  # table: column
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow_move(file: Path) -> None:
    """Tell a store that was moved or copied where its artifacts are now.

    MLflow makes every local path absolute, and would go on writing into the old folder.
    """
    new = str(file.with_name(ARTIFACTS))
    with closing(sqlite3.connect(file)) as store, store:
        for (old,) in store.execute(
            "SELECT DISTINCT artifact_location FROM experiments"
        ).fetchall():
            if old == new or Path(old).name != ARTIFACTS:
                continue
            for table, column in _PATHS.items():
                moved = f":new || substr({column}, length(:old) + 1)"
                below = f"substr({column} || '/', 1, length(:old) + 1) = :old || '/'"
                move = f"UPDATE {table} SET {column} = {moved} WHERE {below}"  # noqa: S608
                store.execute(move, {"old": old, "new": new})
