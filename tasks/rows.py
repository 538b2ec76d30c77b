"""Read a local store by its tables and folders: questions are answered without importing MLflow.

Everything here raises one of `FAULTS` if the store is not as it was when this was written; whoever
asks then asks MLflow, which says what is wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import store

FAULTS = (sqlite3.Error, OSError, LookupError, ValueError)
"""What is raised where MLflow must be asked instead."""

_LIVING = "status = 'FINISHED' AND lifecycle_stage = 'active'"


@dataclass(frozen=True)
class Found:
    """A finished run, and all that the store says of it.

    recorded  when it was begun, in milliseconds
    model_id  of the model that it has logged, if it has
    """

    run_id: str
    name: str
    recorded: int
    tags: Mapping[str, str]
    values: Mapping[str, str]
    scores: Mapping[str, float]
    model_id: str | None


@dataclass(frozen=True)
class Row:
    """A finished run as the table of runs has it.

    folder  where its artifacts are; None if they are gone
    """

    run_id: str
    name: str
    recorded: int
    folder: Path | None


class Rows:
    """The tables of a SQLite store, opened by `opened`."""

    def __init__(self, tables: sqlite3.Connection) -> None:
        self._tables = tables

    def all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask a query."""
        return self._tables.execute(query, values).fetchall()

    def runs(self, condition: str = "TRUE", *values: Any) -> list[Row]:
        """Give finished runs, the newest first."""
        query = (
            "SELECT run_uuid, name, start_time, artifact_uri FROM runs "  # noqa: S608
            f"WHERE {_LIVING} AND {condition} ORDER BY start_time DESC"
        )
        return [
            Row(run_id, name, start, store.located(place))
            for run_id, name, start, place in self.all(query, *values)
        ]

    def named(self, run: str) -> Found:
        """Give the newest finished run with this name, else id; raises LookupError without one."""
        return self._found((self.runs("name = ?", run) or self.runs("run_uuid = ?", run))[0])

    def run(self, run_id: str) -> Found:
        """Give the finished run with this id, whatever others are called."""
        return self._found(self.runs("run_uuid = ?", run_id)[0])

    def _found(self, row: Row) -> Found:
        return Found(
            run_id=row.run_id,
            name=row.name,
            recorded=row.recorded,
            tags=self._pairs("tags", row.run_id),
            values=self._pairs("params", row.run_id),
            scores=self._pairs("latest_metrics", row.run_id),
            model_id=self._model_id(row.run_id),
        )

    def text(self, run_id: str, name: str) -> str:
        """Read an artifact of a run; raises OSError if it is gone."""
        folder = self.runs("run_uuid = ?", run_id)[0].folder
        if folder is None:
            raise FileNotFoundError(run_id)
        return (folder / name).read_text("utf-8")

    def _pairs(self, table: str, run_id: str) -> dict[str, Any]:
        query = f"SELECT key, value FROM {table} WHERE run_uuid = ?"  # noqa: S608
        return dict(self.all(query, run_id))

    def _model_id(self, run_id: str) -> str | None:
        query = (
            "SELECT destination_id FROM inputs WHERE source_type = 'RUN_OUTPUT' "
            "AND source_id = ? AND destination_type = 'MODEL_OUTPUT' ORDER BY step"
        )
        found = self.all(query, run_id)
        return str(found[0][0]) if found else None

    def alias(self, model_name: str, alias: str) -> int:
        """Give the version that an alias points to; raises LookupError if there is none."""
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
        return int(self.all(query, model_name, alias)[0][0])

    def version(self, model_name: str, number: int) -> tuple[str, str, dict[str, str]]:
        """Give run, model and tags of a version; raises LookupError if there is no such version."""
        query = (
            "SELECT run_id, source FROM model_versions WHERE name = ? AND version = ? "
            "AND current_stage <> 'Deleted_Internal'"
        )
        run_id, source = self.all(query, model_name, number)[0]
        query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
        return str(run_id), str(source), dict(self.all(query, model_name, number))

    def newest(self, model_name: str, run_id: str) -> int | None:
        """Give the newest version that was made of a run, if one was."""
        its = [each for run, name, each in self.versions() if (run, name) == (run_id, model_name)]
        return its[-1] if its else None

    def versions(self) -> list[tuple[str, str, int]]:
        """Give run, model and number of each version, the oldest first."""
        query = (
            "SELECT run_id, name, version FROM model_versions "
            "WHERE current_stage <> 'Deleted_Internal' ORDER BY version"
        )
        return [(str(run), str(name), int(number)) for run, name, number in self.all(query)]


@contextmanager
def opened(file: Path) -> Iterator[Rows]:
    """Open a store to read it."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as tables:
        yield Rows(tables)
