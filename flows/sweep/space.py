"""What Optuna draws from: the space of params.yaml in its words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from flows.sweep.section import Dimension, values


def distributions(space: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """Give Optuna's distribution of each searched parameter, in the order of their names."""
    return {name: _distribution(space[name]) for name in sorted(space)}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, list):
        return CategoricalDistribution(dimension)
    low, high, log, step = dimension.low, dimension.high, dimension.log, dimension.step
    if isinstance(low, int):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def contains(space: Mapping[str, Dimension], point: Mapping[str, Any]) -> bool:
    """Tell whether a value of each parameter could be drawn."""
    return all(_holds(space[name], value) for name, value in point.items())


def _holds(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, list):
        return value in dimension
    steps = (value - dimension.low) / dimension.step if dimension.step else 0
    return dimension.low <= value <= dimension.high and math.isclose(steps, round(steps))


def grid(space: Mapping[str, Dimension]) -> dict[str, list[Any]]:
    """Give all values of each searched parameter."""
    return {name: list(values(space[name]) or []) for name in sorted(space)}
