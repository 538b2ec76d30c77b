"""Show how a sweep goes on: a bar in the terminal and in Prefect, a line for each trial."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from optuna.trial import FrozenTrial, TrialState
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flows.live import Log
from flows.progress import EVERY_SECONDS
from flows.sweep.plan import Plan
from flows.sweep.study import OUTCOME, WORDS, Search, is_retried, named

TASK_RUNS = logging.getLogger("prefect.task_runs")
"""What says of each task run that it has finished, and only where it ran; the board says it all."""


class Board:
    """The trials of a sweep as they finish, with the best so far; a context for the bar."""

    def __init__(self, plan: Plan, search: Search, log: Log) -> None:
        self._plan, self._search, self._log = plan, search, log
        self._artifact: UUID | None = None
        self._shown_at = float("-inf")
        columns = (
            TextColumn("sweep"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("", total=plan.sweep.n_trials)

    def __enter__(self) -> Self:
        TASK_RUNS.setLevel(logging.WARNING)
        self._bar.start()
        self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if error is None:
            self._show(is_last=True)
        TASK_RUNS.setLevel(logging.NOTSET)

    def told(self, trial: FrozenTrial) -> None:
        """Take a trial that has finished."""
        if trial.state == TrialState.FAIL:
            again = "; its parameters are tried again" if is_retried(trial) else ""
            reason = trial.user_attrs["reason"]
            self._log.warning("%s failed: %s%s", named(trial.number), reason, again)
        else:
            words = trial.user_attrs[OUTCOME]["words"]
            self._log.info("%s %s: %s", named(trial.number), WORDS[trial.state], words)
        self._show()

    def _show(self, *, is_last: bool = False) -> None:
        if not is_last and time.monotonic() - self._shown_at < EVERY_SECONDS:
            return
        self._shown_at = time.monotonic()
        trials = self._search.trials(*WORDS)
        done = sum(not is_retried(each) for each in trials)
        best = self._best(trials)
        self._bar.update(self._task, completed=done, description=best)
        percent = 100.0 * done / self._plan.sweep.n_trials
        words = f"{done} of {self._plan.sweep.n_trials} trials, {best}"
        if self._artifact is None:
            made = create_progress_artifact(percent, key="sweep", description=words)
            self._artifact = cast("UUID", made)  # a coroutine only where the caller is one
        else:
            update_progress_artifact(self._artifact, progress=percent, description=words)

    def _best(self, trials: list[FrozenTrial]) -> str:
        complete = [each for each in trials if each.state == TrialState.COMPLETE]
        if not complete:
            return "none complete"
        best = self._search.best(complete)
        return f"best {self._plan.sweep.metric}={best.value:.5f} ({named(best.number)})"
