"""Read the files of an offline store, and see that they belong together.

The store is a folder or an `s3://` address of Parquet or CSV files, or one such file. What was read
is what was hashed: each file is fetched once. What is out of reach (StageError, TemporaryError) is
told apart from what is wrong with the data (DataValidationError).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from tasks.errors import DataValidationError, StageError, TemporaryError

READERS = {
    ".parquet": lambda data: pl.read_parquet(data, hive_partitioning=False),
    ".csv": lambda data: pl.read_csv(data, try_parse_dates=True, infer_schema_length=None),
}


@dataclass(frozen=True)
class SourceFile:
    """One file of the store: its address relative to the source, what identifies it, its rows."""

    path: str
    identity: dict[str, Any]
    rows: pl.DataFrame


def read(source: str, time_column: str | None) -> list[SourceFile]:
    """Read every Parquet and CSV file below `source`, in the order of their names.

    All have the same columns, and events in time, as far as CSV files tell: see `unified`. Raises
    StageError if the source cannot be reached (TemporaryError if it may be back), and
    DataValidationError, which names all of them, for files that cannot be read or do not fit.
    """
    parts, errors = _parsed(source)
    if not errors:
        alike = unified(parts)
        errors = same_columns(alike) or (wrong_times(alike, time_column) if time_column else [])
    if errors:
        raise refusal(
            [f"{source}/{error}" for error in errors], "deliver these files again, or remove them"
        )
    return parts


def _parsed(source: str) -> tuple[list[SourceFile], list[str]]:
    """Fetch and parse each file; give them, and the faults of those that cannot be parsed."""
    listing, file_system = _list(source)
    found, errors = [], []
    for path, info in listing.items():
        data = _fetch(file_system, info["name"], f"{source}/{path}")
        suffix = Path(path).suffix.lower()
        try:
            rows = READERS[suffix](io.BytesIO(data))
        except Exception as error:  # noqa: BLE001 - whatever a reader raises, the file is at fault
            reason = str(error).strip().splitlines() or [type(error).__name__]
            errors.append(
                f"{path}: must be a readable {suffix[1:]} file of {len(data)} bytes "
                f"(got: {reason[0]})"
            )
            continue
        identity = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if "ETag" in info:
            identity["etag"] = info["ETag"].strip('"')
        found.append(SourceFile(path, identity, rows))
    return found, errors


def _list(source: str) -> tuple[dict[str, dict[str, Any]], fsspec.AbstractFileSystem]:
    try:
        file_system, root = fsspec.core.url_to_fs(source)
        entries = file_system.find(root, detail=True)
    except Exception as error:  # botocore, fsspec and the operating system each have their own
        raise unreachable(source, error) from error
    if not entries:
        raise refusal(
            [f"{source}: must exist and hold files (got nothing there)"],
            "set ingest.source in params.yaml to your folder, or make the sample lake with "
            "`dvc repro sample`",
        )
    known = {
        name.removeprefix(root).lstrip("/") or Path(name).name: info
        for name, info in sorted(entries.items())
        if Path(name).suffix.lower() in READERS
    }
    if not known:
        raise refusal(
            [f"{source}: must hold .parquet or .csv files (got {len(entries)} others)"],
            "set ingest.source in params.yaml to the folder with the partitions",
        )
    return known, file_system


def _fetch(file_system: fsspec.AbstractFileSystem, name: str, address: str) -> bytes:
    try:
        data: bytes = file_system.cat_file(name)
    except Exception as error:
        raise unreachable(address, error) from error
    return data


def unreachable(address: str, error: Exception, key: str = "ingest.source") -> StageError:
    """Tell what a person must mend from what may be back when tried again.

    key  of the address in params.yaml
    """
    from botocore import exceptions as botocore  # type: ignore[import-untyped]

    refused = (
        *(PermissionError, FileNotFoundError, ValueError, ImportError),
        *(botocore.NoCredentialsError, botocore.PartialCredentialsError),
        *(botocore.ProfileNotFound, botocore.ParamValidationError),
    )
    what = f"{address}: must be reachable (got {type(error).__name__}: {error})\nnext: "
    if isinstance(error, refused):
        return StageError(
            f"{what}check {key} in params.yaml and the credentials in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
        )
    return TemporaryError(
        f"{what}try again; if it stays so, check the disk, or for s3:// AWS_ENDPOINT_URL"
    )


def unified(parts: list[SourceFile]) -> list[SourceFile]:
    """Give the columns of CSV files the types that they have over all CSV files.

    A CSV file states no types. Whole numbers in one and fractions in another are floats; a column
    without any value takes the type that it has elsewhere. Parquet files stay as they are.
    """
    kinds: dict[str, set[pl.DataType]] = {}
    for part in filter(_states_no_types, parts):
        for column in part.rows.get_columns():
            if column.null_count() < len(column):
                kinds.setdefault(column.name, set()).add(column.dtype)
    wanted = {name: kind for name, found in kinds.items() if (kind := _common(found))}
    return [
        replace(part, rows=_retyped(part.rows, wanted)) if _states_no_types(part) else part
        for part in parts
    ]


def _states_no_types(part: SourceFile) -> bool:
    return part.path.lower().endswith(".csv")


def _common(kinds: set[pl.DataType]) -> pl.DataType | None:
    """Give the type that holds values of all these types; None if there is none."""
    if kinds == {pl.Int64(), pl.Float64()}:
        return pl.Float64()
    return next(iter(kinds)) if len(kinds) == 1 else None


def _retyped(rows: pl.DataFrame, wanted: dict[str, pl.DataType]) -> pl.DataFrame:
    """Cast columns; one without any value, which was read as strings, can become anything."""
    return rows.with_columns(
        pl.lit(None, kind).alias(name)
        if rows[name].null_count() == rows.height
        else pl.col(name).cast(kind)
        for name, kind in wanted.items()
        if name in rows.columns
    )


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


def wrong_times(parts: list[SourceFile], time_column: str) -> list[str]:
    """Give the faults of the time column: absent, not a time, outside its partition, to come."""
    kinds = {part.path: part.rows.schema.get(time_column) for part in parts}
    untimed = [
        f"{path}: column {time_column!r} must be a date or datetime (got {kind or 'none'})"
        for path, kind in kinds.items()
        if kind is None or kind.base_type() not in (pl.Date, pl.Datetime)
    ]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)  # refuses, and is never written
    return untimed or [
        fault
        for part in parts
        for fault in (
            *outside_partition(part, time_column),
            *not_yet_happened(part, time_column, tomorrow),
        )
    ]


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


def not_yet_happened(part: SourceFile, time_column: str, end: date) -> list[str]:
    """Name the events after the day `end`, which nobody can know of."""
    time = part.rows[time_column]
    strays = time.filter(time.dt.date() > end)
    if strays.is_empty():
        return []
    return [
        (
            f"{part.path}: column {time_column!r} must not lie in the future "
            f"(got {len(strays)} events from {strays.min()!s} to {strays.max()!s})"
        )
    ]


def refusal(faults: Iterable[str], next_step: str) -> DataValidationError:
    """Make the error that names all faults, and what to do next."""
    return DataValidationError("\n".join([*faults, f"next: {next_step}"]))
