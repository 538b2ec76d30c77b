"""Keep the state of a training, so that one that was cut off goes on from there to the same bits.

A file holds a line with the identity of the training and the SHA-256 of all that follows, a line of
JSON values, and the arrays as safetensors. What a run of other inputs left, or a broken disk, is
told and left alone. Where `VERBATIM_CHECKPOINTS` names a folder they are kept there: on a disk that
outlives the machine, a preempted training goes on elsewhere.

    with keeping(identity.of(...), seconds=60) as place:
        fitted = learner.fit(..., checkpoints=place.phase("fit", history))
        fitted.save(folder)
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tasks import processes
from tasks.errors import Interrupted

FOLDER = Path(".verbatim/checkpoints")
"""Where checkpoints are kept, unless `VERBATIM_CHECKPOINTS` says otherwise; no DVC output."""

FORMAT = 1
DAYS_KEPT = 7
"""After which what nobody came back to is deleted."""

_WHY_NOT = "why_not"
"""Key of the values of a state from which no training can go on."""

History = list[dict[str, float]]


@dataclass(frozen=True)
class State:
    """All that a training needs to go on.

    arrays  of any shape and of the types that safetensors knows
    values  JSON values; `step` is the last step that ended
    """

    arrays: dict[str, NDArray[Any]]
    values: dict[str, Any]


class Stop:
    """Whether this process was asked to stop: `signal` is the number, 0 if it was not."""

    def __init__(self) -> None:
        self.signal = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as a request; a second one ends the process at once.

        One of several processes leaves that to the one that has started them.
        """
        before = {number: signal.signal(number, self._take) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, _frame: object) -> None:
        self.signal = number
        for each in _STOPPING:
            signal.signal(each, signal.SIG_DFL if processes.count() == 1 else signal.SIG_IGN)


_STOPPING = (signal.SIGTERM, signal.SIGINT)


class Checkpoints:
    """One training's place to keep its state.

    path      the file; None keeps nothing
    identity  of what is trained on what, see `tasks.identity`
    seconds   between one `keep` and the next
    stop      tells whether the training shall end early
    history   scores of each step so far: kept with the state, and put back by `latest`
    """

    def __init__(
        self,
        path: Path | None,
        identity: str,
        *,
        seconds: float,
        stop: Stop,
        history: History,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._identity, self._history = path, identity, history
        self._seconds, self._stop, self._clock = seconds, stop, clock
        self._kept_at = clock()
        self._is_warned = False

    @property
    def stopping(self) -> bool:
        """Whether SIGTERM or SIGINT came."""
        return self._stop.signal != 0

    def latest(self) -> State | None:
        """Give the state kept by a run of these exact inputs that did not end.

        None if there is none, or none that can be trusted, which is told in a line.
        """
        if self._path is None or not os.path.lexists(self._path):
            return None
        try:
            state, history = _unpack(self._path.read_bytes(), self._identity)
        except (OSError, ValueError) as error:
            _tell(f"starts from the beginning: {self._path} {error}")
            return None
        if _WHY_NOT in state.values:
            _tell(f"starts from the beginning: {state.values[_WHY_NOT]}")
            return None
        self._history[:] = history
        _tell(f"goes on after step {state.values['step']}, from {self._path}")
        return state

    def due(self) -> bool:
        """Tell whether to `keep` now: after some seconds, or because a stop was asked for."""
        return self._path is not None and (
            self.stopping or self._clock() - self._kept_at >= self._seconds
        )

    def keep(self, state: State) -> None:
        """Write the state in one piece or not at all; only the first of several processes does.

        A disk that refuses is told once and does not end the training.
        Raises Interrupted if a stop was asked for.
        """
        if self._path is None:
            return
        kept = not processes.is_first() or self._write(self._path, state)
        self._kept_at = self._clock()
        if self.stopping:
            why_not = state.values.get(_WHY_NOT) if kept else "its state could not be kept"
            raise Interrupted(self._farewell(state.values["step"], why_not), self._stop.signal)

    def mark(self, step: int, why_not: str) -> None:
        """Do as `keep` does for a training that cannot go on; `latest` will tell why not."""
        self.keep(State({}, {"step": step, _WHY_NOT: why_not}))

    def _write(self, path: Path, state: State) -> bool:
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(_pack(state, self._history, self._identity))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            if not self._is_warned:
                _tell(f"goes on, but its state could not be kept: {error}")
            self._is_warned = True
            return False
        return True

    def _farewell(self, step: int, why_not: str | None) -> str:
        after = f"starts from the beginning: {why_not}" if why_not else "goes on from there"
        name = signal.Signals(self._stop.signal).name
        return f"train: stopped by {name} at step {step}; next: the same command {after}"


NOWHERE = Checkpoints(None, "", seconds=float("inf"), stop=Stop(), history=[])
"""Keeps nothing, and is never due."""


@dataclass(frozen=True)
class Place:
    """Where one training keeps the state of each of its phases."""

    folder: Path
    identity: str
    seconds: float
    stop: Stop = field(default_factory=Stop)

    def phase(self, name: str, history: History) -> Checkpoints:
        """Give the checkpoints of `fit` or `refit`; `history` is where it has its scores."""
        path = self.folder / f"{self.identity[:16]}-{name}.checkpoint"
        return Checkpoints(
            path, f"{self.identity}-{name}", seconds=self.seconds, stop=self.stop, history=history
        )


@contextmanager
def keeping(identity: str, *, seconds: float) -> Iterator[Place]:
    """Give a training its place, and have it stop where it can go on, when SIGTERM or SIGINT comes.

    What it kept is deleted when the block ends without error, and what others abandoned before.
    """
    folder = Path(os.environ.get("VERBATIM_CHECKPOINTS") or FOLDER)
    place = Place(folder, identity, seconds)
    oldest = time.time() - DAYS_KEPT * 86_400
    _delete(path for path in folder.glob("*-*.checkpoint*") if _changed_at(path) < oldest)
    with place.stop.listening():
        yield place
    _delete(folder.glob(f"{identity[:16]}-*.checkpoint*"))


def _changed_at(path: Path) -> float:
    with suppress(OSError):
        return path.lstat().st_mtime
    return float("inf")


def _delete(paths: Iterable[Path]) -> None:
    for path in paths if processes.is_first() else ():
        with suppress(OSError):
            path.unlink()


def _pack(state: State, history: History, identity: str) -> bytes:
    from safetensors.numpy import save

    values = json.dumps({"values": state.values, "history": history}).encode()
    payload = values + b"\n" + save(state.arrays)
    digest = hashlib.sha256(payload).hexdigest()
    header = {"format": FORMAT, "identity": identity, "sha256": digest}
    return json.dumps(header).encode() + b"\n" + payload


def _unpack(content: bytes, identity: str) -> tuple[State, History]:
    """Give back what `_pack` took; raise ValueError for anything else."""
    from safetensors.numpy import load

    head, _, payload = content.partition(b"\n")
    try:
        header = dict(json.loads(head))
    except (ValueError, TypeError):
        header = {}
    expected = FORMAT, hashlib.sha256(payload).hexdigest()
    if (header.get("format"), header.get("sha256")) != expected:
        raise ValueError("is damaged")
    if header.get("identity") != identity:
        raise ValueError("is of a training of other inputs")
    values, _, arrays = payload.partition(b"\n")
    kept = json.loads(values)
    return State(load(arrays), kept["values"]), kept["history"]


def _tell(line: str) -> None:
    if processes.is_first():
        print(f"checkpoint: training {line}", flush=True)
