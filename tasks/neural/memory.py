"""How much memory a training takes: measured on a GPU, estimated where there is none.

Both run the very steps of a training. On a GPU its allocator tells the peak. An estimate follows
every tensor through two steps on few rows and through two on twice as many; so each moment of a
step is known as a line in the number of rows, and the peak of any number is that of these lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.encoder import Dataset
from tasks.errors import ParamsError
from tasks.neural import architecture, computing
from tasks.neural.available import available
from tasks.neural.computing import Computing
from tasks.neural.gauges import Gauge, Peak, Tracker
from tasks.neural.loss import ClassWeights
from tasks.neural.parallel import ALONE
from tasks.neural.tables import SCORED_ROWS, Table, predict
from tasks.neural.training import Settings, Training

FEW = 16
"""Rows of the smaller of the two steps that an estimate is made of."""

SHAPING_ROWS = 5000
"""Rows by whose quantiles an estimate counts the pieces of numbers."""

TIMED_STEPS = 3

COPIES = 5
"""Of the weights in a training: they, gradients, both moments of AdamW, and the best ones."""

GIB = 2**30


@dataclass(frozen=True)
class Point:
    """What a training took that computes so many rows at once.

    peak, rows_per_second  None if memory ran out
    """

    rows: int
    peak: Peak | None
    rows_per_second: float | None


def measure(
    settings: Settings,
    data: Dataset,
    micro_batches: Iterable[int],
    *,
    where: Computing,
    gauge: Gauge,
) -> Iterator[Point]:
    """Take some steps with each micro-batch until memory runs out, which the last point tells.

    A batch is of two micro-batches, as far as the table goes. Every peak counts that rows are
    scored after an epoch. Raises what PyTorch raises if memory runs out before the first step.
    """
    with computing.settled(threads=settings.threads, deterministic=settings.deterministic):
        gauge.reset()
        training, table = _start(settings, data, where), Table.of(data, where.device)
        order = training.order(len(table))
        predict(training.network, Table(*table.take(order[:SCORED_ROWS])))
        scoring = gauge.peak()
        training.network.train()
        for rows in micro_batches:
            gauge.reset()
            speed = _speed(training, table, order[: 2 * rows], rows, gauge)
            if speed is None:
                yield Point(rows, None, None)
                return
            yield Point(rows, scoring.joined(gauge.peak()), speed)


def _start(settings: Settings, data: Dataset, where: Computing) -> Training:
    """Begin a training as `fitting.train` does, with a copy of the weights as after an epoch."""
    network, _ = architecture.build(settings, data, seed=0)
    network.to(where.device)
    if settings.compile:
        network.compile()
    training = Training(network, settings, where, weights=ClassWeights(), seed=0, group=ALONE)
    training.judge({})
    return training


def _speed(
    training: Training, table: Table, batch: Tensor, rows: int, gauge: Gauge
) -> float | None:
    """Give rows per second in steps of one batch, None if memory ran out."""
    training.settings = _changed(training.settings, micro_batch_size=rows)
    try:
        training.step(table, batch, number=0, share=0.0)
        gauge.wait()
        started = time.perf_counter()
        for number in range(TIMED_STEPS):
            training.step(table, batch, number=number, share=0.0)
        gauge.wait()
    except RuntimeError as error:
        if not computing.is_out_of_memory(error):
            raise
        return None
    return TIMED_STEPS * len(batch) / (time.perf_counter() - started)


def _changed(settings: Settings, **fields: Any) -> Any:
    kept = {name: getattr(settings, name) for name in Settings.__annotations__}
    return SimpleNamespace(**{**kept, **fields})


@dataclass(frozen=True)
class Footprint:
    """Bytes at each moment of some work, as lines in the number of rows: float64 [moments]."""

    fixed: NDArray[np.float64]
    per_row: NDArray[np.float64]

    @classmethod
    def through(cls, few: list[int], twice: list[int]) -> Footprint:
        """Draw the lines through the traces of the same work on FEW rows, and on twice as many."""
        less, more = np.array([few, twice], dtype=np.float64)
        return cls(fixed=2 * less - more, per_row=(more - less) / FEW)

    def peak(self, rows: int) -> int:
        """Give the most bytes at any moment."""
        return int((self.fixed + self.per_row * rows).max())


@dataclass(frozen=True)
class Estimate:
    """What a training is expected to take beside its table.

    weights  bytes of the network alone, of which a training holds COPIES
    step     of a micro-batch; `scoring` of rows that are scored
    """

    weights: int
    step: Footprint
    scoring: Footprint

    def peak(self, rows: int, *, scored: int) -> int:
        """Give the most bytes with micro-batches of `rows`, on a table with `scored` rows."""
        return max(self.step.peak(rows), self.scoring.peak(min(scored, SCORED_ROWS)))


def estimate(settings: Settings, data: Dataset, dtype: torch.dtype) -> Estimate:
    """Follow two steps and a scoring on few rows, with products in `dtype`, on the processor.

    A GPU keeps no more for the backward pass than the processor does, and of dropout less. What
    torch.compile saves is left out. Raises ParamsError if the weights leave no room to do that.
    """
    every = max(1, len(data) // SHAPING_ROWS)
    thin = replace(data, numeric=data.numeric[::every], categorical=data.categorical[::every])
    plain, where = _changed(settings, compile=False), Computing(torch.device("cpu"), dtype)
    weights = _weights(plain, thin)
    _refuse_if_more(COPIES * weights, available(), rows=0)
    with computing.settled(threads=1, deterministic=settings.deterministic):
        few, twice = (_follow(plain, thin, where, rows) for rows in (FEW, 2 * FEW))
    steps, scorings = zip(few, twice, strict=True)
    return Estimate(weights, Footprint.through(*steps), Footprint.through(*scorings))


def _weights(settings: Settings, data: Dataset) -> int:
    """Count the bytes of a network's weights without making them."""
    with torch.device("meta"):
        network, _ = architecture.build(settings, data, seed=0)
    return sum(each.nbytes for each in network.state_dict().values())


def _follow(
    settings: Settings, data: Dataset, where: Computing, rows: int
) -> tuple[list[int], list[int]]:
    """Give the traces of two steps with micro-batches of `rows` rows, and of scoring as many."""
    width, names = data.numeric.shape[1], data.categorical.shape[1]
    table = Table(
        torch.zeros(rows, width), torch.zeros(rows, names, dtype=torch.int32), torch.zeros(rows)
    )
    with Tracker() as tracker:
        training = _start(_changed(settings, micro_batch_size=rows), data, where)
        tracker.reset()
        for number in range(2):  # the first step makes the optimiser's moments
            training.step(table, torch.arange(2 * rows) % rows, number=number, share=0.0)
        steps = tracker.trace
        tracker.reset()
        predict(training.network, table)
    return steps, tracker.trace


def check(settings: Settings, data: Dataset, device: Literal["cpu", "cuda"]) -> None:
    """Raise ParamsError if training on the processor would take more memory than there is.

    Linux promises memory that it does not have, and later kills who uses it. A GPU refuses.
    """
    if device == "cuda":
        return
    rows = in_use(settings, len(data), processes=int(os.environ.get("WORLD_SIZE", "1")))
    expected = estimate(settings, data, computing.choose("cpu", settings.precision).dtype)
    free = available() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    _refuse_if_more(expected.peak(1, scored=len(data)), free, rows=0)
    _refuse_if_more(expected.peak(rows, scored=len(data)), free, rows=rows)


def _refuse_if_more(need: int, free: int, *, rows: int) -> None:
    """Raise ParamsError if there is too little memory for `rows` rows at once; 0: for any."""
    if need <= free:
        return
    sizes = f"need {need / GIB:.2f} GiB where {free / GIB:.2f} GiB are available"
    if rows:
        raise ParamsError(
            f"params.yaml: models.network.micro_batch_size: must fit into memory (got {rows} rows "
            f"at once, which {sizes}): lower it; batch_size stays what a step learns from\n"
            "next: python -m flows profile, which finds the largest that fits"
        )
    raise ParamsError(
        "params.yaml: models.network: must fit into memory (got weights, and scores of "
        f"{SCORED_ROWS} rows, which {sizes})\n"
        "next: lower width, members, number_bins or number_embedding"
    )


def in_use(settings: Settings, rows: int, *, processes: int) -> int:
    """Give the rows that a process computes at once on a table of so many rows."""
    batch = min(settings.batch_size, rows)
    return max(1, min(settings.micro_batch_size, -(-batch // processes)))


def table_bytes(data: Dataset) -> int:
    """Give what a table takes on a device, with targets and the order of an epoch."""
    return data.numeric.nbytes + data.categorical.nbytes + (4 + 8) * len(data)
