"""Freeze what the offline store knew before `dataset_version` into one snapshot and its manifest.

The source is a folder or an `s3://` address of Parquet or CSV files, or one such file. What was
read is what was hashed: each file is fetched once. Events at or after the date are left out, so a
store that has grown since gives the same bytes.

    python -m tasks.ingest data/lake data/ingest
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
from pydantic import Field

from tasks import command, files
from tasks.errors import DataValidationError, StageError
from tasks.params import Section

READERS = {
    ".parquet": lambda data: pl.read_parquet(data, hive_partitioning=False),
    ".csv": lambda data: pl.read_csv(data, try_parse_dates=True, infer_schema_length=None),
}
MAX_SILENCE = timedelta(days=31)
"""A version further than this from its newest event asks for data that has not arrived."""


class Ingest(Section):
    """Which snapshot of the offline store to train on."""

    source: str = Field(
        min_length=1,
        description="Folder, file or s3:// address of the Parquet or CSV files; credentials come "
        "from the environment.",
    )
    dataset_version: date = Field(
        description="Only events before this day are known; the `now` of every later stage."
    )
    time_column: str | None = Field(
        default=None,
        description="Date or datetime column that says when an event happened; null for a table "
        "without time, which is taken whole.",
    )


@dataclass(frozen=True)
class SourceFile:
    """One file of the store: its address relative to the source, what identifies it, its rows."""

    path: str
    identity: dict[str, Any]
    rows: pl.DataFrame


def fetch(source: str) -> list[SourceFile]:
    """Read every Parquet and CSV file below `source`, in the order of their names.

    Raises StageError if the source cannot be reached, DataValidationError if it holds no such file
    or files that cannot be read; all of these are named.
    """
    listing, file_system = _list(source)
    found, errors = [], []
    for path, info in listing.items():
        try:
            data = file_system.cat_file(info["name"])
            rows = READERS[Path(path).suffix](io.BytesIO(data))
        except Exception as error:  # noqa: BLE001 - whatever a reader raises, the file is at fault
            reason = str(error).strip().splitlines() or [type(error).__name__]
            errors.append(
                f"{source}/{path}: must be a readable {Path(path).suffix[1:]} file of "
                f"{info['size']} bytes (got: {reason[0]})"
            )
            continue
        identity = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if "ETag" in info:
            identity["etag"] = info["ETag"].strip('"')
        found.append(SourceFile(path, identity, rows))
    if errors:
        raise _refuse(errors, "deliver these files again, or remove them")
    return found


def _list(source: str) -> tuple[dict[str, dict[str, Any]], fsspec.AbstractFileSystem]:
    try:
        file_system, root = fsspec.core.url_to_fs(source)
        entries = file_system.find(root, detail=True)
    except Exception as error:  # botocore, fsspec and the operating system each have their own
        raise StageError(
            f"{source}: must be reachable (got {type(error).__name__}: {error})\n"
            "next: check ingest.source in params.yaml and the credentials in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
        ) from error
    if not entries:
        raise _refuse(
            [f"{source}: must exist and hold files (got nothing there)"],
            "set ingest.source in params.yaml to your folder, or make the sample lake with "
            "`dvc repro sample`",
        )
    known = {
        name.removeprefix(root).lstrip("/") or Path(name).name: info
        for name, info in sorted(entries.items())
        if Path(name).suffix in READERS
    }
    if not known:
        raise _refuse(
            [f"{source}: must hold .parquet or .csv files (got {len(entries)} others)"],
            "set ingest.source in params.yaml to the folder with the partitions",
        )
    return known, file_system


def same_columns(parts: list[SourceFile]) -> list[str]:
    """Compare every file's columns (names, types, order) with the commonest; give the faults."""
    schemas = [tuple(part.rows.schema.items()) for part in parts]
    expected = max(schemas, key=schemas.count)
    return [
        f"{part.path}: {difference}"
        for part, schema in zip(parts, schemas, strict=True)
        for difference in _differences(dict(expected), dict(schema))
    ]


def _differences(expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    missing = [f"column {name!r} is missing" for name in expected if name not in got]
    extra = [f"column {name!r} is in no other file" for name in got if name not in expected]
    retyped = [
        f"column {name!r} must be {kind} as in the other files (got {got[name]})"
        for name, kind in expected.items()
        if name in got and got[name] != kind
    ]
    if not missing and not extra and list(got) != list(expected):
        return [*retyped, f"columns must be in the order {list(expected)} (got {list(got)})"]
    return missing + extra + retyped


def outside_partition(part: SourceFile, time_column: str) -> list[str]:
    """Name the events of a `month=YYYY-MM` partition that did not happen in that month."""
    stated = re.search(r"(?:^|/)month=(\d{4}-\d{2})/", part.path)
    if stated is None:
        return []
    time = part.rows[time_column]
    strays = time.filter(time.dt.strftime("%Y-%m") != stated[1])
    if strays.is_empty():
        return []
    return [
        (
            f"{part.path}: column {time_column!r} must lie in {stated[1]} "
            f"(got {len(strays)} events from {strays.min()!s} to {strays.max()!s})"
        )
    ]


def wrong_times(parts: list[SourceFile], time_column: str) -> list[str]:
    """Give the faults of the time column: absent, not a time, outside its partition."""
    kinds = {part.path: part.rows.schema.get(time_column) for part in parts}
    untimed = [
        f"{path}: column {time_column!r} must be a date or datetime (got {kind or 'none'})"
        for path, kind in kinds.items()
        if kind is None or kind.base_type() not in (pl.Date, pl.Datetime)
    ]
    return untimed or [fault for part in parts for fault in outside_partition(part, time_column)]


def before(rows: pl.DataFrame, version: date, time_column: str | None) -> pl.DataFrame:
    """Keep the events before `version`; one without a time is kept, for `validate` to judge."""
    if time_column is None:
        return rows
    time = pl.col(time_column)
    return rows.filter((time.dt.date() < version) | time.is_null())


def snapshot(parts: list[SourceFile], time_column: str | None) -> pl.DataFrame:
    """Join the files into one table, sorted by time, then by every other column."""
    rows = pl.concat([part.rows for part in parts])
    first = [time_column] if time_column else []
    return rows.sort([*first, *(name for name in rows.columns if name not in first)])


def newest(parts: list[SourceFile], time_column: str) -> date | None:
    """Find the day of the last event; None if no event has a time."""
    days = (part.rows[time_column].dt.date().max() for part in parts)
    return max((day for day in days if isinstance(day, date)), default=None)


def missing_events(known: list[SourceFile], ingest: Ingest) -> list[str]:
    """Say that the version asks for events that have not arrived, or that there is no row."""
    if not any(part.rows.height for part in known) and ingest.time_column is None:
        return [f"{ingest.source}: must hold rows (got none)"]
    if ingest.time_column is None:
        return []
    last = newest(known, ingest.time_column)
    if last is not None and ingest.dataset_version - last <= MAX_SILENCE:
        return []
    return [
        (
            f"params.yaml: ingest.dataset_version: must be at most {MAX_SILENCE.days} days after "
            f"the newest event before it (got {ingest.dataset_version}, newest {last or 'none'})"
        )
    ]


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


def latest(source: str, time_column: str) -> date:
    """Give the day after the newest event: the newest version that can be asked for.

    Raises DataValidationError as `run` does.
    """
    last = newest(_checked(source, time_column), time_column)
    if last is None:
        raise _refuse([f"{source}: must hold events (got none with a time)"], "deliver data first")
    return last + timedelta(days=1)


def _checked(source: str, time_column: str | None) -> list[SourceFile]:
    parts = fetch(source)
    faults = same_columns(parts) or (wrong_times(parts, time_column) if time_column else [])
    if faults:
        raise _refuse(
            [f"{source}/{fault}" for fault in faults], "deliver these files again, or remove them"
        )
    return parts


def _refuse(faults: list[str], next_step: str) -> DataValidationError:
    return DataValidationError("\n".join([*faults, f"next: {next_step}"]))


def run(source: str, ingest_folder: Path, *, ingest: Ingest) -> None:
    """Write `snapshot.parquet` and `manifest.json`."""
    version, time_column = ingest.dataset_version, ingest.time_column
    known = [
        SourceFile(part.path, part.identity, rows)
        for part in _checked(source, time_column)
        if not (rows := before(part.rows, version, time_column)).is_empty()
    ]
    if faults := missing_events(known, ingest):
        raise _refuse(faults, "python -m flows train --dataset-version latest")
    rows = snapshot(known, time_column)
    files.write_parquet(ingest_folder / "snapshot.parquet", rows)
    files.write_json(ingest_folder / "manifest.json", manifest(rows, known, ingest))
    print(f"{rows.height:,} rows of {len(known)} files before {version}")


if __name__ == "__main__":
    command.main(run)
