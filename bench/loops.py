"""The training loops that the learners are measured against; none has more than its task needs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.utils.data
from torch import Tensor
from torch.nn import functional

from tasks.neural.architecture import Network, together
from tasks.neural.tables import CPU, SCORED_ROWS, Table
from tasks.neural.training import Settings

Batch = tuple[Tensor, Tensor, Tensor]


class Rows(torch.utils.data.Dataset[Batch]):
    """A table that hands out one row after the other, as tutorials have it."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Batch:
        return self.table.numeric[row], self.table.categorical[row], self.table.target[row]


def loader(
    table: Table, batch_size: int, *, workers: int = 0
) -> torch.utils.data.DataLoader[Batch]:
    """Give the batches of each epoch in a random order, put together row by row.

    workers  processes that do so ahead of time, none by default, as PyTorch has it
    """
    return torch.utils.data.DataLoader(
        Rows(table),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=workers > 0,
        persistent_workers=workers > 0,
    )


def plain_epoch(
    network: Network,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    device: torch.device = CPU,
) -> None:
    """Train for one epoch the way that most PyTorch code is written."""
    network.train()
    for batch in batches:
        numeric, categorical, target = (each.to(device) for each in batch)
        optimizer.zero_grad()
        _loss(network(numeric, categorical), target).backward()
        optimizer.step()


def bare_network(network: Network, settings: Settings, table: Table, val: Table) -> float:
    """Train on tensors for all epochs, with a log loss of validation after each; give the last.

    Batches are indexed, gradients are clipped and the optimiser is fused, as in the learner.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, fused=True)
    for _ in range(settings.max_epochs):
        network.train()
        for rows in torch.randperm(len(table)).split(settings.batch_size):
            numeric, categorical, target = table.take(rows)
            _loss(network(numeric, categorical), target).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        loss = validation(network, val)
    return loss


@torch.no_grad()
def validation(network: Network, val: Table) -> float:
    """Give the log loss of rows that were not trained on."""
    network.eval()
    parts = zip(val.numeric.split(SCORED_ROWS), val.categorical.split(SCORED_ROWS), strict=True)
    log_odds = torch.cat([together(network(*part)) for part in parts])
    return float(functional.binary_cross_entropy_with_logits(log_odds, val.target))


def _loss(log_odds: Tensor, target: Tensor) -> Tensor:
    wanted = target.unsqueeze(1).expand_as(log_odds)
    return functional.binary_cross_entropy_with_logits(log_odds, wanted)
