"""What a GPU does while it works: how busy it is, and what memory it takes."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tasks import environment

SETTLING = 5
"""First samples that are dropped: the driver's figure is of up to a second before."""

SAMPLE_MILLISECONDS = 200
GIB = 2**30


def describe(device: torch.device) -> dict[str, Any]:
    """Name card, driver, processor and versions."""
    gpu, driver = environment.gpu_and_driver()
    facts = {
        "card": gpu,
        "driver": driver,
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        "processor": f"{environment.cpu()} x {os.cpu_count()}",
        "computes_on": device.type,
    }
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        facts["memory_gib"] = round(total / GIB, 2)
    return facts


def wait(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def memory(device: torch.device) -> Iterator[dict[str, float]]:
    """Measure the peak of memory in the block, in GiB; nothing where there is no GPU."""
    found: dict[str, float] = {}
    if device.type != "cuda":
        yield found
        return
    wait(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    yield found
    found["allocated_gib"] = torch.cuda.max_memory_allocated(device) / GIB
    found["reserved_gib"] = torch.cuda.max_memory_reserved(device) / GIB


@dataclass
class Busy:
    """Samples of the share of time, in percent, in which the driver saw any kernel run."""

    samples: list[float] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, float]:
        """Give their mean; nothing where too few were taken."""
        counted = self.samples[SETTLING:]
        return {"busy_percent": sum(counted) / len(counted)} if counted else {}


@contextlib.contextmanager
def busy(device: torch.device) -> Iterator[Busy]:
    """Have `nvidia-smi` sample in a process of its own, which costs this one nothing."""
    found = Busy()
    if device.type != "cuda":
        yield found
        return
    card = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    command = ["nvidia-smi", f"--id={card}", *query, f"--loop-ms={SAMPLE_MILLISECONDS}"]
    sampler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        sampler.terminate()
        lines = sampler.communicate()[0].splitlines()
        found.samples += [float(line) for line in lines if line.strip().isdigit()]


def kernels(work: Callable[[], object]) -> dict[str, float]:
    """Give the share of time, from the first kernel to the last, in which any of them ran.

    By PyTorch's profiler. It slows the processor's part, so that where that is what holds the GPU
    up, the share is a lower bound.
    """
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    spans = sorted(
        (each.time_range.start, each.time_range.end)
        for each in seen.events() or []
        if each.device_type == torch.autograd.DeviceType.CUDA and not each.is_user_annotation
    )
    ran, end = 0.0, 0.0
    for start, stop in spans:
        ran += max(0.0, stop - max(start, end))
        end = max(end, stop)
    whole = end - spans[0][0] if spans else 0.0
    return {"kernels": len(spans), "running_percent": 100 * ran / whole} if whole else {}
