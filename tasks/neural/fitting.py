"""Fit a network to a table, from untrained weights to a network that can be used anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tasks import seeds
from tasks.checkpoints import Checkpoints
from tasks.encoder import Dataset
from tasks.listeners import Judge, Report, approve
from tasks.neural import architecture, computing, parallel
from tasks.neural.architecture import Network, Shape
from tasks.neural.loss import ClassWeights
from tasks.neural.tables import SCORED_ROWS, Placed, Table, predict
from tasks.neural.training import Settings, Training

TYPICAL_ROWS = 20_000
"""Rows, evenly spaced, whose mean embedding is the typical one, at most twice as many."""


@dataclass(frozen=True)
class Trained:
    """What a training came to: a network on the processor that gives log-odds of true classes.

    epochs    how many led to its weights
    log_odds  of the validation rows, float64 [rows]; of none without validation
    """

    network: Network
    shape: Shape
    epochs: int
    log_odds: NDArray[np.float64]


def place(train: Dataset, val: Dataset | None, *, device: Literal["cpu", "cuda"]) -> Placed:
    """Copy the parts of a table to the device, for as many trainings as one likes."""
    local_rank = parallel.join(device).local_rank
    target = computing.choose(device, "float32", local_rank=local_rank).device
    held_out = None if val is None else Table.of(val, target)
    return Placed(train, val, Table.of(train, target), held_out)


def train(
    settings: Settings,
    parts: Placed,
    *,
    device: Literal["cpu", "cuda"],
    epochs: int,
    seed: int,
    report: Report,
    checkpoints: Checkpoints,
    judge: Judge = approve,
) -> Trained:
    """Build a network for a table and train it; without validation for all `epochs`.

    Raises ParamsError if the loss leaves all bounds, and what PyTorch raises if memory runs out.
    """
    data, table = parts.train, parts.table
    target = np.empty(0, np.float32) if data.target is None else data.target
    weights = ClassWeights.of(target, settings.class_weight)
    group = parallel.join(device)
    with computing.settled(threads=settings.threads, deterministic=settings.deterministic):
        chosen = computing.choose(device, settings.precision, local_rank=group.local_rank)
        network, shape = architecture.build(settings, data, seed=seeds.derive(seed, "weights"))
        nn.init.constant_(network.bias, weights.prior(target))
        network.to(chosen.device)
        if settings.compile:
            network.compile()
        training = Training(network, settings, chosen, weights=weights, seed=seed, group=group)
        training.run(
            table,
            parts.held_out,
            epochs=epochs,
            report=report,
            checkpoints=checkpoints,
            judge=judge,
        )
        finished = finish(network, shape, table, shift=weights.shift)
        held_out = parts.held_out
        log_odds = np.empty(0) if held_out is None else predict(finished, held_out, group=group)
    return Trained(finished.cpu(), shape, training.best_epoch, log_odds)


@torch.no_grad()
def finish(network: Network, shape: Shape, table: Table, *, shift: float) -> Network:
    """Copy a trained network, completed by what it needs to be used.

    shift  what the weights of classes have added to its log-odds
    """
    if network.categories is not None:
        network.categories.fill_untrained(table.categorical)
    network.bias.sub_(shift)
    spaced = slice(None, None, max(1, len(table) // TYPICAL_ROWS))
    numeric, categorical = table.numeric[spaced], table.categorical[spaced]
    total = torch.zeros(len(network.typical), dtype=torch.float64, device=network.typical.device)
    for part in zip(numeric.split(SCORED_ROWS), categorical.split(SCORED_ROWS), strict=True):
        total += network.embed(*part).double().sum(0)
    network.typical.copy_(total / len(numeric))
    finished = Network(shape).to(network.typical.device)
    finished.load_state_dict(network.state_dict())
    return finished.eval()
