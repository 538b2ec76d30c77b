"""The model as MLflow serves it: raw example columns in, probabilities out.

MLflow runs this file where the model is loaded, beside copies of the modules that it imports (see
`tasks.packing`), so that nothing is pickled and no checkout is needed. No other module imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
from numpy.typing import NDArray

from tasks import models
from tasks.encoder import Encoder


def chosen(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """Keep the columns `names`; one that holds nothing but nulls has no type of its own.

    Raises MlflowException, which a server answers as a bad request, if columns are not there: a
    mistyped name must not become a null.
    """
    if absent := [name for name in names if name not in frame.columns]:
        raise mlflow.MlflowException.invalid_parameter_value(
            f"every column must be sent, null where unknown (missing: {', '.join(absent)})"
        )
    empty = [column.name for column in frame if column.null_count() == len(frame)]
    return frame.select(names).with_columns(
        pl.lit(None).alias(name) for name in names if name in empty
    )


class RawModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow's class is untyped
    """Encode raw example columns and score them, unknown categories and nulls too."""

    def load_context(self, context: Any) -> None:
        """Read the fitted encoder and the weights from the model's own folder."""
        self.encoder = Encoder.from_json(Path(context.artifacts["encoder"]).read_text("utf-8"))
        self.fitted = models.load(Path(context.artifacts["train"]))

    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow passes it
        model_input: pd.DataFrame,
    ) -> NDArray[np.float64]:
        """Give the probability of target = 1: float64 [rows]."""
        frame = chosen(pl.from_pandas(model_input), self.encoder.names)
        return self.fitted.predict(self.encoder.encode(frame))


mlflow.models.set_model(RawModel())
