"""The learners: one module each, whose params section *is* the learner.

A new one is a module with a section that keeps to `Learner`, and one line in `Models`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator

from tasks import files
from tasks.encoder import Dataset
from tasks.models.trees import Trees
from tasks.params import Section

Report = Callable[[int, dict[str, float]], None]
"""Takes the number of a step, from 1, and its scores: `train_log_loss`, `val_log_loss`, ..."""


class Fitted(Protocol):
    """A trained model."""

    def predict(self, data: Dataset) -> NDArray[np.float64]:
        """Give the probability of target 1, [rows]."""
        ...

    def contributions(self, data: Dataset) -> NDArray[np.float64]:
        """Give what each feature adds in log-odds, and last the bias: [rows, features + 1]."""
        ...

    def importance(self) -> pl.DataFrame:
        """Give `feature` and `gain`, the most important first."""
        ...

    def save(self, folder: Path) -> None:
        """Write the weights, and `learner.json`, whose `model` names the learner."""
        ...


class Learner(Protocol):
    """A params section that trains."""

    @property
    def steps(self) -> int:
        """The most steps that `fit` takes."""
        ...

    def fit(self, train: Dataset, val: Dataset, *, seed: int, report: Report) -> Fitted:
        """Train on one part and stop by the other; the same seed gives the same bytes."""
        ...

    def refit(self, data: Dataset, fitted: Any, *, seed: int) -> Fitted:
        """Train anew on `data`, with as many steps as `fitted` kept."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Fitted:
        """Read what `Fitted.save` wrote."""
        ...


class Models(Section):
    """The settings of each learner; only those of the chosen one take effect."""

    trees: Trees


def known(model: str) -> str:
    """Give the name back if it is that of a learner; raise ValueError if not."""
    if model not in Models.model_fields:
        raise ValueError(f"must be one of {', '.join(Models.model_fields)}")
    return model


ModelName = Annotated[str, AfterValidator(known)]
"""The name of a learner, as `model` in params.yaml."""


def chosen(models: Models, model: str) -> Learner:
    """Pick the learner by its name."""
    return cast(Learner, getattr(models, known(model)))


def load(folder: Path) -> Fitted:
    """Read the trained model that a learner left in `folder`."""
    model = known(files.read_json(folder / "learner.json")["model"])
    return cast(type[Learner], Models.model_fields[model].annotation).load(folder)
