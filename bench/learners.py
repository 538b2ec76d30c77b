"""Measure the learners on the shipped data, on the processor: quality, speed, and what they add.

* `quality`: both learners as `train` runs them, each time in a process of its own with the pins;
* `loader`: rows per second of the network's training against a plain loop, which takes single rows
  from a `DataLoader`: same network, batches, AdamW and threads, one epoch;
* `overhead`: `fit`, as the stage calls it, over a bare loop or `xgboost.train` with the same
  settings. These get the data as arrays, and train and validate, no more.

What is compared runs in turn, and ratios are those of neighbours, so that a change in the machine's
speed meets all alike. Processor seconds are told too, because they suffer less from others' work.

    python -m bench.learners --only quality loader overhead --rounds 5
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import xgboost

from bench import loops
from bench.fits import FEATURIZED
from bench.timing import Timed, Work, in_turn, median, ratios
from tasks import checkpoints, files, params, train
from tasks.checkpoints import NOWHERE
from tasks.encoder import Dataset
from tasks.models import Learner, Models, boosting
from tasks.models.network import Network
from tasks.models.trees import Trees
from tasks.neural import architecture, computing
from tasks.neural.loss import ClassWeights
from tasks.neural.parallel import ALONE
from tasks.neural.tables import Table
from tasks.neural.training import Training

SEED = 1
ROWS = 16_384
"""Of an epoch of the part `loader`: some hundred milliseconds."""

BATCHES = (64, 256, 1024)
NETWORKS: dict[str, dict[str, int]] = {
    "small": {"members": 1, "width": 32, "depth": 1, "number_bins": 8},
    "shipped": {},
    "large": {"members": 8, "width": 128},
}


def main() -> None:
    """Measure the parts that the command line names, or all."""
    parts = {"quality": quality, "loader": loader, "overhead": overhead}
    parser = argparse.ArgumentParser(prog="python -m bench.learners")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    models = params.read({"models": Models})["models"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VERBATIM_CHECKPOINTS"] = folder
        for part in given.only:
            print(f"\n{part}, {given.rounds} rounds on {os.cpu_count()} cores", flush=True)
            parts[part](models, given.rounds)


def quality(_models: Models, rounds: int) -> None:
    """Train both learners as shipped; seconds are medians, scores are the same each time."""
    found: dict[str, list[dict[str, float]]] = {"trees": [], "network": []}
    for _ in range(rounds):
        for model, results in found.items():
            results.append(_fit(model))
    for model, results in found.items():
        print(model)
        for name in results[0]:
            values = [each[name] for each in results]
            print(f"  {name:16} {statistics.median(values):9.5f}", _spread(values))


def _spread(values: list[float]) -> str:
    return f"({min(values):.2f}..{max(values):.2f})" if min(values) < max(values) else ""


def _fit(model: str) -> dict[str, float]:
    pins = files.read_yaml(Path("params.yaml"))["pins"]
    command = f"env {pins} {sys.executable} -m bench.fits {model}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def loader(models: Models, rounds: int) -> None:
    """Compare epochs of the network's training with those of a plain loop, and its loader alone."""
    data = _first(train.encoded(FEATURIZED, "train"), ROWS)
    print("rows per second:        plain   loader     ours   ours to plain")
    for name, changes in NETWORKS.items():
        for batch_size in BATCHES:
            settings = models.network.model_copy(update={**changes, "batch_size": batch_size})
            with computing.settled(threads=settings.threads):
                taken = in_turn(_epochs(settings, data), rounds)
            speeds = [f"{len(data) / median(each):8.0f}" for each in taken.values()]
            print(f"{name:8} batch {batch_size:5}", *speeds, _faster(taken), flush=True)


def _faster(taken: Timed) -> str:
    return ratios(taken["plain"], taken["ours"])


def _epochs(settings: Network, data: Dataset) -> dict[str, Work]:
    """Give an epoch of the plain loop, of its loader alone, and of the learner."""
    table = Table.of(data)
    ours, other = (architecture.build(settings, data, seed=SEED)[0] for _ in range(2))
    where = computing.choose("cpu", settings.precision)
    training = Training(ours, settings, where, weights=ClassWeights(), seed=SEED, group=ALONE)
    batches = loops.loader(table, settings.batch_size)
    optimizer = torch.optim.AdamW(
        other.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    return {
        "plain": lambda: loops.plain_epoch(other, batches, optimizer),
        "loader": lambda: [None for _ in batches],
        "ours": lambda: training.one_epoch(table, NOWHERE),
    }


def _first(data: Dataset, rows: int) -> Dataset:
    target = None if data.target is None else data.target[:rows]
    return Dataset(
        data.numeric[:rows], data.categorical[:rows], target, data.names, data.cardinalities
    )


def overhead(models: Models, rounds: int) -> None:
    """Compare what `fit` takes with what it takes to train alone."""
    known, val = (train.encoded(FEATURIZED, part) for part in ("train", "val"))
    whole: dict[str, Any] = {"early_stopping_epochs": models.network.max_epochs, "device": "cpu"}
    network = models.network.model_copy(update=whole)
    unsampled = models.trees.model_copy(update={"subsample": 1, "colsample_bynode": 1})
    bare = {
        "trees": (models.trees, lambda: _bare_trees(models.trees, known, val, seed=SEED)),
        "trees without sampling": (
            unsampled,
            lambda: _bare_trees(unsampled, known, val, seed=SEED),
        ),
        "network": (network, _bare_network(network, known, val)),
    }
    for name, (learner, work) in bare.items():
        taken = in_turn({"bare": work, **_fits(learner, known, val)}, rounds)
        print(f"{name}: {median(taken['bare']):.2f} seconds bare; times as long:")
        for way in list(taken)[1:]:
            print(f"  {way:36}", ratios(taken[way], taken["bare"]), flush=True)


def _bare_trees(settings: Trees, train: Dataset, val: Dataset, *, seed: int) -> bytes:
    """Grow the very trees of the learner by `xgboost.train`; give the model."""
    known = boosting.binned(train)
    grown = xgboost.train(
        settings._settings(train, seed),  # noqa: SLF001 - the same, so that the trees are
        known,
        num_boost_round=settings.max_rounds,
        evals=[(known, "train"), (boosting.binned(val, known), "val")],
        early_stopping_rounds=settings.early_stopping_rounds,
        verbose_eval=False,
    )
    return bytes(grown[: grown.best_iteration + 1].save_raw("ubj"))


def _bare_network(settings: Network, known: Dataset, val: Dataset) -> Work:
    table, held_out = Table.of(known), Table.of(val)
    untrained, _ = architecture.build(settings, known, seed=SEED)

    def work() -> None:
        with computing.settled(threads=settings.threads):
            loops.bare_network(copy.deepcopy(untrained), settings, table, held_out)

    return work


def _fits(learner: Learner, known: Dataset, val: Dataset) -> dict[str, Work]:
    """Give ways to fit, from doing that alone to a checkpoint each second."""

    def stage(seconds: float) -> None:
        with checkpoints.keeping("bench", seconds=seconds) as place:
            train.fit(learner, known, val, seed=SEED, place=place)

    def alone() -> None:
        parts = learner.prepare(known, val)
        learner.fit(parts, seed=SEED, report=lambda _, __: None, checkpoints=NOWHERE)

    return {
        "fit, without report and checkpoints": alone,
        "as the stage, checkpoints by minute": lambda: stage(60),
        "as the stage, checkpoints by second": lambda: stage(1),
    }


if __name__ == "__main__":
    main()
