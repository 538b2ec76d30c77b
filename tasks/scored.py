"""The parts of a split with the model's score of every row: what all judgement starts from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from tasks import files, metrics, models
from tasks.encoder import Dataset, Encoder
from tasks.errors import VerbatimError
from tasks.examples import Columns
from tasks.metrics import Floats, Integers, Tally
from tasks.models import Fitted

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Scored:
    """One part: its raw rows, what the encoder makes of them, and a score for each."""

    columns: Columns
    frame: pl.DataFrame
    data: Dataset
    score: Floats

    @cached_property
    def target(self) -> Integers:
        """Give 0 or 1: int64 [rows]."""
        return self.frame[self.columns.target].to_numpy().astype(np.int64)

    @cached_property
    def tally(self) -> Tally:
        """Count the targets at each score."""
        return metrics.tally(self.target, self.score)

    def predictions(self) -> pl.DataFrame:
        """Give keys, target and `score`."""
        named = self.frame.select(*self.columns.keys, self.columns.target)
        return named.with_columns(score=pl.Series(self.score))


def read(featurize_folder: Path, train_folder: Path) -> tuple[Encoder, Fitted, dict[str, Scored]]:
    """Load the encoder and the model, and score each part.

    Raises VerbatimError if a score is no probability.
    """
    encoder = Encoder.from_json((featurize_folder / "encoder.json").read_text(encoding="utf-8"))
    fitted = models.load(train_folder)
    roles = files.read_json(featurize_folder / "examples.json")["columns"]
    columns = TypeAdapter(Columns).validate_python(roles)
    parts = {}
    for part in PARTS:
        frame = files.read_parquet(featurize_folder / f"{part}.parquet")
        data = encoder.encode(frame)
        score = probabilities(fitted.predict(data), f"{train_folder}: scores of the part {part}")
        parts[part] = Scored(columns, frame, data, score)
    return encoder, fitted, parts


def probabilities(score: Floats, source: str) -> Floats:
    """Give the scores back if all are probabilities; raise VerbatimError if not."""
    wrong = score[~((score >= 0) & (score <= 1))]
    if len(wrong):
        raise VerbatimError(
            f"{source}: must be between 0 and 1 (got {wrong[0]}, and {len(wrong) - 1} more "
            f"of {len(score)}); choose another model, or train this one again"
        )
    return score.astype(np.float64)
