"""Fit the chosen learner, and keep its weights and the scores of each of its steps.

While it runs it prints lines such as `progress 120/2000 train_log_loss=0.31 val_log_loss=0.32`. Cut
off by whatever, it goes on where it was when the same command is given again.

    python -m tasks.train data/featurize data/train
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
from pydantic import Field

from tasks import checkpoints, command, devices, files, identity, processes, seeds
from tasks.checkpoints import Place
from tasks.encoder import Dataset, Encoder
from tasks.models import Fitted, Learner, ModelName, Models, chosen
from tasks.params import Section

SECONDS_BETWEEN_LINES = 1.0


class Train(Section):
    """How the model that is kept comes about."""

    refit: bool = Field(
        description="After the number of steps is settled on the validation part, train anew with "
        "it on all labels known at the test cutoff: train, between and val."
    )
    checkpoint_seconds: float = Field(
        gt=0,
        description="seconds from one checkpoint to the next: what is lost at most when the "
        "process is killed; the result does not depend on it",
    )


class Progress:
    """Keep the scores of each step, and print one line a second at most, the last one always.

    steps    the most that can come
    clock    gives seconds; tells when a line is due
    history  one dictionary a step: `step`, then its scores
    """

    def __init__(self, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps = steps
        self.clock = clock
        self.history: list[dict[str, float]] = []
        self._printed_at = float("-inf")
        self._is_printed = True

    def report(self, step: int, scores: dict[str, float]) -> None:
        """Take the scores of a step."""
        self.history.append({"step": step, **scores})
        self._is_printed = not processes.is_first()
        if not self._is_printed and self.clock() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._print()

    def close(self) -> None:
        """Print the last step, if it has not been."""
        if not self._is_printed:
            self._print()

    def _print(self) -> None:
        last = self.history[-1]
        scores = [f"{name}={files.rounded(last[name])}" for name in last if name != "step"]
        print(f"progress {last['step']}/{self.steps}", *scores, flush=True)
        self._printed_at = self.clock()
        self._is_printed = True


def fit(
    learner: Learner, train: Dataset, val: Dataset, *, seed: int, place: Place
) -> tuple[Fitted, list[dict[str, float]]]:
    """Train with early stopping on `val`; give the model and the scores of each step."""
    progress = Progress(learner.steps)
    kept = place.phase("fit", progress.history)
    parts = learner.prepare(train, val)
    fitted = learner.fit(parts, seed=seed, report=progress.report, checkpoints=kept)
    progress.close()
    return fitted, progress.history


def refit(learner: Learner, data: Dataset, fitted: Fitted, *, seed: int, place: Place) -> Fitted:
    """Train anew on other data, with as many steps as `fitted` has."""
    progress = Progress(fitted.steps)
    kept = place.phase("refit", progress.history)
    again = learner.refit(data, fitted, seed=seed, report=progress.report, checkpoints=kept)
    progress.close()
    return again


def identify(
    featurize_folder: Path, *, model: ModelName, models: Models, train: Train, seed: int
) -> str:
    """Hash all that the outputs depend on; how often a checkpoint is written is no part of it."""
    learner = chosen(models, model)
    params = {
        "models": models.model_dump(mode="json", include={model}),
        "train": train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        "seed": seed,
    }
    device = devices.resolve(learner.device, f"models.{model}.device")
    where = identity.circumstances(device, deterministic=learner.deterministic)
    return identity.of(featurize_folder, params, where)


def encoded(featurize_folder: Path, *parts: str) -> Dataset:
    """Read the examples of some parts as one."""
    text = (featurize_folder / "encoder.json").read_text(encoding="utf-8")
    examples = [files.read_parquet(featurize_folder / f"{part}.parquet") for part in parts]
    return Encoder.from_json(text).encode(pl.concat(examples))


def run(
    featurize_folder: Path,
    train_folder: Path,
    *,
    model: ModelName,
    models: Models,
    train: Train,
    seed: int,
) -> None:
    """Write the weights, `learner.json` and `history.json`."""
    learner, own = chosen(models, model), seeds.derive(seed, "train")
    if processes.launch(learner.processes, "tasks.train", featurize_folder, train_folder):
        return
    given = identify(featurize_folder, model=model, models=models, train=train, seed=seed)
    read = partial(encoded, featurize_folder)
    with checkpoints.keeping(given, seconds=train.checkpoint_seconds) as place:
        fitted, history = fit(learner, read("train"), read("val"), seed=own, place=place)
        if train.refit:
            known = read("train", "between", "val")
            fitted = refit(learner, known, fitted, seed=own, place=place)
        if processes.is_first():
            fitted.save(train_folder)
            files.write_json(train_folder / "history.json", history)


if __name__ == "__main__":
    command.main(run)
