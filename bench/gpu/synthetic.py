"""A table of any length to train on: 45 numbers and 5 categories, some of them missing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tasks.encoder import MISSING, Dataset

NUMBERS = 45
CARDINALITIES = (4, 12, 50, 200, 1000)
NULLS = 0.05
"""Share of missing values, in every third number and in all categories."""

CHUNK = 250_000
"""Rows that are drawn from one seed, so that processors can share the work."""


def table(rows: int, *, seed: int) -> Dataset:
    """Draw a table; how many processors share the work does not change it."""
    numeric = np.empty((rows, NUMBERS), np.float32)
    categorical = np.empty((rows, len(CARDINALITIES)), np.int32)
    target = np.empty(rows, np.float32)

    def draw(start: int) -> None:
        part = slice(start, start + CHUNK)
        _draw(np.random.default_rng([seed, start]), numeric[part], categorical[part], target[part])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(draw, range(0, rows, CHUNK)))
    names = tuple(f"x{number}" for number in range(NUMBERS + len(CARDINALITIES)))
    return Dataset(numeric, categorical, target, names, CARDINALITIES)


def part(data: Dataset, rows: slice) -> Dataset:
    """Give some rows of a table, without a copy."""
    target = None if data.target is None else data.target[rows]
    return Dataset(
        data.numeric[rows], data.categorical[rows], target, data.names, data.cardinalities
    )


def _draw(
    draw: np.random.Generator, numeric: np.ndarray, categorical: np.ndarray, target: np.ndarray
) -> None:
    """Fill the rows of a chunk; steps, products and categories tell the target, noise hides it."""
    draw.standard_normal(out=numeric, dtype=np.float32)
    for column, codes in enumerate(CARDINALITIES):
        categorical[:, column] = draw.integers(1, codes, len(target))
    kinds = np.sin(np.arange(max(CARDINALITIES)) * 1.7)
    log_odds = (
        numeric[:, 0]
        + numeric[:, 1] * numeric[:, 2]
        + 2 * (np.abs(numeric[:, 3]) > 1)
        + kinds[categorical].sum(axis=1)
        - 1.5
    )
    target[:] = draw.random(len(target)) < 1 / (1 + np.exp(-log_odds))
    for column in range(0, NUMBERS, 3):
        numeric[draw.random(len(target), np.float32) < NULLS, column] = np.nan
    categorical[draw.random(categorical.shape, np.float32) < NULLS] = MISSING
