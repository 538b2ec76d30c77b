"""A tabular network: embeddings of numbers and categories, then an ensemble that shares its MLP.

* Numbers are encoded piecewise-linearly between quantiles and embedded feature by feature, as by
  Gorishniy et al. (2022), arXiv:2203.05556. A missing number is a piece of its own.
* Categories have a vector per code. The vector of a code never trained on is the mean of the
  others, by their frequency.
* The ensemble is TabM-mini of Gorishniy et al. (2024), arXiv:2410.24210: each member scales the
  input in its own way, all pass through one MLP, and each has its own output.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tasks.encoder import Dataset

QUANTILE_ROWS = 200_000
"""Rows, evenly spaced, of which quantiles are taken at most."""

LARGEST = 1e38
"""Numbers beyond count as this one, so that differences stay finite."""


@dataclass(frozen=True)
class Shape:
    """All that an empty network is built from, as `learner.json` holds it.

    bins           pieces of each number, one entry a feature; 0 for one that never varies
    cardinalities  codes of each category
    """

    bins: tuple[int, ...]
    cardinalities: tuple[int, ...]
    number_embedding: int
    category_embedding: int
    members: int
    width: int
    depth: int
    dropout: float

    @property
    def sizes(self) -> tuple[int, ...]:
        """Give how many inputs of the MLP each feature has, numbers first."""
        numbers = (self.number_embedding,) * len(self.bins)
        return numbers + (self.category_embedding,) * len(self.cardinalities)


class PiecewiseLinearEmbeddings(nn.Module):
    """Embed numbers: each is a sum of vectors, one a piece that it has passed, in part the last."""

    start: Tensor
    length: Tensor

    def __init__(self, bins: tuple[int, ...], size: int) -> None:
        super().__init__()
        most = max(bins)
        self.register_buffer("start", torch.zeros(len(bins), most))
        self.register_buffer("length", torch.ones(len(bins), most))
        self.weight = nn.Parameter(torch.empty(len(bins), most, size))
        self.missing = nn.Parameter(torch.empty(len(bins), size))
        self.bias = nn.Parameter(torch.zeros(len(bins), size))
        bound = (most + 1) ** -0.5
        for each in (self.weight, self.missing):
            nn.init.uniform_(each, -bound, bound)

    def set_edges(self, edges: list[NDArray[np.float32]]) -> None:
        """Take the edges of each feature's pieces; pieces that a feature lacks stay empty."""
        self.start.fill_(torch.inf)
        self.length.fill_(1)
        for feature, points in enumerate(edges):
            pieces = len(points) - 1
            if pieces > 0:
                self.start[feature, :pieces] = torch.from_numpy(points[:-1])
                self.length[feature, :pieces] = torch.from_numpy(np.diff(points))

    def forward(self, numeric: Tensor) -> Tensor:
        """Embed [rows, features] with NaN where missing: [rows, features, size]."""
        missing = numeric.isnan()
        # A missing number lies before all pieces, and so passes none.
        number = numeric.clamp(-LARGEST, LARGEST).masked_fill(missing, -torch.inf).unsqueeze(-1)
        pieces = ((number - self.start) / self.length).clamp(0, 1)
        # A place between two quantiles needs more digits than half precision has.
        with torch.autocast(numeric.device.type, enabled=False):
            passed = torch.einsum("rfp,fps->rfs", pieces, self.weight)
        return functional.relu(passed + missing.unsqueeze(-1) * self.missing + self.bias)


class CategoricalEmbeddings(nn.Module):
    """Embed codes, each column in its own rows of one table."""

    first: Tensor

    def __init__(self, cardinalities: tuple[int, ...], size: int) -> None:
        super().__init__()
        starts = np.cumsum((0, *cardinalities[:-1]))
        self.register_buffer("first", torch.tensor(starts, dtype=torch.int32), persistent=False)
        self.table = nn.Parameter(torch.randn(sum(cardinalities), size) * size**-0.5)

    def forward(self, categorical: Tensor) -> Tensor:
        """Embed codes [rows, features]: [rows, features, size]."""
        return functional.embedding(categorical + self.first, self.table)

    @torch.no_grad()
    def fill_untrained(self, categorical: Tensor) -> None:
        """Give the codes that no row has the mean of their column's others, by frequency."""
        counts = torch.bincount((categorical + self.first).flatten(), minlength=len(self.table))
        edges = [*self.first.tolist(), len(self.table)]
        for start, stop in pairwise(edges):
            vectors, rows = self.table[start:stop], counts[start:stop].to(self.table.dtype)
            vectors[rows == 0] = rows @ vectors / rows.sum()


class Network(nn.Module):
    """Score encoded examples by every member of the ensemble.

    typical  the mean embedding of the training rows, from which contributions are counted
    """

    typical: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inputs = sum(shape.sizes)
        self.numbers = (
            PiecewiseLinearEmbeddings(shape.bins, shape.number_embedding) if shape.bins else None
        )
        self.categories = (
            CategoricalEmbeddings(shape.cardinalities, shape.category_embedding)
            if shape.cardinalities
            else None
        )
        # Random signs tell the members apart from the first step on.
        self.scale = nn.Parameter(torch.randint(2, (shape.members, inputs)) * 2.0 - 1)
        widths = [inputs, *[shape.width] * shape.depth]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.dropout = nn.Dropout(shape.dropout)
        self.output = nn.Parameter(torch.empty(shape.members, widths[-1]))
        self.bias = nn.Parameter(torch.zeros(shape.members))
        nn.init.uniform_(self.output, -(widths[-1] ** -0.5), widths[-1] ** -0.5)
        self.register_buffer("typical", torch.zeros(inputs))

    def embed(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Embed rows, feature after feature: [rows, inputs]."""
        parts = []
        if self.numbers is not None:
            parts.append(self.numbers(numeric).flatten(1))
        if self.categories is not None:
            parts.append(self.categories(categorical).flatten(1))
        return torch.cat(parts, dim=1)

    def score(self, embedded: Tensor) -> Tensor:
        """Give each member's log-odds of embedded rows: [rows, members]."""
        first, members = cast("nn.Linear", self.hidden[0]), len(self.scale)
        # To scale the weights instead of every row's inputs is the same, and far less to compute.
        weight = (first.weight * self.scale.unsqueeze(1)).flatten(0, 1)
        inside: Tensor = functional.linear(embedded, weight, first.bias.repeat(members))
        inside = self.dropout(functional.relu(inside.unflatten(1, (members, -1))))
        for layer in self.hidden[1:]:
            inside = self.dropout(functional.relu(layer(inside)))  # [rows, members, width]
        return (inside * self.output.to(inside.dtype)).sum(-1) + self.bias

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Give each member's log-odds: [rows, members]."""
        return self.score(self.embed(numeric, categorical))


def together(log_odds: Tensor) -> Tensor:
    """Give the log-odds [rows] of the mean of the members' probabilities, from [rows, members]."""
    positive = functional.logsigmoid(log_odds).logsumexp(-1)
    return positive - functional.logsigmoid(-log_odds).logsumexp(-1)


def edges(numeric: NDArray[np.float32], bins: int) -> list[NDArray[np.float32]]:
    """Give the distinct quantiles of each column, `bins` + 1 of them at most.

    A column that never varies has fewer than two, and so no piece.
    """
    step = max(1, len(numeric) // QUANTILE_ROWS)
    found = []
    for column in numeric[::step].T:
        present = np.sort(column[np.isfinite(column)].clip(-LARGEST, LARGEST))
        # Values that occur, not means of two, so that a copy of them falls on the edge itself.
        wanted = np.linspace(0, max(len(present) - 1, 0), bins + 1).round().astype(np.int64)
        found.append(np.unique(present[wanted]) if len(present) else present)
    return found


def build(settings: Any, train: Dataset, *, seed: int) -> tuple[Network, Shape]:
    """Make an untrained network for a table; the same seed gives the same weights.

    settings  has the fields of `Shape` that are not the table's, and `number_bins`
    """
    points = edges(train.numeric, settings.number_bins)
    shape = Shape(
        bins=tuple(max(len(each) - 1, 0) for each in points),
        cardinalities=train.cardinalities,
        number_embedding=settings.number_embedding,
        category_embedding=settings.category_embedding,
        members=settings.members,
        width=settings.width,
        depth=settings.depth,
        dropout=settings.dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(shape)
    if network.numbers is not None:
        network.numbers.set_edges(points)
    return network, shape
