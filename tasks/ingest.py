"""Freeze what the offline store knew before `dataset_version` into one snapshot and its manifest.

Events at or after the date are left out, so a store that has grown since gives the same bytes.

    python -m tasks.ingest data/lake data/ingest
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from tasks import command, events, files, lake
from tasks.errors import ParamsError
from tasks.lake import SourceFile, refusal
from tasks.params import Section


class Ingest(Section):
    """Which snapshot of the offline store to train on."""

    source: str = Field(
        pattern=r"^[\w./:@][\w./:@=+~-]*$",
        description="Folder, file or s3:// address of the Parquet or CSV files, without spaces and "
        "other characters that mean something to a shell; credentials come from the environment.",
    )
    dataset_version: date = Field(
        description="Only events before this day are known; the `now` of every later stage."
    )
    time_column: str | None = Field(
        default=None,
        description="Date or datetime column that says when an event happened; null for a table "
        "without time, which is taken whole.",
    )
    max_silence_days: int = Field(
        ge=1,
        description="Most days from the newest event before dataset_version to it; a version "
        "further off asks for data that has not arrived. Without time_column it says nothing.",
    )


def check_arrived(known: list[SourceFile], ingest: Ingest) -> None:
    """Raise DataValidationError if there is no row, or events asked for have not arrived."""
    if ingest.time_column is None:
        if not known:
            raise refusal([f"{ingest.source}: must hold rows (got none)"], "deliver data first")
        return
    last = events.newest(known, ingest.time_column)
    if last is None or (ingest.dataset_version - last).days > ingest.max_silence_days:
        fault = (
            "params.yaml: ingest.dataset_version: must be at most ingest.max_silence_days "
            f"({ingest.max_silence_days}) after the newest event before it "
            f"(got {ingest.dataset_version}, newest {last or 'none'})"
        )
        raise refusal([fault], "python -m flows train --dataset-version latest")


def manifest(rows: pl.DataFrame, parts: list[SourceFile], ingest: Ingest) -> dict[str, Any]:
    """Describe the snapshot and where each of its rows came from."""
    time = rows[ingest.time_column].drop_nulls() if ingest.time_column else None
    return {
        "source": ingest.source,
        "dataset_version": ingest.dataset_version.isoformat(),
        "time_column": ingest.time_column,
        "rows": rows.height,
        "first_event": str(time.min()) if time is not None else None,
        "last_event": str(time.max()) if time is not None else None,
        "columns": {name: str(kind) for name, kind in rows.schema.items()},
        "files": [{"path": part.path, "rows": part.rows.height, **part.identity} for part in parts],
    }


def latest(source: str, time_column: str | None) -> date:
    """Give the day after the newest event: the newest version that can be asked for.

    Raises ParamsError if there is no time column, and else as `lake.read` does.
    """
    if time_column is None:
        raise ParamsError(
            "params.yaml: ingest.time_column: must be set for `latest`, which is the day after the "
            "newest event (got null)\nnext: set it, or give a date"
        )
    last = events.newest(lake.read(source, time_column), time_column)
    if last is None:
        raise refusal([f"{source}: must hold events (got none with a time)"], "deliver data first")
    return last + timedelta(days=1)


def run(source: str, ingest_folder: Path, *, ingest: Ingest) -> None:
    """Write `snapshot.parquet` and `manifest.json`."""
    version, time_column = ingest.dataset_version, ingest.time_column
    parts = lake.read(source, time_column)
    known = events.known(parts, version, time_column)
    check_arrived(known, ingest)
    rows = events.snapshot(known, time_column)
    files.write_parquet(ingest_folder / "snapshot.parquet", rows)
    files.write_json(ingest_folder / "manifest.json", manifest(rows, known, ingest))
    later = sum(part.rows.height for part in parts) - rows.height
    print(f"{rows.height:,} rows of {len(known)} files before {version}; {later:,} later left out")


if __name__ == "__main__":
    command.main(run)
