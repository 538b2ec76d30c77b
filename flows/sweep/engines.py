"""Where trials are computed: in this process, in worker processes, or on a Ray cluster.

An engine is a context with a Prefect task runner, and submits each trial to it as a task run of its
own. So the death of a worker is the failure of one task, and a new worker takes its place.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, cast

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.sweep.trial import Bench, Conditions, Order, read
from flows.sweep.worker import Worker, WorkerError
from tasks.errors import VerbatimError
from tasks.trials import Outcome

Future = PrefectFuture[State[Outcome]]


class Engine(Protocol):
    """A context in which trials are computed."""

    def __enter__(self) -> Self:
        """Start what computes."""
        ...

    def __exit__(self, *_: object) -> None:
        """End it, with what it computes."""
        ...

    def submit(self, name: str, order: Order) -> Future:
        """Have a trial computed, as a Prefect task run of this name."""
        ...

    def result(self, future: Future) -> Outcome:
        """Give what it came to; raises what the learner raises, and WorkerError."""
        ...


def as_task(name: str, metric: str, compute: Callable[[], Outcome]) -> Task[[], Any]:
    """Make the Prefect task of one trial; its state tells how the trial has ended."""

    def trial() -> State[Outcome]:
        try:
            outcome = compute()
        except VerbatimError as error:
            return Failed(message=str(error), data=error)
        state = "Pruned" if outcome.pruned else "Completed"
        return Completed(name=state, message=outcome.words(metric), data=outcome)

    return task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(trial)


class Local:
    """Trials on this machine, one a thread, each of which computes them by a means of its own."""

    def __init__(self, metric: str, workers: int) -> None:
        self._metric = metric
        self._runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=workers)

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._runner.__exit__(*reason)

    def submit(self, name: str, order: Order) -> Future:
        """Have a trial computed by the next idle thread."""
        return self._runner.submit(as_task(name, self._metric, partial(self.compute, order)), {})

    def result(self, future: Future) -> Outcome:
        """Give what a trial came to; raises what `compute` raises."""
        return cast(Outcome, future.result())  # of its state

    def compute(self, order: Order) -> Outcome:
        """Compute a trial; raises what the learner raises."""
        raise NotImplementedError


class InProcess(Local):
    """Trials one by one in this process."""

    def __init__(self, conditions: Conditions, featurize_folder: Path) -> None:
        super().__init__(conditions.metric, workers=1)
        self._conditions, self._folder = conditions, featurize_folder
        self._bench: Bench | None = None
        self._is_stopped = threading.Event()

    def __exit__(self, *reason: object) -> None:
        self._is_stopped.set()  # so that the thread does not compute to the end
        super().__exit__(*reason)

    def compute(self, order: Order) -> Outcome:
        """Compute a trial; raises what the learner raises, and Interrupted at the end."""
        if self._bench is None:
            self._bench = Bench(self._conditions, read(self._folder))
        return self._bench.compute(order, self._is_stopped.is_set)


class Processes(Local):
    """Trials side by side in worker processes, each of which has prepared the data once."""

    def __init__(self, conditions: Conditions, featurize_folder: Path, workers: int) -> None:
        super().__init__(conditions.metric, workers)
        threads = max(1, (os.cpu_count() or 1) // workers)
        self._hire = partial(Worker, conditions, featurize_folder, threads)
        self._workers = [self._hire() for _ in range(workers)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._is_stopped = False

    def __exit__(self, *reason: object) -> None:
        self._is_stopped = True
        for worker in self._workers:
            worker.end()
        super().__exit__(*reason)

    def compute(self, order: Order) -> Outcome:
        """Have an idle worker compute a trial.

        Raises what the learner raises, and WorkerError, after which a new worker is in its place.
        """
        worker = self._idle.get()
        try:
            return worker.compute(order)
        except WorkerError:
            if not self._is_stopped:
                self._workers.remove(worker)
                worker = self._hire()
                self._workers.append(worker)
            raise
        finally:
            self._idle.put(worker)
