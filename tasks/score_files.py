"""Scores as files: one for each batch, by day and version, and a manifest when all are written.

    <destination>/date=1998-07-01/version=3/part-00000.parquet, ..., manifest.json

Without the manifest, or with another file than it names, all is written anew. Nothing in the files
tells when that was, so that equal scores are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from tasks import files
from tasks.destination import Destination
from tasks.errors import StageError
from tasks.registry import Version

MANIFEST = "manifest.json"


def place(destination: str, as_of: date, version: int) -> Destination:
    """Say where the scores of a day by a version are."""
    return Destination(destination).below(f"date={as_of}", f"version={version}")


def written(where: Destination, model_name: str, version: Version) -> dict[str, Any] | None:
    """Give the manifest of what lies there, if it is whole; None if it must be written.

    Raises StageError if it is of a model of another name.
    """
    there = where.read()
    try:
        manifest = json.loads(there.pop(MANIFEST, b"null"))
    except ValueError:  # it was cut off
        return None
    if manifest is None:
        return None
    if manifest["model_name"] != model_name:
        raise StageError(
            f"{where.address}: must hold scores of {model_name} (got those of "
            f"{manifest['model_name']})\nnext: set score.destination in params.yaml to another "
            "place"
        )
    hashes = {file["path"]: file["sha256"] for file in manifest["files"]}
    is_whole = hashes == {name: hashlib.sha256(data).hexdigest() for name, data in there.items()}
    is_its = manifest["lineage_key"] == version.lineage_key
    return dict(manifest) if is_whole and is_its else None


def write(
    where: Destination, scores: pl.DataFrame, facts: Mapping[str, Any], *, batch_rows: int
) -> dict[str, Any]:
    """Write a file for each batch and last of all the manifest; give it."""
    where.clear()
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        for name, batch in batches(scores, batch_rows):
            files.write_parquet(Path(folder, name), batch)
            data = Path(folder, name).read_bytes()
            where.write(name, data)
            digest = hashlib.sha256(data).hexdigest()
            entries.append({"path": name, "rows": len(batch), "sha256": digest})
        files.write_json(Path(folder, MANIFEST), {**facts, "files": entries})
        where.write(MANIFEST, Path(folder, MANIFEST).read_bytes())
        return dict(files.read_json(Path(folder, MANIFEST)))


def batches(scores: pl.DataFrame, batch_rows: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """Give the name of each file, and its rows."""
    for number, batch in enumerate(scores.iter_slices(batch_rows)):
        yield f"part-{number:05}.parquet", batch
