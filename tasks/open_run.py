"""A run of MLflow that is being recorded, and all that can be written into it."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars import selectors

from tasks import packing
from tasks.store import MODEL

Scores = NDArray[np.float64]

NAMED_BY_MLFLOW: dict[Any, Any] = {
    selectors.date(): pl.Datetime,
    selectors.categorical() | selectors.enum(): pl.String,
    selectors.unsigned_integer(): pl.Int64,
    selectors.decimal(): pl.Float64,
}
"""How column types are stated in a dataset's schema: MLflow warns of those it has no name for."""

HISTORY = "history/"
"""How the names of metrics begin that have a value for each step of the training."""

LONGEST_PARAM = 6000
PARAMS_PER_REQUEST, METRICS_PER_REQUEST = 100, 1000
"""What MLflow's tables and requests can hold."""


@dataclass(frozen=True)
class OpenRun:
    """A run that is being recorded.

    known  name and step of the points that were recorded before: they are not recorded twice
    """

    run_id: str
    mlflow: Any
    known: AbstractSet[tuple[str, int]] = frozenset()

    def values(
        self,
        params: Mapping[str, Any],
        metrics: Iterable[tuple[str, float, int]],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record parameters, and metrics as (name, value, step); tags come last."""
        now, entities, client = time.time_ns() // 1_000_000, self.mlflow.entities, self._client()
        texts = [entities.Param(name, shown(value)) for name, value in params.items()]
        points = [
            entities.Metric(name, value, now, step)
            for name, value, step in metrics
            if (name, step) not in self.known
        ]
        marks = [entities.RunTag(name, value) for name, value in (tags or {}).items()]
        while texts or points or marks:
            batch = points[:METRICS_PER_REQUEST], texts[:PARAMS_PER_REQUEST]
            points, texts = points[METRICS_PER_REQUEST:], texts[PARAMS_PER_REQUEST:]
            is_last = not texts and not points
            client.log_batch(self.run_id, *batch, marks if is_last else ())
            marks = [] if is_last else marks

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
        self, learner: str, train_folder: Path, encoder: Path, *, example: pl.DataFrame
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
                pip_requirements=packing.requirements(learner),
                metadata={"columns": {name: str(kind) for name, kind in example.schema.items()}},
            )
        loaded = self.mlflow.pyfunc.load_model(logged.model_uri)
        sys.path = importable
        return loaded.predict  # type: ignore[no-any-return]

    def _client(self) -> Any:
        return self.mlflow.MlflowClient()


def shown(value: Any) -> str:
    """Give a parameter as the run tells it: JSON, or a text as it is, cut if it is long."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:LONGEST_PARAM]
