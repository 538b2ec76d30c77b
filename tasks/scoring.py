"""Score everybody who is known on a day with the champion, and tell by which model that was.

Examples are made by the champion's own recipe and settings, with the code of this checkout, which
`tasks.feature_code` holds against that it has learned with.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from tasks import events, scored
from tasks.champion import Champion
from tasks.errors import ParamsError
from tasks.events import Held
from tasks.lake import refusal
from tasks.params import Section
from tasks.registry import Version

OURS = frozenset(("score", "model_name", "model_version", "lineage_key"))
"""The columns that stand beside whom a score is of."""


class Score(Section):
    """Where the scores of everybody go."""

    destination: str = Field(
        pattern=r"\S", description="folder or s3:// address; credentials come from the environment"
    )
    batch_rows: int = Field(ge=1, description="rows scored at once, and rows of a file")


def current(held: Held, as_of: date, champion: Champion, *, max_silence_days: int) -> pl.DataFrame:
    """Give what was known on a day, if it has arrived, in the columns that the champion knows.

    Raises DataValidationError, naming every column that differs.
    """
    rows = arrived(held, as_of, max_silence_days)
    if faults := differences(champion.manifest["columns"], rows, champion.recipe.outcome):
        raise refusal(
            [f"{held.source}: {fault}" for fault in faults],
            f"deliver the columns that version {champion.version.number} has learned from, or "
            "train on these: python -m flows train --dataset-version latest",
        )
    return rows


def arrived(held: Held, as_of: date, max_silence_days: int) -> pl.DataFrame:
    """Give what was known on a day; raises DataValidationError if its events have not arrived."""
    rows, time_column = held.before(as_of), held.time_column
    last = events.last_day(rows, time_column) if rows is not None and time_column else None
    is_late = last is None or (as_of - last).days > max_silence_days
    if rows is None or (time_column and is_late):
        fault = (
            f"{held.source}: must hold events of at most {max_silence_days} days "
            f"(ingest.max_silence_days) before {as_of} (got the newest on {last or 'no day'})"
        )
        raise refusal([fault], "python -m flows score, as of the day after the newest event")
    return rows


def last_event(rows: pl.DataFrame, time_column: str | None) -> str | None:
    """Say when the last event was; None for a table without time."""
    return None if time_column is None else str(rows[time_column].max())


def differences(
    learned: Mapping[str, str], rows: pl.DataFrame, outcome: frozenset[str]
) -> list[str]:
    """Say of every column by name how it differs from what was learned from.

    outcome  columns that may be absent, and of any type
    """
    got = {name: str(kind) for name, kind in rows.schema.items()}
    names = [name for name in dict.fromkeys((*learned, *got)) if name not in outcome]
    return [
        f"column {name!r} must be {learned.get(name, 'left out')} (got {got.get(name, 'none')})"
        for name in names
        if learned.get(name) != got.get(name)
    ]


def score(
    champion: Champion, rows: pl.DataFrame, as_of: date, model_name: str, *, batch_rows: int
) -> pl.DataFrame:
    """Score everybody in `rows`, sorted; give who they are, `score`, and by which model.

    Raises ParamsError if nothing tells whose a score is.
    """
    entities = champion.recipe.entities
    if not entities or not OURS.isdisjoint(entities):
        raise ParamsError(
            "featurize: must name what tells rows apart, so that it stands beside the scores, and "
            f"other than {', '.join(sorted(OURS))} (got {', '.join(entities) or 'no key'}, in the "
            f"parameters of version {champion.version.number})\n"
            "next: change params.yaml or the data, then: python -m flows train"
        )
    examples = champion.recipe.features(rows, as_of)
    found = champion.score(examples, batch_rows=batch_rows)
    return table(examples.select(entities), found, champion.version, model_name)


def table(
    entities: pl.DataFrame, found: NDArray[np.float64], version: Version, model_name: str
) -> pl.DataFrame:
    """Put scores beside whom they are of; raises VerbatimError if one is no probability."""
    score = scored.probabilities(found, f"version {version.number}: scores")
    return entities.with_columns(
        pl.Series("score", score),
        model_name=pl.lit(model_name),
        model_version=pl.lit(version.number, pl.Int64),
        lineage_key=pl.lit(version.lineage_key),
    )


def facts(
    champion: Champion, model_name: str, as_of: date, last_event: str | None, scores: pl.DataFrame
) -> dict[str, Any]:
    """Say what was scored, and by which model, for the manifest."""
    return {
        "as_of": as_of.isoformat(),
        "last_event": last_event,
        "rows": len(scores),
        "mean_score": float(np.mean(scores["score"].to_numpy())),
        "model_name": model_name,
        "model_version": champion.version.number,
        "lineage_key": champion.version.lineage_key,
        "run_id": champion.version.run_id,
        "dataset_version": champion.dataset_version.isoformat(),
    }
