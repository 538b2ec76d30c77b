"""The learner `trees`: gradient-boosted trees, grown by XGBoost's `hist` method.

Trees are added until the validation log loss has stopped improving; those after the best are
dropped. The model's bytes depend on data, parameters and seed, and not on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from tasks import files
from tasks.encoder import MISSING, Dataset
from tasks.errors import ParamsError
from tasks.params import Section

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix
    from xgboost.callback import TrainingCallback

Report = Callable[[int, dict[str, float]], None]

SMALL = 10_000_000
"""Values below which one thread works: more gain little then, and lose much on a busy machine."""


class Trees(Section):
    """Gradient-boosted trees."""

    learning_rate: float = Field(gt=0, le=1, description="share of its step that a tree takes")
    max_depth: int = Field(ge=1, le=16, description="most splits between root and leaf")
    min_child_weight: float = Field(ge=0, description="least sum of p(1-p) over a leaf's rows")
    subsample: float = Field(gt=0, le=1, description="share of the rows drawn for a tree")
    colsample_bynode: float = Field(gt=0, le=1, description="share of the features per split")
    reg_lambda: float = Field(ge=0, description="L2 penalty on the values of leaves")
    max_rounds: int = Field(ge=1, description="most trees")
    early_stopping_rounds: int = Field(ge=1, description="trees without a better val log loss")

    @property
    def steps(self) -> int:
        """The most trees that `fit` grows."""
        return self.max_rounds

    def fit(self, train: Dataset, val: Dataset, *, seed: int, report: Report) -> FittedTrees:
        """Grow trees on one part until the other's log loss stops improving.

        Raises ParamsError if no tree that is kept has a split: such a model has learned nothing.
        """
        import xgboost

        known = _matrix(train)
        booster = xgboost.train(
            self._settings(train, seed),
            known,
            num_boost_round=self.max_rounds,
            evals=[(known, "train"), (_matrix(val), "val")],
            early_stopping_rounds=self.early_stopping_rounds,
            verbose_eval=False,
            callbacks=[_reporting(report)],
        )
        kept = booster[: booster.best_iteration + 1]
        if not kept.get_score(importance_type="weight"):
            raise ParamsError(self._why_no_split(train))
        return FittedTrees(kept, train.names)

    def refit(self, data: Dataset, fitted: FittedTrees, *, seed: int) -> FittedTrees:
        """Grow as many trees as `fitted` has on other data."""
        import xgboost

        rounds = fitted.booster.num_boosted_rounds()
        settings = self._settings(data, seed)
        booster = xgboost.train(settings, _matrix(data), num_boost_round=rounds)
        return FittedTrees(booster, data.names)

    @classmethod
    def load(cls, folder: Path) -> FittedTrees:
        """Read what `FittedTrees.save` wrote."""
        import xgboost

        booster = xgboost.Booster(model_file=folder / "model.ubj")
        return FittedTrees(booster, tuple(files.read_json(folder / "learner.json")["features"]))

    def _settings(self, data: Dataset, seed: int) -> dict[str, Any]:
        return {
            **self.model_dump(exclude={"max_rounds", "early_stopping_rounds"}),
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "device": "cpu",
            "nthread": _threads(data),
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
    """A grown model; `features` are the names of its columns, numeric ones first."""

    booster: Booster
    features: tuple[str, ...]

    def predict(self, data: Dataset) -> NDArray[np.float64]:
        """Give the probability of target 1, [rows]."""
        return self._predict(data)

    def contributions(self, data: Dataset) -> NDArray[np.float64]:
        """Give what each feature adds in log-odds, and last the bias: [rows, features + 1].

        The SHAP values of Lundberg et al. (2018), arXiv:1802.03888, as XGBoost computes them.
        """
        return self._predict(data, pred_contribs=True)

    def importance(self) -> pl.DataFrame:
        """Give `feature` and `gain` (the mean over its splits), the most important first."""
        gains = self.booster.get_score(importance_type="gain")
        rows = {
            "feature": list(self.features),
            "gain": [float(gains.get(f"f{i}", 0)) for i in range(len(self.features))],
        }
        return pl.DataFrame(rows).sort("gain", "feature", descending=[True, False])

    def save(self, folder: Path) -> None:
        """Write `model.ubj` and `learner.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.ubj").write_bytes(self.booster.save_raw("ubj"))
        learner = {
            "model": "trees",
            "features": list(self.features),
            "trees": self.booster.num_boosted_rounds(),
        }
        files.write_json(folder / "learner.json", learner)

    def _predict(self, data: Dataset, **what: bool) -> NDArray[np.float64]:
        self.booster.set_param({"nthread": _threads(data)})
        values: NDArray[np.float32] = self.booster.predict(_matrix(data), **what)
        return values.astype(np.float64)


def _threads(data: Dataset) -> int:
    """Give 1 for small data, else 0, which XGBoost reads as all, or as OMP_NUM_THREADS."""
    return 1 if len(data) * len(data.names) < SMALL else 0


def _matrix(data: Dataset) -> DMatrix:
    """Give XGBoost the values themselves, with a missing category as NaN.

    Not as a `QuantileDMatrix`: without the training part's bins it would predict from others.
    """
    import xgboost

    codes = data.categorical.astype(np.float32)
    codes[codes == MISSING] = np.nan
    return xgboost.DMatrix(
        np.hstack([data.numeric, codes]),
        label=data.target,
        nthread=_threads(data),
        feature_types=["q"] * data.numeric.shape[1] + ["c"] * codes.shape[1],
        enable_categorical=True,
    )


def _reporting(report: Report) -> TrainingCallback:
    """Pass on the log loss of each part after each tree, counted from 1."""
    from xgboost.callback import TrainingCallback

    class Reporting(TrainingCallback):  # type: ignore[misc]  # xgboost is skipped by mypy
        def after_iteration(self, _: Any, epoch: int, evals_log: Any) -> bool:
            losses = {f"{part}_log_loss": log["logloss"][-1] for part, log in evals_log.items()}
            report(epoch + 1, losses)
            return False

    return Reporting()
