"""Show a sweep in MLflow while it goes on: a run for it, and one below it for each trial.

MLflow takes seconds to import and a store may be slow, so a process of its own reads the trials
from Optuna's storage and writes them. It alone writes, so trials side by side cannot mix; what the
storage holds and MLflow lacks, it adds. When the sweep ends in whatever way, even by a kill, it
ends the run. No failure of this stops a sweep: what could not be written, the next command adds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from flows.live import YIELDING, Log
from flows.sweep import figures
from flows.sweep.losing import DRIVER, is_left
from flows.sweep.records import flat, parameters, record
from flows.sweep.storage import connect
from flows.sweep.study import WORDS
from tasks import tracking
from tasks.live_run import IMPATIENT
from tasks.sweep_run import SweepRun

UNSHOWN = "the sweep goes on, but not its record in MLflow"
PATIENCE_SECONDS = 5.0
"""How long the end of an interrupted sweep may wait for the end of its run."""
SECONDS_BETWEEN_SIGNS = 30.0

FINISH = "finish"


@dataclass(frozen=True)
class Subject:
    """What is mirrored: a study in its storage, and the experiment of MLflow it is recorded in.

    driver  the process whose trials are ours to write, as in `Search.process`
    """

    study: str
    storage: str = field(repr=False)  # with a password, perhaps
    experiment: str
    driver: str


class Mirror:
    """The process that writes, as the flow sees it; a context after which it has ended."""

    def __init__(self, subject: Subject, log: Log) -> None:
        self._subject, self._log = subject, log
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._subject))
        self._process.start()
        theirs.close()  # so that its death is the end of the pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.join(PATIENCE_SECONDS)  # it may try for longer, but alone

    def nudge(self) -> None:
        """Have the trials written that have finished."""
        with suppress(OSError, EOFError):  # it has ended; `finish` starts another one
            self._ours.send(None)
            while self._ours.poll():
                self._hear(self._ours.recv())

    def finish(self, summary: Mapping[str, Any]) -> str | None:
        """Have all be written that is missing, and the run end; give its id, None if it failed."""
        with suppress(OSError, EOFError):
            return self._finish(summary)
        self._start()
        with suppress(OSError, EOFError):
            return self._finish(summary)
        self._log.warning("%s: its process was killed", UNSHOWN)
        return None

    def _finish(self, summary: Mapping[str, Any]) -> str | None:
        self._ours.send({FINISH: dict(summary)})
        while True:
            answer = self._ours.recv()
            if FINISH in answer:
                return answer[FINISH]  # type: ignore[no-any-return]
            self._hear(answer)

    def _hear(self, answer: Mapping[str, str]) -> None:
        self._log.warning("%s: %s", UNSHOWN, answer["complaint"])


def _serve(orders: Connection, subject: Subject) -> None:
    """Write what is ordered, to the end of the pipe; complain once, and go on trying."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the flow, which ends the pipe
        signal.signal(number, signal.SIG_IGN)
    os.nice(YIELDING)
    os.environ.update({**IMPATIENT, **os.environ})
    scribe, has_complained, order = None, False, None
    with suppress(EOFError, OSError):
        while True:
            run_id = None
            try:
                scribe = scribe or Scribe(subject)
                run_id = scribe.obey(order)
            except Exception as error:  # noqa: BLE001 - stores raise kinds of their own
                if not has_complained:
                    orders.send({"complaint": str(error)})
                has_complained = True
            if order is not None:
                orders.send({FINISH: run_id})
            order = _next(orders)
    with suppress(Exception):
        if scribe is not None:
            scribe.close()


def _next(orders: Connection) -> dict[str, Any] | None:
    """Wait for an order, or until a sign of life is due; many nudges are as good as one."""
    order = orders.recv() if orders.poll(SECONDS_BETWEEN_SIGNS) else None
    while order is None and orders.poll():
        order = orders.recv()
    return order


class Scribe:
    """Writes the trials of a study as MLflow runs."""

    def __init__(self, subject: Subject) -> None:
        storage = connect(subject.storage)
        self._study = optuna.load_study(study_name=subject.study, storage=storage)
        self._driver = subject.driver
        self._facts = self._study.user_attrs
        self._metric: str = self._facts["metric"]
        self._pick = max if self._study.direction == StudyDirection.MAXIMIZE else min
        self._best: float | None = None
        self._run = SweepRun(
            subject.study,
            experiment=subject.experiment,
            key=self._facts["key"],
            params=parameters(self._facts),
            tags=dict(flat(self._facts["command"], "sweep.")),
            study_id=self._facts["id"],
            started=self._facts["begun"],
        )
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if self._run.knows(trial.number):
                self._is_best(trial)
        self._is_finished = False

    def obey(self, order: Mapping[str, Any] | None) -> str:
        """Write what has come, and if so ordered what the sweep came to; give the run's id."""
        self._catch_up()
        if order is not None:
            self._finish(order[FINISH])
        self._run.sign()
        return self._run.run_id

    def close(self) -> None:
        """End a run whose sweep has not finished."""
        if not self._is_finished:
            self._run.abandon()

    def _catch_up(self) -> None:
        """Write the trials that nobody else is going to write."""
        trials = self._study.get_trials(deepcopy=False, states=tuple(WORDS))
        missing = [each for each in trials if not self._run.knows(each.number)]
        for trial in filter(self._is_own, missing):
            self._write(trial)
        if left := [each for each in missing if not self._is_own(each) and is_left(each)]:
            with tracking.alone():  # their driver's mirror may have written them, or be about to
                self._run.look()
                for trial in left:
                    self._write(trial)

    def _is_own(self, trial: FrozenTrial) -> bool:
        driver = trial.user_attrs.get(DRIVER)
        return driver is not None and driver["process"] == self._driver

    def _write(self, trial: FrozenTrial) -> None:
        self._run.write(record(trial, self._facts))
        if trial.value is not None and self._is_best(trial):
            self._run.best(f"best/{self._metric}", trial.value, trial.number)

    def _is_best(self, trial: FrozenTrial) -> bool:
        """Tell whether a complete trial is better than all that came before."""
        if trial.state != TrialState.COMPLETE or trial.value is None:
            return False
        known, self._best = self._best, trial.value
        if known is not None:
            self._best = self._pick(trial.value, known)
        return self._best != known

    def _finish(self, summary: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            figures.draw(self._study, Path(folder), metric=self._metric)
            self._run.finish(**summary, folder=Path(folder))
        self._is_finished = True
