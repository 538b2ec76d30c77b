"""The recipe `table`: one row per entity already; everything else stands in params.yaml.

Columns have roles. Derived columns are SQL expressions over one row, in the dialect of Polars. The
target becomes 1 where it is `positive` and 0 where it has its other value. Rows without a target
are no examples: they are left out, and counted in the rule.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Annotated, Literal, Self

import polars as pl
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.encoder import texts
from tasks.errors import DataValidationError, ParamsError
from tasks.examples import PARTS, Columns, Split
from tasks.params import Section
from tasks.recipes.roles import CATEGORICAL, ROW, Roles, listed, target_values
from tasks.splits import NAMES, ByKey, ByTime, Lot, Rule


def parsed(expression: str) -> str:
    """Give the expression back if it is SQL; raise a pydantic error if not."""
    try:
        pl.sql_expr(expression)
    except pl.exceptions.PolarsError as error:
        raise PydanticCustomError(
            "sql", "must be an SQL expression: {reason}", {"reason": _first_line(error)}
        ) from None
    return expression


def roots(expression: str) -> set[str]:
    """Name the columns that an SQL expression reads."""
    return set(pl.sql_expr(expression).meta.root_names())


Expression = Annotated[str, AfterValidator(parsed)]


class Table(Section):
    """One row per entity, described by data alone."""

    recipe: Literal["table"]
    columns: Roles
    derived: dict[str, Expression] = Field(
        default={},
        description="new column: SQL expression over the columns of its row, and over derived "
        "columns above it",
    )
    parts: Rule = Field(description="how rows are shared out to train, val and test")

    @model_validator(mode="after")
    def _hide_target(self) -> Self:
        """Refuse features that are made of the target, or that the target is made of."""
        if told := self._told():
            raise PydanticCustomError(
                "leak",
                "no feature may tell the target {target} (got {told}); name it in columns.ignored",
                {"target": self.columns.target, "told": ", ".join(told)},
            )
        return self

    @property
    def entities(self) -> tuple[str, ...]:
        """The columns that say of whom a row of features tells; none if rows are numbered."""
        return self.columns.key

    @property
    def outcome(self) -> frozenset[str]:
        """The target, what it is made of, and what is made of these; no feature is among them."""
        made_of = {name: roots(expression) for name, expression in self.derived.items()}
        telling = {self.columns.target}
        for name in reversed(self.derived):  # what the target is made of stands above it
            if name in telling:
                telling |= made_of[name]
        for name in self.derived:
            if made_of[name] & telling:
                telling.add(name)
        return frozenset(telling)

    def _told(self) -> list[str]:
        """Name the features through which the target could be read."""
        columns, telling = self.columns, self.outcome
        chosen = {*(columns.numeric or ()), *(columns.categorical or ())}
        inferred = columns.numeric is None and columns.categorical is None
        features = telling - set(columns.ignored) if inferred else telling & chosen
        return sorted(features - {columns.target})

    def split(
        self,
        rows: pl.DataFrame,
        *,
        dataset_version: date,  # noqa: ARG002 - what recipes of events count back from
        seed: int,
    ) -> Split:
        """Make the examples of each part, sorted by key, whatever the order of `rows`.

        Raises ParamsError for columns that cannot play their role, DataValidationError for values
        missing from the key or from the column that parts are made by, and for repeated keys.
        """
        rows, columns = self._settled(rows if self.columns.key else _numbered(rows))
        _check_values(rows, columns.keys, self.parts.uses)
        labelled = _label(rows, columns.target, self.columns.positive)
        examples = _features(labelled, columns).with_columns(labelled[columns.target])
        keys, target = examples.select(columns.keys), examples[columns.target]
        part = self.parts.assign(Lot(labelled, keys, target, seed))
        parts = {name: examples.filter(part == name).sort(columns.keys) for name in PARTS}
        rule = self._rule(labelled, part)
        return Split(parts, columns, {**rule, "rows_without_target": len(rows) - len(labelled)})

    def features(self, rows: pl.DataFrame, cutoff: date) -> pl.DataFrame:  # noqa: ARG002 - as above
        """Describe each row of a table, which may lack the target and all that tells it.

        One row per key, sorted: the keys, then the features as `split` makes them. Raises as it.
        """
        unlabelled = rows.drop(self.columns.target, strict=False)
        rows = unlabelled if self.columns.key else _numbered(unlabelled)
        rows, columns = self._settled(rows, absent=self.outcome | set(self.columns.ignored))
        _check_values(rows, columns.keys, ())
        return _features(rows, columns).sort(columns.keys)

    def _rule(self, rows: pl.DataFrame, part: pl.Series) -> dict[str, object]:
        """Tell how the parts were made, as plain values."""
        rule = {"recipe": self.recipe, **self.parts.model_dump(mode="json", exclude_none=True)}
        if isinstance(self.parts, ByTime):
            moments = rows[self.parts.column]
            firsts = {name: str(moments.filter(part == name).min()) for name in NAMES.tolist()}
            rule["first_moments"] = firsts
        return rule

    def _settled(
        self, rows: pl.DataFrame, absent: Collection[str] = ()
    ) -> tuple[pl.DataFrame, Columns]:
        """Add the derived columns and settle the roles; raise ParamsError if anything is wrong.

        absent  columns, derived ones too, that need not be there; parts are then not made either
        """
        rows, faults = self._derive(rows)
        errors = [fault for name, fault in faults.items() if name not in absent]
        expected = {*self.derived, *absent}
        errors += [
            f"columns.{error}"
            for error in self.columns.errors(rows, self.parts.uses, expected=expected)
        ]
        if not absent and not isinstance(self.parts, ByKey):
            errors += [f"parts.{error}" for error in self.parts.check(rows)]
        if errors:
            lines = [f"params.yaml: featurize.{error}" for error in errors]
            raise ParamsError("\n".join([*lines, "change params.yaml, then: dvc repro"]))
        return rows, self.columns.of(rows.schema, self.parts.uses)

    def _derive(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
        """Add the derived columns that can be computed, and say what is wrong with the others."""
        faults = {}
        for name, expression in self.derived.items():
            if name in rows.columns:
                faults[name] = f"derived.{name}: must be a new name (the table has this column)"
                continue
            try:
                derived = _with_derived(rows, name, expression)
            except pl.exceptions.PolarsError as error:
                faults[name] = (
                    f"derived.{name}: must be SQL over columns of the table: {_first_line(error)} "
                    f"(got {expression!r})"
                )
                continue
            if not _is_by_row(rows, derived[name], expression):
                faults[name] = (
                    f"derived.{name}: must be computed from its own row alone, for what other rows "
                    f"tell would leak from part to part (got {expression!r})"
                )
            rows = derived
        return rows, faults


def _check_values(rows: pl.DataFrame, keys: Sequence[str], used: Sequence[str]) -> None:
    """See that keys are there and unique, and that what parts are made by is there."""
    errors = []
    for name in dict.fromkeys([*keys, *used]):
        column = rows[name].fill_nan(None) if rows[name].dtype.is_float() else rows[name]
        if column.null_count():
            errors.append(f"column {name}: must hold no null (got {column.null_count()})")
    named = rows.select(keys)
    repeated = named.filter(named.is_duplicated()).unique().sort(keys).rows()
    if repeated:
        errors.append(
            f"key {', '.join(keys)}: must identify one row (got {len(repeated)} keys more than "
            f"once: {listed(repeated)})"
        )
    if errors:
        fix = "mend the data, or change `featurize` in params.yaml, then: dvc repro"
        raise DataValidationError("\n".join([*errors, fix]))


def _label(rows: pl.DataFrame, target: str, positive: object) -> pl.DataFrame:
    """Make the target Int8: 1 for `positive`, 0 for its other value; leave out rows without one."""
    values = target_values(rows[target])
    codes = [int(value == positive) for value in values]
    coded = _name(rows[target]).replace_strict(values, codes, default=None, return_dtype=pl.Int8)
    return rows.with_columns(coded).filter(coded.is_not_null())


def _features(rows: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Keep the keys, numbers with null for what is not finite, and names."""
    return pl.DataFrame(
        [
            *(_name(rows[name]) for name in columns.keys),
            *(_number(rows[name]) for name in columns.numeric),
            *(texts(rows[name]) for name in columns.categorical),
        ]
    )


def _name(column: pl.Series) -> pl.Series:
    """Give the strings of a categorical column, others as they are."""
    return column.cast(pl.String) if column.dtype in CATEGORICAL else column


def _number(column: pl.Series) -> pl.Series:
    """Give integers and floats as they are, Booleans as 0 and 1, others as floats."""
    if column.dtype == pl.Boolean:
        return column.cast(pl.Int8)
    if column.dtype.is_integer():
        return column
    column = column.cast(pl.Float64) if not column.dtype.is_float() else column
    return column.set(~column.is_finite().fill_null(True), None)


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `ROW`, unless the table has it."""
    if ROW in rows.columns:
        return rows
    plain = [name for name, dtype in rows.schema.items() if not dtype.is_nested()]
    number = pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW)
    return rows.sort(plain).with_columns(number)


def _with_derived(rows: pl.DataFrame, name: str, expression: str) -> pl.DataFrame:
    return rows.with_columns(pl.sql_expr(expression).alias(name))


def _is_by_row(rows: pl.DataFrame, derived: pl.Series, expression: str) -> bool:
    """Tell whether either half of the rows, taken alone, gives the values that the whole gives."""
    for start in (0, 1):
        half = _with_derived(rows.gather_every(2, start), derived.name, expression)
        if not half[derived.name].equals(derived.gather_every(2, start)):
            return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
