"""Train one learner as the stage `train` does, and print seconds and scores as a line of JSON.

python -m bench.fits network
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from tasks import checkpoints, metrics, params, seeds, train
from tasks.encoder import Dataset
from tasks.models import Fitted, Models, chosen

FEATURIZED = Path("data/featurize")


def main() -> None:
    """Fit, refit and score the learner that the command line names."""
    given = params.read({"models": Models, "seed": int})
    learner, own = chosen(given["models"], sys.argv[1]), seeds.derive(given["seed"], "train")
    read = partial(train.encoded, FEATURIZED)
    parts = {name: read(name) for name in ("train", "val", "test")}
    known = read("train", "between", "val")
    with checkpoints.keeping("bench", seconds=60) as place:
        started = time.perf_counter()
        fitted, _ = train.fit(learner, parts["train"], parts["val"], seed=own, place=place)
        fit_seconds = time.perf_counter() - started
        again = train.refit(learner, known, fitted, seed=own, place=place)
    found = {
        "steps": fitted.steps,
        "fit_seconds": fit_seconds,
        "refit_seconds": time.perf_counter() - started - fit_seconds,
        **scores("val", fitted, parts["val"]),
        **scores("test", again, parts["test"]),
    }
    print(json.dumps(found))


def scores(name: str, fitted: Fitted, data: Dataset) -> dict[str, float]:
    """Give ROC AUC and log loss of a part."""
    target = np.empty(0) if data.target is None else data.target
    tally = metrics.tally(target.astype(np.int64), fitted.predict(data))
    return {f"{name}_roc_auc": metrics.roc_auc(tally), f"{name}_log_loss": metrics.log_loss(tally)}


if __name__ == "__main__":
    main()
