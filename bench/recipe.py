"""The sweep that most people write, which ours is measured against.

Its objective reads the data, builds matrices, and opens a nested MLflow run, for every trial.

    python -m bench.recipe TRIALS SEED
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlflow
import optuna
import polars as pl
import xgboost

from flows import preflight
from flows.sweep.section import Dimension, dimensions
from tasks import metrics, seeds
from tasks.encoder import Encoder

FEATURIZED = Path("data/featurize")


def objective(trial: optuna.Trial) -> float:
    """Train with what Optuna suggests; give the validation ROC AUC."""
    values = preflight.check(needed=("sweep",))
    section = values["models"].trees.model_dump(exclude={"device"})
    space = dimensions(values["sweep"], "trees")
    suggested = {name: suggest(trial, name, each) for name, each in space.items()}
    settings = {**section, **suggested}
    rounds, patience = (settings.pop(name) for name in ("max_rounds", "early_stopping_rounds"))
    encoder = Encoder.from_json((FEATURIZED / "encoder.json").read_text())
    parts = [encoder.encode(pl.read_parquet(FEATURIZED / f"{name}.parquet")) for name in _PARTS]
    train, val = (xgboost.DMatrix(part.numeric, label=part.target, nthread=1) for part in parts)
    fixed = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1}
    with mlflow.start_run(run_name=f"trial-{trial.number}", nested=True):
        mlflow.log_params(suggested)
        booster = xgboost.train(
            {**settings, **fixed, "seed": seeds.derive(values["seed"], "train")},
            train,
            num_boost_round=rounds,
            evals=[(val, "val")],
            early_stopping_rounds=patience,
            verbose_eval=False,
        )
        kept = (0, booster.best_iteration + 1)
        scores = booster.predict(val, iteration_range=kept).astype(float)
        auc = metrics.roc_auc(metrics.tally(parts[1].target.astype(int), scores))
        mlflow.log_metric("val_roc_auc", auc)
    return auc


def suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """Have Optuna draw a parameter."""
    if isinstance(dimension, list):
        return trial.suggest_categorical(name, dimension)
    draw = trial.suggest_int if isinstance(dimension.low, int) else trial.suggest_float
    return draw(name, dimension.low, dimension.high, log=dimension.log)


_PARTS = ("train", "val")


def main() -> None:
    """Run the trials, and print the best value."""
    trials, seed = map(int, sys.argv[1:])
    mlflow.set_tracking_uri("sqlite:///recipe.db")
    mlflow.set_experiment("recipe")
    study = optuna.create_study(
        direction="maximize",
        storage="sqlite:///recipe-trials.db",
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    with mlflow.start_run(run_name="recipe"):
        study.optimize(objective, n_trials=trials)
    print(f"best {study.best_value}")


if __name__ == "__main__":
    main()
