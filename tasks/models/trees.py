"""The learner `trees`: gradient-boosted trees, grown by XGBoost's `hist` method.

Trees are added until the validation log loss has stopped improving; those after the best are
dropped. The model's bytes depend on data, parameters, seed and device, and not on the number of
threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks import files
from tasks.checkpoints import Checkpoints
from tasks.devices import Device, resolve
from tasks.encoder import Dataset
from tasks.errors import ParamsError
from tasks.listeners import Judge, Report, approve
from tasks.models import boosting
from tasks.models.boosting import Growth
from tasks.params import Section

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix, QuantileDMatrix


SECONDS_BETWEEN_SCORES = 2.0
"""Of a refit."""


@dataclass(frozen=True)
class Bins:
    """The parts of a table as trees are grown on them.

    matrices  of `train` and `val`, by these names
    """

    train: Dataset
    val: Dataset
    matrices: Mapping[str, QuantileDMatrix]

    def val_scores(self, fitted: FittedTrees) -> NDArray[np.float64]:
        """Give the probability of target 1 of each row of `val`."""
        return fitted.score(self.val, self.matrices["val"])


class Trees(Section):
    """Gradient-boosted trees."""

    learning_rate: float = Field(gt=0, le=1, description="share of its step that a tree takes")
    max_depth: int = Field(ge=1, le=16, description="most splits between root and leaf")
    min_child_weight: float = Field(ge=0, description="least sum of p(1-p) over a leaf's rows")
    subsample: float = Field(gt=0, le=1, description="share of the rows drawn for a tree")
    colsample_bynode: float = Field(gt=0, le=1, description="share of the features per split")
    reg_lambda: float = Field(ge=0, description="L2 penalty on the values of leaves")
    device: Device = Field(description="where trees grow: cpu, cuda, or auto for cuda if there is")
    max_rounds: int = Field(ge=1, description="most trees")
    early_stopping_rounds: int = Field(ge=1, description="trees without a better val log loss")

    @property
    def steps(self) -> int:
        """The most trees that `fit` grows."""
        return self.max_rounds

    @property
    def processes(self) -> int:
        """One: its threads share the work."""
        return 1

    @property
    def deterministic(self) -> bool:
        """Yes, on a GPU too."""
        return True

    def prepare(self, train: Dataset, val: Dataset) -> Bins:
        """Cut both parts into the bins that the trees of any setting are grown on."""
        with boosting.memory_of(self._device(), train):
            known = boosting.binned(train)
            return Bins(train, val, {"train": known, "val": boosting.binned(val, known)})

    def fit(
        self,
        parts: Bins,
        *,
        seed: int,
        report: Report,
        checkpoints: Checkpoints,
        judge: Judge = approve,
    ) -> FittedTrees:
        """Grow trees on one part until the other's log loss stops improving.

        Raises ParamsError if no tree that is kept has a split: such a model has learned nothing.
        """
        device, train = self._device(), parts.train
        with boosting.memory_of(device, train):
            growth = Growth(self._settings(train, seed), parts.matrices, checkpoints)
            best = growth.values.setdefault("best", {"step": 0, "loss": float("inf")})
            while growth.step < min(self.max_rounds, best["step"] + self.early_stopping_rounds):
                growth.add()
                losses = growth.losses()
                report(growth.step, losses)
                judge(growth.step, partial(growth.predict, "val"))
                if growth.step == 1 or losses["val_log_loss"] < best["loss"]:
                    best |= {"step": growth.step, "loss": losses["val_log_loss"]}
                growth.keep_if_due()
            growth.keep()
        kept = growth.booster.reset()[: best["step"]]
        if not kept.get_score(importance_type="weight"):
            raise ParamsError(self._why_no_split(train))
        return FittedTrees(kept, train.names, device)

    def refit(
        self,
        data: Dataset,
        fitted: FittedTrees,
        *,
        seed: int,
        report: Report,
        checkpoints: Checkpoints,
    ) -> FittedTrees:
        """Grow as many trees as `fitted` has on other data.

        The log loss is of no consequence here and takes time, so not every step is scored.
        """
        device, scored_at = self._device(), float("-inf")
        with boosting.memory_of(device, data):
            parts = {"refit_train": boosting.binned(data)}
            growth = Growth(self._settings(data, seed), parts, checkpoints)
            while growth.step < fitted.steps:
                growth.add()
                since = time.monotonic() - scored_at
                if since > SECONDS_BETWEEN_SCORES or growth.step == fitted.steps:
                    report(growth.step, growth.losses())
                    scored_at = time.monotonic()
                growth.keep_if_due()
            growth.keep()
        return FittedTrees(growth.booster.reset(), data.names, device)

    @classmethod
    def load(cls, folder: Path) -> FittedTrees:
        """Read what `FittedTrees.save` wrote."""
        import xgboost

        booster = xgboost.Booster(model_file=folder / "model.ubj")
        learner = files.read_json(folder / "learner.json")
        return FittedTrees(booster, tuple(learner["features"]), learner["device"])

    def _device(self) -> str:
        return resolve(self.device, "models.trees.device")

    def _settings(self, data: Dataset, seed: int) -> dict[str, Any]:
        return {
            **self.model_dump(exclude={"device", "max_rounds", "early_stopping_rounds"}),
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "device": self._device(),
            "nthread": boosting.threads(data),
            "seed": seed,
        }

    def _why_no_split(self, train: Dataset) -> str:
        """Say which setting keeps trees from splitting, or that it may be the features.

        Before the first tree p is the base rate, so a tree's rows weigh at most `weight` in all,
        and either side of a split needs `min_child_weight` of it.
        """
        rows, rate = len(train), 0.0 if train.target is None else float(train.target.mean())
        weight = self.subsample * rows * rate * (1 - rate)
        if 2 * self.min_child_weight > weight:
            return (
                f"params.yaml: models.trees.min_child_weight: must let trees split (got "
                f"{self.min_child_weight:g} on {rows} rows): lower it below {weight / 2:.3g}, half "
                "of what a tree's rows weigh, and well below for deep trees\n"
                f"or raise models.trees.subsample ({self.subsample:g})\nnext: dvc repro"
            )
        return (
            f"params.yaml: models.trees: must let trees find a split that helps on val (got none "
            f"on {rows} rows): lower reg_lambda ({self.reg_lambda:g}) or min_child_weight "
            f"({self.min_child_weight:g}), raise subsample ({self.subsample:g}) or "
            f"colsample_bynode ({self.colsample_bynode:g})\n"
            "or see whether the features tell anything about the target\nnext: dvc repro"
        )


@dataclass(frozen=True)
class FittedTrees:
    """A grown model.

    features  names of its columns, numeric ones first
    device    where it has grown; it predicts on the processor, to the same bits everywhere
    """

    booster: Booster
    features: tuple[str, ...]
    device: str

    @property
    def steps(self) -> int:
        """The number of trees."""
        return int(self.booster.num_boosted_rounds())

    def predict(self, data: Dataset) -> NDArray[np.float64]:
        """Give the probability of target 1, [rows]."""
        return self.score(data, boosting.matrix(data))

    def contributions(self, data: Dataset) -> NDArray[np.float64]:
        """Give what each feature adds in log-odds, and last the bias: [rows, features + 1].

        The SHAP values of Lundberg et al. (2018), arXiv:1802.03888, as XGBoost computes them.
        """
        return self.score(data, boosting.matrix(data), pred_contribs=True)

    def save(self, folder: Path) -> None:
        """Write `model.ubj` and `learner.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.ubj").write_bytes(self.booster.save_raw("ubj"))
        learner = {
            "model": "trees",
            "features": list(self.features),
            "trees": self.steps,
            "device": self.device,
            "deterministic": True,
        }
        files.write_json(folder / "learner.json", learner)

    def score(self, data: Dataset, matrix: DMatrix, **what: bool) -> NDArray[np.float64]:
        """Give what XGBoost says of each row, whose values may be cut into the trees' own bins."""
        self.booster.set_param({"nthread": boosting.threads(data), "device": "cpu"})
        values: NDArray[np.float32] = self.booster.predict(matrix, **what)
        return values.astype(np.float64)
