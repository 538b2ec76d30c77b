"""XGBoost on a GPU against its `hist` on the processor: the same bins, the same settings."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import time
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
import xgboost

from bench.gpu.measuring import Bench, Facts, Measurements
from tasks import metrics
from tasks.encoder import MISSING, Dataset

TREES = {"cuda": 200, "cpu": 20}
MOST_SECONDS = 60.0
"""For which trees may grow at a time."""

SETTINGS = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "learning_rate": 0.1,
    "max_depth": 6,
    "seed": 1,
    "nthread": os.cpu_count(),
}


class InTime(xgboost.callback.TrainingCallback):
    """Stops the growth when its time is over."""

    def __init__(self) -> None:
        self.until = time.perf_counter() + MOST_SECONDS

    def after_iteration(self, _model: Any, _epoch: int, _log: Any) -> bool:
        """Tell whether to stop."""
        return time.perf_counter() > self.until


class Forest:
    """Trees on one table, whose bins are made once."""

    def __init__(self, bench: Bench) -> None:
        self.known, self.held_out = bench.parts
        self.trees = TREES[bench.device.type]

    @cached_property
    def bins(self) -> xgboost.QuantileDMatrix:
        """Make the bins, as the learner does: on the processor, where the arrays are."""
        return xgboost.QuantileDMatrix(**arguments(self.known))

    def binned(self) -> Iterator[Facts]:
        """Time the making of bins."""
        started = time.perf_counter()
        rows = self.bins.num_row()
        yield {"rows": rows, "seconds": time.perf_counter() - started}

    def binned_on_gpu(self) -> Iterator[Facts]:
        """Time the making of bins from an array on the GPU, for which XGBoost wants CuPy."""
        import cupy

        given = arguments(self.known)
        started = time.perf_counter()
        made = xgboost.QuantileDMatrix(**{**given, "data": cupy.asarray(given["data"])})
        yield {"rows": made.num_row(), "seconds": time.perf_counter() - started}

    def grown(self, device: str) -> Iterator[Facts]:
        """Time the growth; tell how good the trees are, and a hash of them."""
        bins, settings = self.bins, {**SETTINGS, "device": device}
        started = time.perf_counter()
        booster = xgboost.train(settings, bins, self.trees, callbacks=[InTime()])
        seconds, trees = time.perf_counter() - started, booster.num_boosted_rounds()
        yield {
            "trees": trees,
            "seconds": seconds,
            "trees_per_second": trees / seconds,
            "roc_auc": self.roc_auc(booster),
            "sha256": hashlib.sha256(booster.save_raw("ubj")).hexdigest()[:16],
        }

    def roc_auc(self, booster: xgboost.Booster) -> float:
        """Score the rows held out."""
        given = arguments(self.held_out)
        scores = booster.predict(xgboost.DMatrix(**given)).astype(np.float64)
        return metrics.roc_auc(metrics.tally(given["label"].astype(np.int64), scores))


def against_processor(bench: Bench) -> Measurements:
    """Grow trees on each device, on the GPU twice to compare the bytes."""
    forest = Forest(bench)
    found: Measurements = {"bins": forest.binned}
    # The first time on a GPU, the bins are copied there.
    growths = ("cuda", "cuda again", "cpu") if bench.on_gpu else ("cpu", "cpu again")
    found |= {name: partial(forest.grown, name.split()[0]) for name in growths}
    if bench.on_gpu and importlib.util.find_spec("cupy"):
        found["bins, by the GPU"] = forest.binned_on_gpu
    return found


def arguments(data: Dataset) -> Facts:
    """Give what a DMatrix is made of: categories are codes, with NaN where missing."""
    codes = data.categorical.astype(np.float32)
    codes[codes == MISSING] = np.nan
    return {
        "data": np.hstack([data.numeric, codes]),
        "label": data.target,
        "feature_types": ["q"] * data.numeric.shape[1] + ["c"] * codes.shape[1],
        "enable_categorical": True,
        "nthread": os.cpu_count(),
    }
