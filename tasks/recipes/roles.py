"""What each column of a table is for, and whether a table's columns can be that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.encoder import is_category, is_number
from tasks.examples import Columns
from tasks.params import Section
from tasks.splits import is_name

ROW = "row"
"""The key of a table for which none is named: its column of this name, or the number of the row
when the table is sorted by all its columns."""

CATEGORICAL = (pl.String, pl.Categorical, pl.Enum)
"""Types of what is inferred to be a category; a number is one only if it is named."""

CLASSES = 2

NAMED = 20
"""How many columns or values an error lists."""


def _several(value: Any) -> Any:
    """Give one name, or a list of them, as the tuple that a strict section takes."""
    return (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    )


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""Column names; one may stand without brackets."""


class Roles(Section):
    """What each column is for; a column without a role is left out."""

    key: Names = Field(
        default=(), description="what identifies a row; if omitted, the sorted rows are numbered"
    )
    target: str = Field(description="column of two values: what is to be predicted")
    positive: bool | int | float | str = Field(description="the value of target that counts as 1")
    numeric: Names | None = Field(
        default=None,
        description="features that are numbers; if categorical is omitted too, both are inferred: "
        "every column without another role, by its type",
    )
    categorical: Names | None = Field(default=None, description="features that are names")
    ignored: Names = Field(default=(), description="columns to leave out when inferring")
    slice: str | None = Field(
        default=None, description="categorical column by whose values scores are broken down"
    )

    @model_validator(mode="after")
    def _once_each(self) -> Roles:
        roles: dict[str, list[str]] = {}
        for role, names in self.named():
            for name in names:
                roles.setdefault(name, []).append(role)
        twice = [f"{name} is {' and '.join(had)}" for name, had in roles.items() if len(had) > 1]
        if twice:
            raise PydanticCustomError(
                "roles", "a column must have one role: {twice}", {"twice": ", ".join(twice)}
            )
        return self

    def named(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give each role with the columns named for it."""
        yield "key", self.key
        yield "target", (self.target,)
        yield "numeric", self.numeric or ()
        yield "categorical", self.categorical or ()
        yield "ignored", self.ignored

    def of(self, schema: pl.Schema, used: Iterable[str]) -> Columns:
        """Settle the roles in a table; columns `used` elsewhere are not inferred to be features."""
        numeric, categorical = self.numeric or (), self.categorical or ()
        if self._infers:
            free = self._free(schema, used)
            numeric = tuple(name for name in free if is_number(schema[name]))
            categorical = tuple(name for name in free if schema[name] in CATEGORICAL)
        return Columns(self.key or (ROW,), numeric, categorical, self.target, self.slice)

    def errors(self, rows: pl.DataFrame, used: Iterable[str], expected: Iterable[str]) -> list[str]:
        """Say what is wrong with the roles; columns `expected` may be absent."""
        columns = self.of(rows.schema, used)
        errors = self._absent(rows.columns, expected) + _misfits(rows.schema, columns)
        if self._infers:
            errors += self._strangers(rows.schema, used)
        if not columns.features:
            errors.append("numeric: must name at least one feature, as may categorical (got none)")
        if columns.slice not in (None, *columns.categorical):
            errors.append(f"slice: must be a categorical column (got {columns.slice!r})")
        if self.target in rows.columns:
            errors += self._target_errors(rows[self.target])
        return errors

    @property
    def _infers(self) -> bool:
        return self.numeric is None and self.categorical is None

    def _free(self, schema: pl.Schema, used: Iterable[str]) -> list[str]:
        taken = {name for _, names in self.named() for name in names}.union(used)
        if not self.key:
            taken.add(ROW)
        return [name for name in schema if name not in taken]

    def _absent(self, present: Sequence[str], expected: Iterable[str]) -> list[str]:
        known = {*present, *expected}
        absent = [
            (role, [name for name in names if name not in known]) for role, names in self.named()
        ]
        return [
            f"{role}: must be columns of the table (got {listed(names)}; it has {listed(present)})"
            for role, names in absent
            if names
        ]

    def _strangers(self, schema: pl.Schema, used: Iterable[str]) -> list[str]:
        """Name the columns that can be no feature as they are."""
        columns = self.of(schema, used)
        names = [name for name in self._free(schema, used) if name not in columns.features]
        what = "ignored: must name what is no number, string or Boolean; derive a feature from it"
        return [f"{what} (got {_typed(names, schema)})"] if names else []

    def _target_errors(self, column: pl.Series) -> list[str]:
        if not is_category(column.dtype):
            return [f"target: must hold strings, Booleans or numbers (got {column.dtype})"]
        errors, values = [], target_values(column)
        if len(values) != CLASSES:
            errors.append(
                f"target: must hold two values (got {len(values)} in {self.target}: "
                f"{listed(values)})"
            )
        if self.positive not in values:
            hint = "; put a word such as yes in quotes" if isinstance(self.positive, bool) else ""
            errors.append(
                f"positive: must be one of {self.target}'s values, {listed(values)} "
                f"(got {self.positive!r}{hint})"
            )
        return errors


def target_values(column: pl.Series) -> list[Any]:
    """Give what a target column holds besides null and NaN, sorted."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return column.drop_nulls().unique().sort().to_list()


def listed(values: Sequence[object]) -> str:
    """Write values with commas, the first `NAMED` of them."""
    more = [f"and {len(values) - NAMED} more"] if len(values) > NAMED else []
    return ", ".join([*(str(value) for value in values[:NAMED]), *more]) or "none"


def _misfits(schema: pl.Schema, columns: Columns) -> list[str]:
    """Say which columns are of a type that does not fit their role."""
    errors = []
    for role, names, fits, what in (
        ("key", columns.keys, is_name, "strings, integers or dates"),
        ("numeric", columns.numeric, is_number, "numbers or Booleans"),
        ("categorical", columns.categorical, is_category, "strings, Booleans or integers"),
    ):
        wrong = [name for name in names if name in schema and not fits(schema[name])]
        if wrong:
            errors.append(f"{role}: must hold {what} (got {_typed(wrong, schema)})")
    return errors


def _typed(names: Sequence[str], schema: pl.Schema) -> str:
    return listed([f"{name} of type {schema[name]}" for name in names])
