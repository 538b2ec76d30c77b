"""Make probabilities of scores, by what happened on rows that were not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_STEPS = 50
ENOUGH = 1e-9


def fit(log_odds: Floats, target: NDArray[np.float32]) -> tuple[float, float]:
    """Find slope and intercept that make log-odds [rows] fit the targets best.

    Platt's scaling (1999) with his targets, which stay clear of 0 and 1, by Newton's method. A part
    that holds one class only says nothing: (1, 0).
    """
    positives, rows = float(target.sum(dtype=np.float64)), len(target)
    if positives in (0.0, rows):
        return 1.0, 0.0
    high, low = (positives + 1) / (positives + 2), 1 / (rows - positives + 2)
    wanted = np.where(target == 1, high, low)
    inputs = np.stack([log_odds, np.ones(rows)])
    line = np.array([1.0, 0.0])
    loss = _loss(line @ inputs, wanted)
    for _ in range(MOST_STEPS):
        step = _newton(inputs, probability(line @ inputs), wanted)
        while (new := _loss((line - step) @ inputs, wanted)) > loss and np.abs(step).max() > ENOUGH:
            step /= 2
        line, loss = line - step, new
        if np.abs(step).max() <= ENOUGH:
            break
    return float(line[0]), float(line[1])


def probability(log_odds: Floats) -> Floats:
    """Give the probabilities of log-odds, however large."""
    return np.exp(-np.logaddexp(0, -log_odds))


def _loss(log_odds: Floats, wanted: Floats) -> float:
    return float(np.sum(np.logaddexp(0, log_odds) - wanted * log_odds))


def _newton(inputs: Floats, score: Floats, wanted: Floats) -> Floats:
    """Give the step to take off; the ridge keeps it finite where all rows score alike."""
    gradient = inputs @ (score - wanted)
    curvature = (inputs * (score * (1 - score))) @ inputs.T + 1e-6 * np.eye(2)
    return np.linalg.solve(curvature, gradient).astype(np.float64)
