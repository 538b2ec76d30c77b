"""A process that computes trials for another one, with the data prepared once.

It knows Optuna, but not Prefect: a thread of the flow's stands for it, takes the Prefect task run,
and waits.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from flows.sweep.trial import Bench, Conditions, Order, read
from tasks.errors import StageError, VerbatimError
from tasks.trials import Outcome


class WorkerError(StageError):
    """The process that computed a trial has ended without a word."""


class Worker:
    """The process, as the thread sees it that waits for it.

    threads  that it may use of the processor for large tables
    """

    def __init__(self, conditions: Conditions, featurize_folder: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        given = (theirs, conditions, featurize_folder, threads)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()  # so that its death is the end of the pipe

    def compute(self, order: Order) -> Outcome:
        """Have it compute a trial; raises what the learner raises, and WorkerError."""
        try:
            self._ours.send(order)
            answer = self._ours.recv()
        except (EOFError, OSError):
            self._process.join()
            raise WorkerError(f"its worker was {_how(self._process.exitcode)}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def end(self) -> None:
        """Kill it, if it lives."""
        self._process.kill()
        self._process.join()


def _serve(
    orders: Connection, conditions: Conditions, featurize_folder: Path, threads: int
) -> None:
    """Compute what is ordered until the pipe ends, or who orders does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before what reads it is imported
    bench = None
    with suppress(EOFError):
        while True:
            order = orders.recv()
            try:
                bench = bench or Bench(conditions, read(featurize_folder))
                answer: Any = bench.compute(order, lambda: False)
            except VerbatimError as error:
                answer = error
            except Exception as error:  # noqa: BLE001 - a trial that fails is an answer too
                answer = StageError(f"{type(error).__name__}: {error}")
            orders.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
