"""Whether the code of a checkout still makes the features that the champion has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tasks import lineage
from tasks.champion import Champion
from tasks.errors import StageError
from tasks.events import Held
from tasks.recipes.transactions import CUTOFF, Transactions

STAGES = ("ingest", "featurize")
"""The stages whose code makes examples of what a store holds."""

TOLERANCE = 1e-6
"""How far two scores of one row may be apart."""


def is_same(lock: Mapping[str, Any], code: Mapping[str, str]) -> bool:
    """Tell whether a dvc.lock has the hashes of code, by path, for all that `STAGES` ran on.

    The environment's lock counts as code; data does not.
    """
    locked = [lock["stages"].get(name, {}).get("deps", []) for name in STAGES]
    then = {
        dep["path"]: lineage.content_hash(dep)
        for deps in locked
        for dep in deps
        if dep["path"].startswith("tasks/") or dep["path"] == "requirements.lock"
    }
    return bool(then) and all(code.get(path) == found for path, found in then.items())


def check(champion: Champion, held: Held, *, batch_rows: int) -> None:
    """Make and score the champion's test rows anew; raises StageError if other scores come out."""
    rows = held.before(champion.dataset_version)
    keys = champion.predictions.select(champion.columns.keys)
    made = keys.clear() if rows is None else remade(champion, rows, keys)
    score = champion.score(made, batch_rows=batch_rows) if len(made) else np.empty(0)
    again = made.select(champion.columns.keys).with_columns(again=pl.Series(score))
    if fault := disagreement(champion.predictions, again, champion.columns.keys):
        raise StageError(
            f"version {champion.version.number}: its test rows, made by the code of this checkout, "
            f"must get the scores of its evaluation (got {fault})\n"
            f"either the code that makes features is another now, or the events before "
            f"{champion.dataset_version} are: some came late, or are gone\n"
            "next: train a champion on what there is now: python -m flows train --judge, or go "
            f"back to the code of this one: git checkout {champion.version.tags.get('git_commit')}"
        )


def remade(champion: Champion, rows: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Make the examples with these keys, as far as the rows hold them."""
    recipe = champion.recipe
    is_log = isinstance(recipe, Transactions)
    days = keys[CUTOFF].unique().sort().to_list() if is_log else [champion.dataset_version]
    made = pl.concat([recipe.features(rows, day) for day in days])
    return made.join(keys, on=keys.columns, how="semi", maintain_order="left")


def disagreement(
    predictions: pl.DataFrame, again: pl.DataFrame, keys: tuple[str, ...]
) -> str | None:
    """Say how two scores of the same rows differ, `score` and `again`; None if they agree."""
    both = predictions.join(again, on=keys, how="left", maintain_order="left")
    absent = both["again"].null_count()
    apart = (both["score"] - both["again"]).abs().drop_nulls()
    differing = apart.filter(apart > TOLERANCE)
    if not absent and not len(differing):
        return None
    largest = f", by up to {np.max(differing.to_numpy()):.6f}" if len(differing) else ""
    return (
        f"{len(differing)} of {len(both)} rows with another score{largest}, "
        f"and {absent} rows that are not in the data"
    )
