"""Show a training in MLflow while it goes on: its curves, and the machine's use if it has a GPU.

MLflow takes seconds to import and a store may be slow, so a process of its own talks to it. The
flow hands it the progress lines of `train` through a pipe and never waits: a line that finds the
pipe full is lost here, as `register` records every step afterwards. The end of the pipe is the end
of the flow, even of a killed one: a run that nobody has recorded by then ends as FAILED.

    python -m flows.live NAME EXPERIMENT LINEAGE_KEY    # and the lines to its standard input
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from tasks import devices, live_run
from tasks.open_run import HISTORY

TRAINING = "train"
LINE = re.compile(r"^progress (\d+)/(\d+) (.*)$")
"""What a stage prints to say how far it is: `progress 120/800 val_log_loss=0.31`."""
OVER = "over"
"""What follows the last line of the training."""
UNSHOWN = "the training goes on, but not its curves in MLflow"

AFTER_SECONDS = 10.0
"""How long the stage must have worked: a shorter one is over before MLflow is imported."""
EVERY_SECONDS = 1.0
"""The least time between two batches of points."""
PATIENCE_SECONDS = 3.0
"""How long the end of the flow may wait for the end of the run."""
YIELDING = 10
"""By how much the process is nicer than the training, which must not wait for it."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Live:
    """Hand on the progress lines of one flow's training; no failure of this stops the flow."""

    def __init__(self, name: str, *, experiment: str, key: str, log: Log) -> None:
        self._command = [sys.executable, "-m", "flows.live", name, experiment, key]
        self._log = log
        self._begun: float | None = None
        self._early: list[str] = []
        self._reader: _Reader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Listen while the stage is at work, if it is the training."""
        self._begun = time.monotonic() if stage == TRAINING else None
        try:
            yield
        finally:
            if self._begun is not None and self._reader is not None:
                self._reader.send(OVER)
            self._begun = None

    def line(self, text: str) -> None:
        """Take one line of a stage's output."""
        if self._begun is None or LINE.match(text) is None:
            return
        self._early.append(text)
        if time.monotonic() - self._begun < AFTER_SECONDS:
            return
        try:
            self._reader = self._reader or _Reader(self._command, self._log)
        except OSError as error:  # no memory left to start it, say
            self._log.warning("%s: %s", UNSHOWN, error)
            self._begun = None
            return
        for each in self._early:
            self._reader.send(each)
        self._early.clear()


class _Reader:
    """The process that reads the lines, as the flow sees it."""

    def __init__(self, command: list[str], log: Log) -> None:
        read, self._lines = os.pipe()
        self._words, write = os.pipe()
        self._process = subprocess.Popen(
            command,
            stdin=read,
            stdout=write,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of what a terminal sends
        )
        for end in (read, write):
            os.close(end)
        for end in (self._lines, self._words):
            os.set_blocking(end, False)
        self._log: Log | None = log

    def send(self, line: str) -> None:
        """Hand on a line, if there is room for it."""
        with suppress(BlockingIOError, BrokenPipeError):  # it is slow, or has ended
            os.write(self._lines, f"{line}\n".encode())
        self._listen()

    def close(self) -> None:
        """Tell that the flow ends."""
        os.close(self._lines)
        with suppress(subprocess.TimeoutExpired):  # it may try for longer, but alone
            self._process.wait(PATIENCE_SECONDS)
        self._listen()
        os.close(self._words)

    def _listen(self) -> None:
        """Log what it complains of, once."""
        with suppress(BlockingIOError):
            if self._log is not None and (words := os.read(self._words, 1 << 16)):
                self._log.warning("%s", words.decode(errors="replace").rstrip())
                self._log = None


def arrivals(source: int) -> Iterator[list[str]]:
    """Give the lines that have come since the last time, at most once a second, to the end."""
    end = select.poll()
    end.register(source, 0)  # of whose end it tells all the same
    rest = b""
    while piece := os.read(source, 1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        yield [line.decode(errors="replace") for line in lines]
        end.poll(EVERY_SECONDS * 1000)


def points(line: str) -> list[tuple[str, float, int]]:
    """Read the scores of a progress line as (name, value, step); other words are none."""
    found: list[tuple[str, float, int]] = []
    if (progress := LINE.match(line)) is None:
        return found
    for word in progress[3].split():
        name, _, value = word.partition("=")
        with suppress(ValueError):
            found.append((HISTORY + name, float(value), int(progress[1])))
    return found


def show(batches: Iterator[list[str]], **run_settings: Any) -> None:
    """Record the points of each batch of lines in a run that `live_run.start` opens.

    Says what went wrong, but only once; what comes afterwards is tried all the same.
    """
    run: live_run.LiveRun | None = None
    complained = False
    try:
        for lines in batches:
            if run is None and OVER in lines:
                return
            try:
                run = run or live_run.start(**run_settings)
                if run is None:
                    return
                run.write(point for line in lines for point in points(line))
                if OVER in lines:
                    run.rest()
            except Exception as error:  # noqa: BLE001 - stores raise kinds of their own
                if not complained:
                    print(f"{UNSHOWN}: {error}", flush=True)
                complained = True
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if run is not None:
            run.close()


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Read the lines of a flow's training from standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what Ctrl-C ends is the flow
    signal.signal(signal.SIGTERM, _end)
    os.nice(YIELDING)
    parser = argparse.ArgumentParser(prog="python -m flows.live", description=main.__doc__)
    for name in ("name", "experiment", "key"):
        parser.add_argument(name)
    settings = vars(parser.parse_args())
    show(arrivals(sys.stdin.fileno()), **settings, system=devices.gpus() > 0)
    os._exit(0)  # the flow waits, all is done, and to take MLflow down in order takes a second


if __name__ == "__main__":
    main()
