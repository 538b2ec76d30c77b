"""Turn raw example columns into arrays, with what was learned from the training part alone.

The encoder travels with the model, so training, evaluation, scoring and serving share one code.

* Numbers may be of any integer, float, decimal or Boolean type and become float32. Null, NaN,
  infinity and whatever exceeds a float32 are missing: NaN. Dates are no numbers: derive one.
* Categories may be strings, Booleans or integers and become int32 codes: 0 is missing, 1 is
  unknown (not seen in training), 2 and up are the known ones in sorted order. A whole float is
  read as the integer it equals, because pandas makes floats of integers with nulls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.errors import DataValidationError
from tasks.examples import Columns

MISSING, UNKNOWN, FIRST_KNOWN = 0, 1, 2
"""Codes of a category."""

DTYPES = {"numeric": "float32", "categorical": "int32", "target": "float32"}


@dataclass(frozen=True)
class Dataset:
    """Encoded examples.

    numeric        float32 [rows, numbers], NaN where missing
    categorical    int32 [rows, categories], 0 missing, 1 unknown, 2.. known
    target         float32 [rows] of 0 and 1, or None where the outcome is not given
    names          of the numeric, then of the categorical columns
    cardinalities  how many codes each categorical column has, 0 and 1 included
    """

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int32]
    target: NDArray[np.float32] | None
    names: tuple[str, ...]
    cardinalities: tuple[int, ...]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.numeric)


@dataclass(frozen=True)
class Number:
    """What the training part tells of a numeric column, to 9 significant digits.

    std  of the population; 1 where all values are equal, so that it can divide
    """

    median: float
    mean: float
    std: float


@dataclass(frozen=True)
class Encoder:
    """Codes and statistics of the training part, by column; the order is that of the arrays.

    dtypes  of the raw feature columns as fitted, by their Polars names
    """

    numbers: dict[str, Number]
    categories: dict[str, tuple[str, ...]]
    target: str
    dtypes: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Numeric, then categorical columns."""
        return (*self.numbers, *self.categories)

    @classmethod
    def fit(cls, frame: pl.DataFrame, columns: Columns) -> Encoder:
        """Learn from the training part.

        Raises DataValidationError for columns that are absent or of a type that cannot be encoded.
        """
        _check(frame, columns.numeric, columns.categorical)
        return cls(
            numbers={name: _describe(_floats(frame[name])) for name in columns.numeric},
            categories={
                name: tuple(texts(frame[name]).drop_nulls().unique().sort())
                for name in columns.categorical
            },
            target=columns.target,
            dtypes={name: str(frame[name].dtype) for name in columns.features},
        )

    def encode(self, frame: pl.DataFrame) -> Dataset:
        """Encode raw example columns; other columns are ignored, an absent target is None.

        Raises DataValidationError for columns that are absent or of a type that cannot be encoded.
        """
        given = [self.target] if self.target in frame.columns else []
        _check(frame, [*self.numbers, *given], self.categories)
        numeric = np.empty((len(frame), len(self.numbers)), np.float32)
        for position, name in enumerate(self.numbers):
            numeric[:, position] = _floats(frame[name])
        categorical = np.empty((len(frame), len(self.categories)), np.int32)
        for position, (name, known) in enumerate(self.categories.items()):
            categorical[:, position] = _codes(texts(frame[name]), known)
        return Dataset(
            numeric=numeric,
            categorical=categorical,
            target=_floats(frame[self.target]) if given else None,
            names=self.names,
            cardinalities=tuple(FIRST_KNOWN + len(known) for known in self.categories.values()),
        )

    def to_json(self) -> str:
        """Give JSON text that `from_json` turns into an equal encoder."""
        value = {
            "encoded": DTYPES,
            "codes": {"missing": MISSING, "unknown": UNKNOWN, "first_known": FIRST_KNOWN},
            **asdict(self),
        }
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """Read what `to_json` wrote."""
        value = json.loads(text)
        return cls(
            numbers={name: Number(**number) for name, number in value["numbers"].items()},
            categories={name: tuple(known) for name, known in value["categories"].items()},
            target=value["target"],
            dtypes=value["dtypes"],
        )


def is_number(dtype: pl.DataType) -> bool:
    """Tell whether a column of this type can be a numeric feature; one of nulls alone can."""
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)


def is_category(dtype: pl.DataType) -> bool:
    """Tell whether a column of this type can be a categorical feature; one of nulls alone can."""
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null) or dtype.is_numeric()


def texts(column: pl.Series) -> pl.Series:
    """Give the names of a categorical column, null where missing; 2.0 reads "2"."""
    if not column.dtype.is_float():
        return column.cast(pl.String)
    whole = ((column % 1 == 0) & (column.abs() < 2**53)).fill_null(False)
    integers = column.set(~whole, None).cast(pl.Int64).cast(pl.String)
    return integers.zip_with(whole, column.fill_nan(None).cast(pl.String))


def _check(frame: pl.DataFrame, numeric: Iterable[str], categorical: Iterable[str]) -> None:
    errors = []
    for names, fits, what in (
        (numeric, is_number, "integers, floats, decimals or Booleans"),
        (categorical, is_category, "strings, Booleans or integers"),
    ):
        for name in names:
            if name not in frame.columns:
                errors.append(f"column {name}: must be present (got none of this name)")
            elif not fits(frame[name].dtype):
                errors.append(f"column {name}: must hold {what} (got {frame[name].dtype})")
    if errors:
        raise DataValidationError(
            "\n".join(errors) + "\ngive the columns that the model was trained on"
        )


def _floats(column: pl.Series) -> NDArray[np.float32]:
    """Give float32 [rows] with NaN for null and for what is not finite as a float32."""
    with np.errstate(over="ignore"):
        values = column.cast(pl.Float64).to_numpy().astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


def _codes(texts: pl.Series, known: tuple[str, ...]) -> NDArray[np.int32]:
    ranks = texts.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int32)
    codes = (ranks + FIRST_KNOWN).fill_null(UNKNOWN).to_numpy()
    return np.where(texts.is_null().to_numpy(), np.int32(MISSING), codes)


def _describe(values: NDArray[np.float32]) -> Number:
    """Describe the values that are there; a column without any is (0, 0, 1)."""
    present = values[np.isfinite(values)].astype(np.float64)
    if not len(present):
        return Number(median=0.0, mean=0.0, std=1.0)
    return Number(
        median=_nine_digits(float(np.median(present))),
        mean=_nine_digits(float(np.mean(present))),
        std=_nine_digits(float(np.std(present))) or 1.0,
    )


def _nine_digits(value: float) -> float:
    """Keep what tells any two float32 apart, and so the same number here and in the JSON."""
    return float(f"{value:.9g}")
