"""Write and read files so that equal content is equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

DIGITS = 6
"""Decimal places kept of a float in a JSON output: far above noise, below the last bits."""


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with floats rounded to `DIGITS` places; create the folder.

    Keys keep their order. Raises ValueError for NaN and infinity.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(value), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file by the parser that DVC uses, so that both see the same values.

    Raises ValueError if it is not YAML.
    """
    return parsed_yaml(path.read_text(encoding="utf-8"))


def parsed_yaml(text: str) -> Any:
    """Read a text as `read_yaml` reads a file."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def rounded(value: Any) -> Any:
    """Copy nested lists and dictionaries with floats rounded to `DIGITS` places, without -0.0."""
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write one Parquet file whose bytes depend on the frame alone; create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.rechunk().write_parquet(path, compression="zstd", statistics=True, row_group_size=131_072)


def read_parquet(path: Path) -> pl.DataFrame:
    """Read one Parquet file eagerly."""
    return pl.read_parquet(path, hive_partitioning=False)
