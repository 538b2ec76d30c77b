"""The champion with all that scoring and monitoring need of it, as its run recorded it.

Its own parameters and encoder count, not those of the checkout: what is scored tonight must be what
was judged when it was promoted.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import TypeAdapter

from tasks import files, params, store, tracking
from tasks.encoder import Encoder
from tasks.errors import StageError
from tasks.examples import Columns
from tasks.past_model import PastModel
from tasks.recipes import Recipe
from tasks.registry import CHAMPION, Registry, Version, looked_at
from tasks.tracking import AbsentError

RECORDED = (
    "params.yaml",
    "dvc.lock",
    "ingest/manifest.json",
    "featurize/encoder.json",
    "featurize/examples.json",
    "evaluate/metrics.json",
    "evaluate/predictions.parquet",
)
"""What is read of the artifacts of its run."""


@dataclass(frozen=True)
class Champion:
    """The version that an alias points to.

    settings     params.yaml as it was
    lock         dvc.lock as it was
    manifest     of the snapshot it was trained on
    metrics      `metrics.json` of its evaluation
    predictions  keys, target and score of its test rows
    """

    version: Version
    settings: dict[str, Any]
    lock: dict[str, Any]
    manifest: dict[str, Any]
    encoder: Encoder
    columns: Columns
    metrics: dict[str, Any]
    predictions: pl.DataFrame

    @property
    def dataset_version(self) -> date:
        """The day before which all lies that it has learned from."""
        return date.fromisoformat(self.manifest["dataset_version"])

    @property
    def recipe(self) -> Recipe:
        """The recipe that made its examples."""
        read, errors = params.check(self.settings, {"featurize": Recipe})
        if errors:
            raise StageError(
                f"version {self.version.number}: its recipe must be one that this code knows "
                f"(got {'; '.join(errors)})\nnext: check out {self.version.tags.get('git_commit')}"
            )
        recipe: Recipe = read["featurize"]
        return recipe

    def score(self, frame: pl.DataFrame, *, batch_rows: int | None = None) -> NDArray[np.float64]:
        """Give the probability of target = 1 for raw example columns, by the logged model.

        batch_rows  how many are scored at once; None: all
        """
        return PastModel(self.version.run_id).predict(
            frame.select(self.columns.features), batch_rows=batch_rows
        )


def read(model_name: str, number: int | None = None) -> Champion:
    """Read a version; the champion if none is named.

    Raises StageError if there is none or its run is gone, TemporaryError if the store is out of
    reach.
    """
    with looked_at(model_name) as registry, tempfile.TemporaryDirectory() as folder:
        version = pointed_to(registry) if number is None else registry.version(number)
        try:
            tracking.fetch(version.run_id, RECORDED, Path(folder))
        except AbsentError as error:
            raise StageError(
                f"{model_name} version {version.number}: its {error}\n"
                "next: python -m flows rollback --reason WHY, or train again"
            ) from error
        return _read(version, Path(folder))


def pointed_to(registry: Registry, alias: str = CHAMPION) -> Version:
    """Look up the version that an alias points to; raises StageError if there is none."""
    number = registry.alias(alias)
    if number is None:
        raise StageError(
            f"{store.shown()}: {registry.model_name} must have a version with the alias {alias!r} "
            "(got none)\nnext: python -m flows train --judge, or python -m flows promote "
            "VERSION --reason WHY"
        )
    return registry.version(number)


def _read(version: Version, folder: Path) -> Champion:
    roles = files.read_json(folder / "featurize/examples.json")["columns"]
    return Champion(
        version=version,
        settings=params.load(folder / "params.yaml"),
        lock=files.read_yaml(folder / "dvc.lock"),
        manifest=files.read_json(folder / "ingest/manifest.json"),
        encoder=Encoder.from_json((folder / "featurize/encoder.json").read_text("utf-8")),
        columns=TypeAdapter(Columns).validate_python(roles),
        metrics=files.read_json(folder / "evaluate/metrics.json"),
        predictions=files.read_parquet(folder / "evaluate/predictions.parquet"),
    )
