"""The network on a GPU: speed and use of the card, memory, and a plain loop beside it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from bench import loops
from bench.gpu import card, synthetic
from bench.gpu.measuring import Bench, Facts, Measurements
from tasks.checkpoints import NOWHERE
from tasks.encoder import Dataset
from tasks.neural import architecture, computing, fitting, gauges, memory
from tasks.neural.computing import Precision
from tasks.neural.loss import ClassWeights
from tasks.neural.parallel import ALONE
from tasks.neural.recording import PLAIN_STEPS
from tasks.neural.tables import Table
from tasks.neural.training import Training

SEED = 1
WARM_STEPS, PROFILED_STEPS = PLAIN_STEPS + 2, 10
FEW_ROWS = 200_000
"""Of the table, for the parts `loader` and `bytes`."""


@dataclass
class Settings:
    """As the section `models.network` of params.yaml; of a size that a GPU is rented for."""

    members: int = 32
    width: int = 512
    depth: int = 3
    dropout: float = 0.1
    number_bins: int = 48
    number_embedding: int = 16
    category_embedding: int = 16
    learning_rate: float = 0.002
    warmup_epochs: float = 0.1
    weight_decay: float = 0.01
    gradient_clip_norm: float = 1.0
    class_weight: Literal["none", "balanced"] = "none"
    max_epochs: int = 2
    early_stopping_epochs: int = 3
    batch_size: int = 32_768
    micro_batch_size: int = 32_768
    precision: Precision = "auto"
    threads: int = 1
    compile: bool = False
    deterministic: bool = True


LARGE = Settings()
SMALL = replace(
    LARGE, members=4, width=64, depth=2, number_bins=16, number_embedding=4, category_embedding=4
)
"""Of the size that is shipped."""


def speeds(bench: Bench) -> Measurements:
    """Compare precisions, batches, determinism and compilation, one at a time."""
    if not bench.on_gpu:
        small = {f"batch {rows}": replace(SMALL, batch_size=rows) for rows in (256, 1024)}
        half = {"bfloat16": replace(SMALL, batch_size=1024, precision="bfloat16")}
        return {name: partial(_speed, bench, each) for name, each in {**small, **half}.items()}
    wanted = {
        "large, float32": replace(LARGE, precision="float32"),
        "large, bfloat16": replace(LARGE, precision="bfloat16"),
        "large, float16": replace(LARGE, precision="float16"),
        "large, bfloat16, not deterministic": replace(LARGE, deterministic=False),
        "large, bfloat16, batch 8192": replace(LARGE, batch_size=8192),
        "large, bfloat16, batch 131072 in 4": replace(LARGE, batch_size=131_072),
        "shipped, float32": replace(SMALL, precision="float32"),
        "shipped, bfloat16": SMALL,
        "shipped, bfloat16, batch 131072": replace(
            SMALL, batch_size=131_072, micro_batch_size=131_072
        ),
        "shipped, bfloat16, batch 8192": replace(SMALL, batch_size=8192),
        "shipped, bfloat16, batch 1024": replace(SMALL, batch_size=1024),
        "large, bfloat16, compiled": replace(LARGE, compile=True),
        "shipped, bfloat16, batch 1024, compiled": replace(SMALL, batch_size=1024, compile=True),
    }
    return {name: partial(_speed, bench, settings) for name, settings in wanted.items()}


def _speed(bench: Bench, settings: Settings) -> Iterator[Facts]:
    """Take steps for some seconds, as an epoch does, without a word to the processor."""
    with settled(settings), card.memory(bench.device) as taken:
        training = begin(settings, bench.data, bench.device)
        batches = _endless(training, bench.table)
        first = _seconds(bench, partial(_steps, training, bench.table, batches, 1))
        _steps(training, bench.table, batches, WARM_STEPS)
        card.wait(bench.device)
        started, steps = time.perf_counter(), 0
        with card.busy(bench.device) as busy:
            while time.perf_counter() < started + bench.seconds:
                _steps(training, bench.table, batches, 1)
                steps += 1
            card.wait(bench.device)
            seconds = time.perf_counter() - started
    rows = min(settings.batch_size, len(bench.data))
    yield {
        "rows_per_second": steps * rows / seconds,
        "milliseconds_per_step": 1000 * seconds / steps,
        "first_step_seconds": first,
        **taken,
        **busy.facts,
    }


def kernels(bench: Bench) -> Measurements:
    """Profile some steps: how many kernels a step takes, and how much of the time they run."""
    wanted = {
        "large": LARGE,
        "shipped": SMALL,
        "shipped, batch 1024": replace(SMALL, batch_size=1024),
        "shipped, batch 1024, not deterministic": replace(
            SMALL, batch_size=1024, deterministic=False
        ),
    }
    chosen = wanted if bench.on_gpu else {}
    return {name: partial(_kernels, bench, settings) for name, settings in chosen.items()}


def _kernels(bench: Bench, settings: Settings) -> Iterator[Facts]:
    with settled(settings):
        training = begin(settings, bench.data, bench.device)
        batches = _endless(training, bench.table)
        _steps(training, bench.table, batches, WARM_STEPS)
        work = partial(_steps, training, bench.table, batches, PROFILED_STEPS)
        yield {"steps": PROFILED_STEPS, **card.kernels(work)}


def begin(settings: Settings, data: Dataset, device: torch.device) -> Training:
    """Begin a training as `fitting.train` does."""
    network, _ = architecture.build(settings, data, seed=SEED)
    network.to(device)
    if settings.compile:
        torch.compiler.reset()
        network.compile()
    where = computing.choose(device.type, settings.precision)
    return Training(network, settings, where, weights=ClassWeights(), seed=SEED, group=ALONE)


def _endless(training: Training, table: Table) -> Iterator[torch.Tensor]:
    """Give whole batches without end, of one order of the rows."""
    size = min(training.settings.batch_size, len(table))
    batches = training.order(len(table)).split(size)
    return itertools.cycle(batches[: len(table) // size])


def _steps(training: Training, table: Table, batches: Iterator[torch.Tensor], count: int) -> None:
    training.network.train()
    for number, rows in enumerate(itertools.islice(batches, count)):
        training.step(table, rows, number=number, share=0.5)


def settled(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """Pin threads and algorithms as `fitting.train` does."""
    return computing.settled(threads=settings.threads, deterministic=settings.deterministic)


def _seconds(bench: Bench, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    card.wait(bench.device)
    return time.perf_counter() - started


def whole(bench: Bench) -> Measurements:
    """Train for one epoch with validation, as the learner's `fit` does."""
    if not bench.on_gpu:
        return {"shipped": partial(_whole, bench, replace(SMALL, batch_size=1024))}
    return {"shipped": partial(_whole, bench, SMALL), "large": partial(_whole, bench, LARGE)}


def _whole(bench: Bench, settings: Settings) -> Iterator[Facts]:
    known, val = bench.parts
    told: list[dict[str, float]] = []
    bench.__dict__.pop("table", None)  # it makes room for that of the training
    with card.memory(bench.device) as taken, card.busy(bench.device) as busy:

        def work() -> None:
            fitting.train(
                settings,
                fitting.place(known, val, device=bench.device.type),
                device=bench.device.type,
                epochs=1,
                seed=SEED,
                report=lambda _step, scores: told.append(scores),
                checkpoints=NOWHERE,
            )

        seconds = _seconds(bench, work)
    yield {
        "seconds": seconds,
        "rows_per_second": len(known) / seconds,
        **told[-1],
        **taken,
        **busy.facts,
    }


def against_loader(bench: Bench) -> Measurements:
    """Compare small batches with those of a `DataLoader`, as is and with worker processes."""
    return {
        f"batch {rows}, {workers} workers": partial(_against, bench, rows, workers)
        for rows in (256, 1024)
        for workers in ((0, 8) if bench.on_gpu else (0,))
    }


def _against(bench: Bench, batch_size: int, workers: int) -> Iterator[Facts]:
    data = synthetic.part(bench.data, slice(FEW_ROWS))
    settings = replace(SMALL, batch_size=batch_size, precision="float32")
    with settled(settings):
        training = begin(settings, data, bench.device)
        table = Table.of(data, bench.device)
        ours = _rate(bench, partial(training.one_epoch, table, NOWHERE), len(data))
        other = begin(settings, data, bench.device).network
        optimizer = torch.optim.AdamW(other.parameters(), lr=settings.learning_rate)
        batches = loops.loader(Table.of(data), batch_size, workers=workers)
        epoch = partial(loops.plain_epoch, other, batches, optimizer, device=bench.device)
        plain = _rate(bench, epoch, len(data))
    yield {"ours": ours, "plain": plain, "ratio": ours / plain}


def _rate(bench: Bench, epoch: Callable[[], object], rows: int) -> float:
    """Give rows per second of whole epochs, at least one, after a first one."""
    epoch()
    taken = [_seconds(bench, epoch)]
    while sum(taken) < bench.seconds:
        taken.append(_seconds(bench, epoch))
    return rows * len(taken) / sum(taken)


def growing(bench: Bench) -> Measurements:
    """Double the rows computed at once until memory runs out."""
    return {"large" if bench.on_gpu else "shipped": partial(_growing, bench)}


def _growing(bench: Bench) -> Iterator[Facts]:
    settings = LARGE if bench.on_gpu else SMALL
    where = computing.choose(bench.device.type, settings.precision)
    rows = [1024 << power for power in range(12) if 1024 << power <= len(bench.data) // 2]
    gauge: gauges.Gauge = gauges.Tracker()
    if bench.on_gpu:
        bench.__dict__.pop("table", None)  # this part has a copy of its own
        gauge = gauges.Allocator(bench.device)
    with contextlib.nullcontext() if bench.on_gpu else gauge:
        for point in memory.measure(settings, bench.data, rows, where=where, gauge=gauge):
            gib = None if point.peak is None else point.peak.total / card.GIB
            speed = point.rows_per_second
            yield {"micro_batch": point.rows, "total_gib": gib, "rows_per_second": speed}
