"""The learner `network`: an ensemble of small neural networks that share most of their weights.

Built as the best of the field for tables (see `tasks.neural.architecture`), trained by AdamW with a
rate that rises and falls, until the validation log loss has stopped improving; the weights of the
best epoch are kept, and its probabilities are calibrated on the validation part. On the processor,
the weights depend on data, parameters, seed and `threads`; on a GPU also on card and driver.

Everything that computes imports PyTorch, and is imported where it is needed: here are the
parameters, and what is done with a network once it is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks import devices, files
from tasks.checkpoints import Checkpoints
from tasks.devices import Device
from tasks.encoder import Dataset
from tasks.errors import ParamsError
from tasks.listeners import Judge, Report, approve
from tasks.params import Section

if TYPE_CHECKING:
    from tasks.neural.architecture import Network as Module
    from tasks.neural.architecture import Shape
    from tasks.neural.fitting import Trained
    from tasks.neural.tables import Placed, Table

Floats = NDArray[np.float64]

KEY = "models.network"

THREADS = 1
"""Of the processor, when a trained network scores: so its bits are the same everywhere."""


class Network(Section):
    """An ensemble of MLPs on embeddings."""

    members: int = Field(ge=1, le=1024, description="networks in the ensemble, which share the MLP")
    width: int = Field(ge=1, le=65536, description="units of a hidden layer")
    depth: int = Field(ge=1, le=64, description="hidden layers")
    dropout: float = Field(ge=0, lt=1, description="share of hidden units left out of a step")
    number_bins: int = Field(
        ge=1, le=1024, description="pieces that quantiles cut a number into, at most"
    )
    number_embedding: int = Field(ge=1, le=4096, description="length of the vector of a number")
    category_embedding: int = Field(ge=1, le=4096, description="length of that of a category")
    learning_rate: float = Field(gt=0, description="the highest of the schedule")
    warmup_epochs: float = Field(ge=0, description="epochs over which the learning rate rises")
    weight_decay: float = Field(ge=0, description="share of it that weights lose, times the rate")
    gradient_clip_norm: float = Field(gt=0, description="longest gradient of a step")
    class_weight: Literal["none", "balanced"] = Field(
        description="balanced: the rarer class weighs as much as the other; scores stay calibrated"
    )
    max_epochs: int = Field(ge=1, description="most passes over the training rows")
    early_stopping_epochs: int = Field(ge=1, description="epochs without a better val log loss")
    batch_size: int = Field(ge=1, description="rows of a step, over all processes")
    micro_batch_size: int = Field(
        ge=1, description="rows computed at once: what fits into memory; gradients are summed up"
    )
    device: Device = Field(description="auto: cuda where CUDA finds a GPU, else cpu")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        description="of products; auto: half on a GPU, bfloat16 where the card has it"
    )
    threads: int = Field(
        ge=1, le=256, description="of the processor; another number gives other bits"
    )
    processes: int = Field(ge=1, description="that share each batch; on GPUs, one per card")
    compile: bool = Field(description="whether to compile by torch.compile, which takes a minute")
    deterministic: bool = Field(
        description="whether the same card and driver must give the same bytes again"
    )

    @property
    def steps(self) -> int:
        """The most epochs that `fit` takes."""
        return self.max_epochs

    def prepare(self, train: Dataset, val: Dataset) -> Placed:
        """Copy both parts to the device; raises ParamsError if its memory runs out."""
        return self._place(train, val)

    def fit(
        self,
        parts: Placed,
        *,
        seed: int,
        report: Report,
        checkpoints: Checkpoints,
        judge: Judge = approve,
    ) -> FittedNetwork:
        """Train until validation stops improving, and calibrate by it.

        Raises ParamsError if the device is absent, memory runs out or the loss leaves all bounds.
        """
        from tasks.neural import calibration

        trained = self._train(
            parts,
            epochs=self.max_epochs,
            seed=seed,
            report=report,
            checkpoints=checkpoints,
            judge=judge,
        )
        slope, intercept = calibration.fit(trained.log_odds, _target(parts.val))
        return FittedNetwork(
            network=trained.network,
            shape=trained.shape,
            features=parts.train.names,
            epochs=trained.epochs,
            slope=round(slope, files.DIGITS),
            intercept=round(intercept, files.DIGITS),
            device=self._device(),
            deterministic=self.deterministic,
        )

    def refit(
        self,
        data: Dataset,
        fitted: FittedNetwork,
        *,
        seed: int,
        report: Report,
        checkpoints: Checkpoints,
    ) -> FittedNetwork:
        """Train anew for as many epochs, and keep the calibration: no row is left to redo it."""

        def renamed(step: int, scores: dict[str, float]) -> None:
            report(step, {f"refit_{name}": score for name, score in scores.items()})

        trained = self._train(
            self._place(data, None),
            epochs=fitted.epochs,
            seed=seed,
            report=renamed,
            checkpoints=checkpoints,
        )
        return replace(fitted, network=trained.network, shape=trained.shape)

    @classmethod
    def load(cls, folder: Path) -> FittedNetwork:
        """Read what `FittedNetwork.save` wrote."""
        from safetensors.torch import load_file

        from tasks.neural.architecture import Network as Module
        from tasks.neural.architecture import Shape

        learner = files.read_json(folder / "learner.json")
        shape = Shape(**learner["architecture"])
        network = Module(shape)
        network.load_state_dict(load_file(folder / "model.safetensors"))
        return FittedNetwork(
            network=network,
            shape=shape,
            features=tuple(learner["features"]),
            epochs=learner["epochs"],
            slope=learner["slope"],
            intercept=learner["intercept"],
            device=learner["device"],
            deterministic=learner["deterministic"],
        )

    def _place(self, train: Dataset, val: Dataset | None) -> Placed:
        from tasks.neural import fitting

        with self._memory_for(train):
            return fitting.place(train, val, device=self._device())

    def _train(self, parts: Placed, **settings: Any) -> Trained:
        from tasks.neural import fitting, memory

        memory.check(self, parts.train, self._device())
        with self._memory_for(parts.train):
            return fitting.train(self, parts, device=self._device(), **settings)

    def _device(self) -> Literal["cpu", "cuda"]:
        return devices.resolve(self.device, f"{KEY}.device")

    @contextmanager
    def _memory_for(self, data: Dataset) -> Iterator[None]:
        """Raise ParamsError with advice where PyTorch says that memory ran out."""
        from tasks.neural import computing

        try:
            yield
        except RuntimeError as error:
            if not computing.is_out_of_memory(error):
                raise
            raise ParamsError(self._why_no_memory(data)) from error

    def _why_no_memory(self, data: Dataset) -> str:
        rows = min(self.micro_batch_size, self.batch_size, len(data))
        return (
            f"params.yaml: {KEY}.micro_batch_size: must fit into memory (got {rows} rows at once, "
            f"beside a table of {len(data)} rows and {len(data.names)} features): lower it; "
            "batch_size stays what a step learns from\n"
            "next: python -m flows profile, which tells the largest that fits, if the table does"
        )


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network, on the processor.

    features          names of the columns, numeric ones first
    epochs            how many led to the weights
    slope, intercept  of the line from its log-odds to calibrated ones
    device            where it was trained; `deterministic` whether so that it comes out again
    """

    network: Module
    shape: Shape
    features: tuple[str, ...]
    epochs: int
    slope: float
    intercept: float
    device: str
    deterministic: bool

    @property
    def steps(self) -> int:
        """The number of epochs."""
        return self.epochs

    def predict(self, data: Dataset) -> Floats:
        """Give the probability of target 1, [rows]."""
        from tasks.neural.tables import Table

        return self.scores(Table.of(data))

    def scores(self, table: Table) -> Floats:
        """Give the probability of target 1 of rows on the network's device, [rows]."""
        from tasks.neural import calibration, computing, tables

        with computing.settled(threads=THREADS):
            log_odds = tables.predict(self.network, table)
        return calibration.probability(self.slope * log_odds + self.intercept)

    def contributions(self, data: Dataset) -> Floats:
        """Give what each feature adds in log-odds, and last the rest: [rows, features + 1].

        Integrated gradients, see `tasks.neural.attribution`.
        """
        from tasks.neural import attribution, computing, tables

        with computing.settled(threads=THREADS):
            table = tables.Table.of(data)
            added = self.slope * attribution.contributions(self.network, self.shape, table)
        added[:, -1] += self.intercept
        return added

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `learner.json`."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(save(self.network.state_dict()))
        learner = {
            "model": "network",
            "features": list(self.features),
            "architecture": asdict(self.shape),
            "weights": sum(each.numel() for each in self.network.parameters()),
            "epochs": self.epochs,
            "slope": self.slope,
            "intercept": self.intercept,
            "device": self.device,
            "deterministic": self.deterministic,
        }
        files.write_json(folder / "learner.json", learner)


def _target(data: Dataset | None) -> NDArray[np.float32]:
    if data is None or data.target is None:
        raise ValueError("examples to train on must have a target")
    return data.target
