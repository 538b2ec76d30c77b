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


def complete(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """Keep the columns `names`; nulls stand for those not sent, and have no type of their own."""
    sent = {column.name for column in frame if column.null_count() < len(frame)}
    nulls = [pl.lit(None).alias(name) for name in names if name not in sent]
    return frame.with_columns(nulls).select(names)


class RawModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow's class is untyped
    """Encode raw example columns and score them: unknown categories, nulls, absent columns too."""

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
        frame = complete(pl.from_pandas(model_input), self.encoder.names)
        return self.fitted.predict(self.encoder.encode(frame))


mlflow.models.set_model(RawModel())
