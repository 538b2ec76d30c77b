"""Tell what memory the learner `network` takes on your own table, and which GPU has as much.

On a GPU it is measured: growing micro-batches, a few steps each, until memory runs out or the
table is spent. Elsewhere it is estimated, for a GPU and for the processor. It is the section
`models.network` of params.yaml that is profiled, whatever `model` says.

    python -m tasks.profile data/featurize .verbatim/profile
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tasks import command, devices, files
from tasks.encoder import Dataset, Encoder
from tasks.errors import DataValidationError, StageError
from tasks.models import Models
from tasks.models.network import Network

if TYPE_CHECKING:
    from tasks.neural import memory
    from tasks.neural.computing import Computing
    from tasks.neural.gauges import Gauge

Facts = dict[str, Any]
Point = dict[str, Any]
"""What a micro-batch of `rows` takes, and whether it `fits`.

gpu_gib          of a GPU, all in all; `reserved_gib` and `allocated_gib` of it by PyTorch
cpu_gib          of the processors' memory, for all processes
parts            in which a process computes its share of a batch
gpus             the smallest types of GPU that would do
"""

FIRST = 256
"""Rows of the smallest micro-batch that is tried."""

PARTS = ("train", "between", "val")
"""The table is that of a refit: no other training has more rows on the device."""

GIB = 2**30

TO_COUNT_ON = 0.9
"""Of the memory in a GPU's data sheet: error correction and the driver take up to 9 % of it."""

CUDA_GIB = 0.6
"""Taken by CUDA itself; an expectation, for where it is not measured."""

SCATTER = 1.2
"""What PyTorch reserves for what its tensors take; an expectation, likewise."""


@dataclass(frozen=True)
class GpuType:
    """A type of GPU; `bfloat16` is whether it computes that itself."""

    name: str
    gib: int
    bfloat16: bool = True


GPU_TYPES = (
    GpuType("T4", 16, bfloat16=False),
    GpuType("V100-16GB", 16, bfloat16=False),
    GpuType("A10G", 24),
    GpuType("L4", 24),
    GpuType("RTX 4090", 24),
    GpuType("V100-32GB", 32, bfloat16=False),
    GpuType("RTX 5090", 32),
    GpuType("A100-40GB", 40),
    GpuType("L40S", 48),
    GpuType("A100-80GB", 80),
    GpuType("H100", 80),
    GpuType("H200", 141),
    GpuType("B200", 180),
)
"""Usual types by memory, from NVIDIA's data sheets; bfloat16 came with Ampere (2020)."""


def micro_batches(rows: int, in_use: int) -> list[int]:
    """Give the micro-batches to try: powers of two up to `rows`, and the one in use."""
    doubled = [FIRST << power for power in range(rows.bit_length()) if FIRST << power <= rows]
    return sorted({*doubled, in_use})


def share(settings: Network) -> int:
    """Give the most rows of a batch that one process computes."""
    return -(-settings.batch_size // settings.processes)


def smallest(need_gib: float, precision: str) -> list[str]:
    """Name the types of GPU with the least memory that suffices; none if no type has as much."""
    fit = [
        each
        for each in GPU_TYPES
        if need_gib <= TO_COUNT_ON * each.gib and (each.bfloat16 or precision != "bfloat16")
    ]
    return [each.name for each in fit if each.gib == fit[0].gib]


def suggested(settings: Network, in_use: int, fitting: list[int]) -> int | None:
    """Give the `micro_batch_size` to train with, None if nothing fits.

    It stays as it is where it fits and computes a batch in one go. Else it is the largest that
    fits, and no larger than a process's share of a batch.
    """
    if in_use in fitting and settings.micro_batch_size >= share(settings):
        return settings.micro_batch_size
    return min(max(fitting), share(settings)) if fitting else None


def advise(settings: Network, in_use: int, points: list[Point]) -> dict[str, Any]:
    """Complete points by `parts` and `gpus`; give them with `largest` and `suggested`."""
    fitting = [point["rows"] for point in points if point["fits"]]
    advised = [{**point, "parts": -(-share(settings) // point["rows"])} for point in points]
    for point in advised:
        if "gpu_gib" in point:
            point["gpus"] = smallest(point["gpu_gib"], settings.precision)
    return {
        "batch_size": settings.batch_size,
        "processes": settings.processes,
        "micro_batch_size": settings.micro_batch_size,
        "in_use": in_use,
        "largest": max(fitting, default=None),
        "suggested": suggested(settings, in_use, fitting),
        "points": advised,
    }


def measure(
    settings: Network, data: Dataset, tried: list[int], *, where: Computing, gauge: Gauge
) -> list[Point]:
    """Measure until a point does not fit.

    Raises StageError if the table and its scoring alone take more memory than there is.
    """
    from tasks.neural import computing, memory

    points: list[Point] = []
    try:
        for each in memory.measure(settings, data, tried, where=where, gauge=gauge):
            points.append(point(each))
            print(f"progress {len(points)}/{len(tried)} micro_batch_size={each.rows}", flush=True)
    except RuntimeError as error:
        if not computing.is_out_of_memory(error):
            raise
        raise StageError(
            "models.network: must fit into memory (got a table and a network whose scores alone "
            "take more)\n"
            "next: lower width, members or number_bins in params.yaml, or take a larger GPU"
        ) from error
    return points


def point(found: memory.Point) -> Point:
    """Turn what was measured into plain values."""
    if found.peak is None:
        return {"rows": found.rows, "fits": False}
    return {
        "rows": found.rows,
        "fits": True,
        "gpu_gib": found.peak.total / GIB,
        "reserved_gib": found.peak.reserved / GIB,
        "allocated_gib": found.peak.allocated / GIB,
        "rows_per_second": found.rows_per_second,
    }


def on_gpu(settings: Network, data: Dataset, tried: list[int]) -> tuple[Facts, list[Point]]:
    """Measure on the first GPU."""
    from tasks.neural import computing, gauges

    where = computing.choose("cuda", settings.precision)
    gauge = gauges.Allocator(where.device)
    points = measure(settings, data, tried, where=where, gauge=gauge)
    memory_gib = where.memory_bytes()[1] / GIB
    return {"precision": _name(where.dtype), "memory_gib": memory_gib}, points


def estimate(settings: Network, data: Dataset, tried: list[int]) -> tuple[Facts, list[Point]]:
    """Estimate for a GPU, and for the processors of this machine, whose memory decides `fits`."""
    import torch

    from tasks.neural import available, computing, memory

    dtype = torch.float32 if settings.precision == "float32" else torch.bfloat16
    gpu = memory.estimate(settings, data, dtype)
    here = computing.choose("cpu", settings.precision).dtype
    cpu = gpu if here == dtype else memory.estimate(settings, data, here)
    free = available.available() / GIB
    points = []
    for rows in tried:
        taken = gpu.peak(rows, scored=len(data)) + memory.table_bytes(data)
        needed = settings.processes * cpu.peak(rows, scored=len(data)) / GIB
        points.append(
            {
                "rows": rows,
                "fits": needed <= free,
                "gpu_gib": CUDA_GIB + SCATTER * taken / GIB,
                "cpu_gib": needed,
            }
        )
    facts = {"weights_bytes": gpu.weights, "row_bytes": int(gpu.step.per_row.max())}
    return {"precision": _name(dtype), "memory_gib": free, **facts}, points


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def check(featurize_folder: Path) -> None:
    """Raise DataValidationError if there is no table to profile."""
    names = ["encoder.json", *(f"{part}.parquet" for part in PARTS)]
    absent = [name for name in names if not (featurize_folder / name).exists()]
    if absent:
        raise DataValidationError(
            f"{featurize_folder}: must hold your table as examples (got no {', '.join(absent)})\n"
            "next: dvc repro featurize"
        )


def table(featurize_folder: Path) -> Dataset:
    """Read the examples that a refit is trained on, encoded."""
    check(featurize_folder)
    encoder = Encoder.from_json((featurize_folder / "encoder.json").read_text(encoding="utf-8"))
    frames = [files.read_parquet(featurize_folder / f"{part}.parquet") for part in PARTS]
    return encoder.encode(pl.concat(frames))


def run(featurize_folder: Path, profile_folder: Path, *, models: Models) -> None:
    """Write `profile.json`."""
    from tasks.neural import memory

    settings, data, gpus = models.network, table(featurize_folder), devices.gpus()
    in_use = memory.in_use(settings, len(data), processes=settings.processes)
    tried = micro_batches(len(data), in_use)
    facts, points = (on_gpu if gpus else estimate)(settings, data, tried)
    size = {"rows": len(data), "columns": len(data.names), "table_bytes": memory.table_bytes(data)}
    profile = {"measured": gpus > 0, **facts, **size, **advise(settings, in_use, points)}
    files.write_json(profile_folder / "profile.json", profile)


if __name__ == "__main__":
    command.main(run)
