"""Have the missing trials of a study computed, and tell the study what each came to."""

from __future__ import annotations

import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self
from uuid import UUID

from optuna.trial import FrozenTrial

from flows.sweep.engines import Engine, Future
from flows.sweep.plan import Plan
from flows.sweep.scores import Scores
from flows.sweep.storage import reachable
from flows.sweep.study import Search, named
from flows.sweep.trial import Order
from flows.sweep.worker import WorkerError
from tasks.errors import StageError, VerbatimError
from tasks.trials import Outcome

Told = Callable[[FrozenTrial], None]

EVERY_SECONDS = 1.0
"""How often a wait is broken off, to give a sign of life and to let a signal through."""


class Driver:
    """Drives the trials of one sweep; a context after which none of its trials is left running.

    told  each gets every trial that has finished, the first of them first
    """

    def __init__(self, plan: Plan, search: Search, scores: Scores, *, told: Iterable[Told]) -> None:
        self._plan, self._search, self._scores, self._told = plan, search, scores, tuple(told)
        self._running: dict[UUID, FrozenTrial] = {}
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lose_all()

    def run(self, engine: Engine) -> None:
        """Have trials computed until none is missing, or the time is over."""
        seconds = self._plan.sweep.timeout_seconds
        end = float("inf") if seconds is None else time.monotonic() + seconds
        try:
            while True:
                while self._has_room() and time.monotonic() < end and self._begin(engine):
                    pass
                if not self._running:
                    return
                with suppress(queue.Empty):
                    self._finish(engine, self._done.get(timeout=EVERY_SECONDS))
                self._search.sign(list(self._running.values()))
        except BaseException:
            self._lose_all()  # at once: to end what computes them may take longer than is left
            raise

    def _lose_all(self) -> None:
        running, self._running = self._running, {}
        with suppress(StageError), reachable(self._plan.conditions.storage):
            why = "the sweep was interrupted"
            self._tell_all([self._search.lose(trial, why) for trial in running.values()])

    def _has_room(self) -> bool:
        return len(self._running) < self._plan.sweep.workers

    def _begin(self, engine: Engine) -> bool:
        with undisturbed():  # or a trial could be running that nobody knows of
            trial = self._search.ask()
            if trial is None:
                return False
            order = Order(trial.params, trial._trial_id)  # noqa: SLF001 - so a storage knows it
            future = engine.submit(named(trial.number), order)
            self._running[future.task_run_id] = trial
        future.add_done_callback(self._done.put)
        return True

    def _finish(self, engine: Engine, future: Future) -> None:
        trial = self._running[future.task_run_id]
        self._tell_all([self._tell(trial, lambda: engine.result(future))])
        del self._running[future.task_run_id]

    def _tell_all(self, trials: list[FrozenTrial]) -> None:
        for told in self._told:
            for trial in trials:
                told(trial)

    def _tell(self, trial: FrozenTrial, result: Callable[[], Outcome]) -> FrozenTrial:
        try:
            outcome = result()
        except WorkerError as error:
            return self._search.lose(trial, str(error), kind="deaths")
        except VerbatimError as error:
            return self._search.fail(trial, str(error))
        except Exception as error:  # noqa: BLE001 - one bad trial is no reason to end the others
            return self._search.fail(trial, f"{type(error).__name__}: {error}")
        metric = self._plan.sweep.metric
        if outcome.scores is not None:
            if math.isnan(outcome.metrics[metric]):
                return self._search.fail(trial, f"{metric} is undefined on the validation part")
            self._scores.keep(trial.number, trial.params, outcome.scores)
        return self._search.tell(trial, outcome, metric)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of a block, which must be a short one."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where it is not felt
        return
    pending: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *given: pending.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending and callable(before):
            before(*pending[0])


def compute(engine: Engine, name: str, settings: dict[str, Any]) -> Outcome:
    """Have settings computed that no trial of the study stands for."""
    return engine.result(engine.submit(name, Order(settings, None)))
