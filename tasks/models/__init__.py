"""The learners: one module each, whose params section *is* the learner.

A new one is a module with a section that keeps to `Learner`, and one line in `Models`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from tasks import files
from tasks.checkpoints import Checkpoints
from tasks.devices import Device
from tasks.encoder import Dataset
from tasks.listeners import Judge, Report, approve
from tasks.models.network import Network
from tasks.models.trees import Trees
from tasks.params import Section


class Parts(Protocol):
    """What a training learns from and stops by, brought to where it computes."""

    @property
    def train(self) -> Dataset:
        """The rows to learn from."""
        ...

    @property
    def val(self) -> Dataset:
        """The rows to stop by."""
        ...

    def val_scores(self, fitted: Any) -> NDArray[np.float64]:
        """Give what `fitted.predict` gives of the rows to stop by, without bringing them again."""
        ...


class Fitted(Protocol):
    """A trained model."""

    @property
    def steps(self) -> int:
        """The steps that it is made of, and that a refit takes."""
        ...

    def predict(self, data: Dataset) -> NDArray[np.float64]:
        """Give the probability of target 1, [rows]."""
        ...

    def contributions(self, data: Dataset) -> NDArray[np.float64]:
        """Give what each feature adds in log-odds, and last the rest: [rows, features + 1]."""
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

    @property
    def processes(self) -> int:
        """How many processes train together."""
        ...

    @property
    def device(self) -> Device:
        """Where it trains."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether the same device gives the same bytes again."""
        ...

    def prepare(self, train: Dataset, val: Dataset) -> Parts:
        """Do what trainings on the same parts can share, even if they differ in what is searched.

        It depends on the learner, and on where it trains, alone.
        """
        ...

    def fit(
        self,
        parts: Any,
        *,
        seed: int,
        report: Report,
        checkpoints: Checkpoints,
        judge: Judge = approve,
    ) -> Fitted:
        """Train on one part and stop by the other; the same seed gives the same bytes.

        The parts are what `prepare` gave, of this section or of another one of its kind.

        It goes on from `checkpoints.latest()`, whose steps are not reported again, keeps its state
        when that is due, and keeps it at the end, so that what comes after can be cut off too.
        """
        ...

    def refit(
        self, data: Dataset, fitted: Any, *, seed: int, report: Report, checkpoints: Checkpoints
    ) -> Fitted:
        """Train anew on `data`, with as many steps as `fitted` has; checkpoints as in `fit`."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Fitted:
        """Read what `Fitted.save` wrote."""
        ...


class Models(Section):
    """The settings of each learner; only those of the chosen one take effect."""

    trees: Trees
    network: Network


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
