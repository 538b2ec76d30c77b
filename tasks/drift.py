"""Tell how far two samples of scores or of a feature have drifted apart, in plain numpy.

The measure is the population stability index (PSI): the sum over bins of the difference between
the two shares times the logarithm of their ratio. 0 is no drift; by custom, over 0.1 is a shift
and over 0.25 a large one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.encoder import Dataset
from tasks.metrics import Floats

MOST_BINS = 10
ROWS_PER_BIN = 50
"""The rows a sample needs for each bin: in fewer, chance alone would look like drift."""


def of_features(expected: Dataset, actual: Dataset) -> dict[str, float]:
    """Give the PSI of each feature between two parts, in the features' order."""
    numbers = expected.numeric.shape[1]
    found = {}
    for position, name in enumerate(expected.names):
        if position < numbers:
            columns = [data.numeric[:, position].astype(np.float64) for data in (expected, actual)]
            found[name] = psi_of_numbers(columns[0], columns[1])
        else:
            codes = [data.categorical[:, position - numbers] for data in (expected, actual)]
            found[name] = psi_of_codes(codes[0], codes[1])
    return found


def psi(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """Compute the PSI of two samples by how many rows each has in each bin.

    A bin that is empty in one sample stays finite by half a row more; one empty in both is skipped.
    """
    told = (expected > 0) | (actual > 0)
    first, second = (
        (counts[told] + 0.5) / (counts[told] + 0.5).sum() for counts in (expected, actual)
    )
    return float(((first - second) * np.log(first / second)).sum())


def psi_of_numbers(expected: Floats, actual: Floats) -> float:
    """Give the PSI between two samples of one number.

    Bins hold equal counts of `expected`, as far as ties allow; NaN has a bin of its own.
    """
    known = expected[~np.isnan(expected)]
    bins = _bins(expected, actual)
    edges = np.empty(0)
    if len(known):
        shares = np.arange(1, bins) / bins
        edges = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    positions = [
        np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
        for values in (expected, actual)
    ]
    return _psi_of_bins(positions[0], positions[1])


def psi_of_codes(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """Give the PSI between two samples of one category's codes (0, 1, ..).

    The commonest codes of `expected` have a bin each, all others share one.
    """
    codes = 1 + int(max(expected.max(initial=0), actual.max(initial=0)))
    commonest = np.argsort(-np.bincount(expected, minlength=codes), kind="stable")
    own = commonest[: _bins(expected, actual) - 1]
    position = np.full(codes, len(own))
    position[own] = np.arange(len(own))
    return _psi_of_bins(position[expected], position[actual])


def _bins(expected: NDArray[Any], actual: NDArray[Any]) -> int:
    return min(max(min(len(expected), len(actual)) // ROWS_PER_BIN, 2), MOST_BINS)


def _psi_of_bins(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    bins = 1 + int(max(expected.max(initial=0), actual.max(initial=0)))
    return psi(np.bincount(expected, minlength=bins), np.bincount(actual, minlength=bins))
