"""Score by the model of an earlier run, with the code it was logged with and not with today's.

That takes a process of its own, in which this repository cannot be imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import files, store
from tasks.errors import StageError

_SCORE = """
import sys
import mlflow, numpy, polars
model, rows, scores = sys.argv[1:]
frame = polars.read_parquet(rows, hive_partitioning=False).to_pandas()
numpy.save(scores, mlflow.pyfunc.load_model(model).predict(frame))
"""


@dataclass(frozen=True)
class PastModel:
    """A model as a run logged it: it scores in a process of its own, by the code it came with."""

    run_id: str

    def predict(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Give the probability of target = 1 for raw example columns: float64 [rows].

        Raises StageError if the store has no such model, or it cannot score these columns.
        """
        file = store.database()
        if file is not None and file.exists():
            store.follow_move(file)
        with tempfile.TemporaryDirectory() as folder:
            rows, scores = Path(folder, "rows.parquet"), Path(folder, "scores.npy")
            files.write_parquet(rows, frame)
            command = [sys.executable, "-I", "-c", _SCORE, f"runs:/{self.run_id}/{store.MODEL}"]
            answer = subprocess.run(
                [*command, str(rows), str(scores)],
                cwd=folder,
                env={**store.QUIET, **os.environ, "MLFLOW_TRACKING_URI": store.uri()},
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.returncode != 0:
                reason = (answer.stderr.strip().splitlines() or ["no output"])[-1]
                raise StageError(
                    f"{store.uri()}: run {self.run_id!r} must hold a model of these columns "
                    f"(got: {reason})\nnext: choose a run from `mlflow ui`"
                )
            return np.asarray(np.load(scores, allow_pickle=False), np.float64)
