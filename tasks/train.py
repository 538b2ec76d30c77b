"""Fit the chosen learner, and keep its weights and the scores of each of its steps.

While it runs it prints lines such as `progress 120/2000 train_log_loss=0.31 val_log_loss=0.32`.

    python -m tasks.train data/featurize data/train
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from pydantic import Field

from tasks import command, files, seeds
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
        self._is_printed = False
        if self.clock() - self._printed_at >= SECONDS_BETWEEN_LINES:
            self._print()

    def close(self) -> None:
        """Print the last step, if it has not been."""
        if not self._is_printed:
            self._print()

    def _print(self) -> None:
        last = self.history[-1]
        scores = [f"{name}={value:.6g}" for name, value in last.items() if name != "step"]
        print(f"progress {last['step']}/{self.steps}", *scores, flush=True)
        self._printed_at = self.clock()
        self._is_printed = True


def fit(
    learner: Learner, train: Dataset, val: Dataset, *, seed: int
) -> tuple[Fitted, list[dict[str, float]]]:
    """Train with early stopping on `val`; give the model and the scores of each step."""
    progress = Progress(learner.steps)
    fitted = learner.fit(train, val, seed=seed, report=progress.report)
    progress.close()
    return fitted, progress.history


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
    encoder = Encoder.from_json((featurize_folder / "encoder.json").read_text(encoding="utf-8"))
    parts = {
        part: files.read_parquet(featurize_folder / f"{part}.parquet")
        for part in ("train", "between", "val")
    }
    learner, seed = chosen(models, model), seeds.derive(seed, "train")
    fitted, history = fit(
        learner, encoder.encode(parts["train"]), encoder.encode(parts["val"]), seed=seed
    )
    if train.refit:
        fitted = learner.refit(encoder.encode(pl.concat(parts.values())), fitted, seed=seed)
    train_folder.mkdir(parents=True, exist_ok=True)
    fitted.save(train_folder)
    files.write_json(train_folder / "history.json", history)


if __name__ == "__main__":
    command.main(run)
