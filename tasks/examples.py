"""What a recipe makes of rows: examples with roles, in parts that share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

PARTS = ("train", "between", "val", "test")
"""The parts of a split. `between` holds examples whose labels are known by the test cutoff but not
yet by the validation cutoff: they are used by nobody but a refit; it is empty for most tables."""


@dataclass(frozen=True)
class Columns:
    """The role of each column of an example.

    keys         identify an example (entity, cutoff); never features, never null together
    numeric      features that are numbers, with their natural nulls
    categorical  features that are names (strings), with their natural nulls
    target       1 for the event to predict, 0 otherwise
    slice        the categorical column by whose values scores are broken down, if any
    """

    keys: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    target: str
    slice: str | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Numeric, then categorical."""
        return self.numeric + self.categorical


@dataclass(frozen=True)
class Split:
    """Examples by part (see PARTS), each sorted by its keys, and the roles of their columns.

    rule  how the parts were made, as plain JSON values, for the record
    """

    parts: dict[str, pl.DataFrame]
    columns: Columns
    rule: dict[str, object]
