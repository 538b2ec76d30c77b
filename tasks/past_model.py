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
import os, sys
import mlflow, numpy, polars
def refuse(why):
    print(why, file=sys.stderr)
    sys.exit(os.EX_DATAERR)
uri, rows, scores, batch = sys.argv[1:]
frame = polars.read_parquet(rows, hive_partitioning=False).to_pandas()
model = mlflow.pyfunc.load_model(uri)
schema = model.metadata.get_input_schema()
if schema is None or not schema.has_input_names():
    refuse("a model that does not name its columns")
if missing := [name for name in schema.input_names() if name not in frame]:
    refuse(f"a model that also learned from {', '.join(missing)}")
step = int(batch) or max(len(frame), 1)
starts = range(0, max(len(frame), 1), step)
numpy.save(scores, numpy.concatenate([model.predict(frame[at : at + step]) for at in starts]))
"""
"""Names are compared first, so that the message is the same whatever the model does."""


class UnfitModelError(StageError):
    """A model cannot score these rows, whatever is tried: it has learned from other columns."""


@dataclass(frozen=True)
class PastModel:
    """A model as a run logged it: it scores in a process of its own, by the code it came with."""

    run_id: str

    def predict(self, frame: pl.DataFrame, *, batch_rows: int | None = None) -> NDArray[np.float64]:
        """Give the probability of target = 1 for raw example columns: float64 [rows].

        batch_rows  how many are scored at once; None: all

        Columns that it did not learn from are left aside.
        Raises UnfitModelError if it learned from columns that are not there, or does not give one
        score for each row, StageError if the store has no such model or does not answer.
        """
        store.follow_move()
        with tempfile.TemporaryDirectory() as folder:
            rows, scores = Path(folder, "rows.parquet"), Path(folder, "scores.npy")
            files.write_parquet(rows, frame)
            command = [sys.executable, "-I", "-c", _SCORE, f"runs:/{self.run_id}/{store.MODEL}"]
            answer = subprocess.run(
                [*command, str(rows), str(scores), str(batch_rows or 0)],
                cwd=folder,
                env={**store.QUIET, **os.environ, "MLFLOW_TRACKING_URI": store.uri()},
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.returncode != 0:
                kind = UnfitModelError if answer.returncode == os.EX_DATAERR else StageError
                raise self._unfit((answer.stderr.strip().splitlines() or ["no output"])[-1], kind)
            found = np.asarray(np.load(scores, allow_pickle=False), np.float64)
        if found.shape != (len(frame),):
            raise self._unfit(f"scores of shape {found.shape} for {len(frame)} rows")
        return found

    def _unfit(self, got: str, kind: type[StageError] = UnfitModelError) -> StageError:
        return kind(
            f"{store.shown()}: run {self.run_id!r} must hold a model of these columns "
            f"(got: {got})\n"
            "next: choose a run of the same recipe from `mlflow ui`, "
            "or set evaluate.baseline_run_id to null"
        )
