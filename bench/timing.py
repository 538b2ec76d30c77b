"""Time pieces of work in turn, so that a change in the machine's speed meets all alike."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Seconds:
    """What a piece of work took: `processor` is the time of all threads, without any waiting."""

    wall: float
    processor: float


Timed = dict[str, list[Seconds]]


def in_turn(works: Mapping[str, Work], rounds: int) -> Timed:
    """Do all works `rounds` times, each round from another one on; what they print is dropped."""
    taken: Timed = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            with contextlib.redirect_stdout(io.StringIO()):
                taken[name].append(timed(works[name]))
    return taken


def timed(work: Work) -> Seconds:
    """Do a piece of work once."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def median(seconds: list[Seconds]) -> float:
    """Give the median of wall seconds."""
    return statistics.median(each.wall for each in seconds)


def ratios(above: list[Seconds], below: list[Seconds]) -> str:
    """Tell the median of the rounds' ratios, the least and the most, and that of the processor."""
    pairs = list(zip(above, below, strict=True))
    wall = [one.wall / other.wall for one, other in pairs]
    processor = [one.processor / other.processor for one, other in pairs]
    return (
        f"{statistics.median(wall):6.3f} ({min(wall):.3f}..{max(wall):.3f})"
        f"  processor {statistics.median(processor):6.3f}"
    )
