"""Whether a device gives the same bytes twice, and after a training was cut off."""

from __future__ import annotations

import contextlib
import hashlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from bench.gpu import synthetic
from bench.gpu.measuring import Bench, Facts, Measurements
from bench.gpu.network import FEW_ROWS, LARGE, SMALL, Settings, begin, settled
from tasks.checkpoints import NOWHERE, Checkpoints, State, Stop
from tasks.encoder import Dataset
from tasks.errors import Interrupted
from tasks.neural.recording import Recorder
from tasks.neural.tables import Table

EPOCHS = 2


class Kept(Checkpoints):
    """Keeps a state in memory, and stops the training at one of the times it is asked."""

    def __init__(self, stop_at: int) -> None:
        super().__init__(None, "", seconds=0, stop=Stop(), history=[])
        self.state: State | None = None
        self.asked, self.stop_at = 0, stop_at

    def latest(self) -> State | None:
        """Give what was kept."""
        return self.state

    def due(self) -> bool:
        """Tell that it is time once."""
        self.asked += 1
        return self.asked == self.stop_at

    def keep(self, state: State) -> None:
        """Copy the state; the first time, stop."""
        arrays = {name: each.copy() for name, each in state.arrays.items()}
        self.state = State(arrays, state.values)
        if self.asked == self.stop_at:
            self.asked += 1
            raise Interrupted("stopped", signal.SIGTERM)


def same_bytes(bench: Bench) -> Measurements:
    """Train twice from one seed, once without a recorded step, and once with a stop in between."""
    size = LARGE if bench.on_gpu else SMALL
    wanted: dict[str, dict[str, Any]] = {
        "float32": {"precision": "float32"},
        "bfloat16": {"precision": "bfloat16"},
        "bfloat16, not deterministic": {"precision": "bfloat16", "deterministic": False},
    }
    if bench.on_gpu:
        wanted["float16"] = {"precision": "float16"}
    return {
        name: partial(_same, bench, replace(size, batch_size=4096, micro_batch_size=3000, **each))
        for name, each in wanted.items()
    }


def _same(bench: Bench, settings: Settings) -> Iterator[Facts]:
    data = synthetic.part(bench.data, slice(FEW_ROWS))
    first, again = (_hash(bench, settings, data, NOWHERE) for _ in range(2))
    plain = _hash(bench, settings, data, NOWHERE, recorded=False)
    kept = Kept(stop_at=3 + len(data) // settings.batch_size)
    with contextlib.suppress(Interrupted):
        _hash(bench, settings, data, kept)
    stopped = {} if kept.state is None else kept.state.values
    resumed = _hash(bench, settings, data, kept)
    yield {
        "same_again": again == first,
        "same_unrecorded": plain == first,
        "stopped_in_epoch": stopped.get("step"),
        "stopped_in_batch": stopped.get("batch"),
        "same_when_taken_up": resumed == first,
        "sha256": first,
    }


def _hash(
    bench: Bench,
    settings: Settings,
    data: Dataset,
    checkpoints: Checkpoints,
    *,
    recorded: bool = True,
) -> str:
    """Train, and hash all that was learned and all that would come next."""
    cut = len(data) * 9 // 10
    parts = (synthetic.part(data, rows) for rows in (slice(cut), slice(cut, None)))
    known, val = (Table.of(each, bench.device) for each in parts)
    with settled(settings):
        training = begin(settings, data, bench.device)
        if not recorded:
            training.recorder = Recorder(possible=False)
        training.run(known, val, epochs=EPOCHS, report=_quiet, checkpoints=checkpoints)
        arrays = training.state().arrays
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(arrays[name].tobytes())
    return found.hexdigest()[:16]


def _quiet(_step: int, _scores: dict[str, float]) -> None:
    pass
