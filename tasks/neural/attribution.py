"""What each feature adds to a network's score."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.neural.architecture import Network, Shape, together
from tasks.neural.tables import Table

NODES = 32
"""Points between the typical row and a row at which gradients are taken."""

EXPLAINED_ROWS = 256
"""Rows explained at once: each takes the memory of NODES rows in training."""


def contributions(network: Network, shape: Shape, table: Table) -> NDArray[np.float64]:
    """Give what each feature adds to the log-odds, and last the rest: [rows, features + 1].

    Integrated gradients of Sundararajan et al. (2017), arXiv:1703.01365, from the mean embedding of
    the training rows, by Gauss-Legendre quadrature. The rest is the score of that mean, and what
    the quadrature misses.
    """
    parts = [
        _contributions(network, shape, table.numeric[rows], table.categorical[rows])
        for rows in torch.arange(len(table)).split(EXPLAINED_ROWS)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(shape.sizes) + 1))


def _contributions(
    network: Network, shape: Shape, numeric: torch.Tensor, categorical: torch.Tensor
) -> NDArray[np.float64]:
    network.eval()
    with torch.no_grad():
        there = network.embed(numeric, categorical)  # [rows, inputs]
        score = together(network.score(there)).double()
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    slope = torch.zeros_like(there)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = torch.lerp(network.typical, there, float(node)).requires_grad_()
        (gradient,) = torch.autograd.grad(together(network.score(point)).sum(), point)
        slope += float(weight) * gradient
    moved = (slope * (there - network.typical)).double().split(list(shape.sizes), dim=1)
    added = torch.stack([each.sum(1) for each in moved], dim=1)  # [rows, features]
    rest = score - added.sum(1)
    return torch.cat([added, rest.unsqueeze(1)], dim=1).numpy()
