"""A sweep in MLflow: a run, and a run below it for each trial that has finished.

A trial is written at once, when nothing of it can change any more, and its run ends last. So none
is left RUNNING for long, and one whose writer was killed is known by its status, and written anew.
A broken run is closed as FAILED; so a trial that failed gets the tag that says so after all else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.open_run import OpenRun
from tasks.tracking import RECORDER, SEEN

SWEEP_KEY = "sweep_key"
"""Tag of the run of a sweep: what its trials' values depend on."""

PARENT, TRIAL, STUDY_ID, STATE = "mlflow.parentRunId", "trial", "study_id", "state"
"""Tags of the run of a trial: the run of its sweep, its number in a study, how it has ended."""

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"

SECONDS_BETWEEN_SIGNS = 60.0


@dataclass(frozen=True)
class TrialRecord:
    """A trial that has finished.

    state    complete, pruned or failed
    points   metrics as (name, value, step)
    started  and ended, in milliseconds since 1970
    """

    number: int
    name: str
    state: str
    params: Mapping[str, Any]
    points: list[tuple[str, float, int]]
    started: int
    ended: int
    tags: Mapping[str, str] = field(default_factory=dict)


class SweepRun:
    """The run of a sweep, open: found by its key, or made.

    params   what the key is made of
    tags     what may be another the next time
    started  when the sweep began, in milliseconds since 1970
    """

    def __init__(
        self,
        name: str,
        *,
        experiment: str,
        key: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        study_id: str,
        started: int,
    ) -> None:
        self._study_id, self._started = study_id, started
        self._mark = tracking.recorder()
        with tracking.alone():  # a new store is laid out at the first connection
            self._mlflow = mlflow = tracking.connect_to_write()
            self._client = mlflow.MlflowClient()
            self._place = tracking.settled(self._client, experiment, key)
            self.run_id = self._opened(name, key)
            self._open_run = OpenRun(self.run_id, mlflow)
            self._open_run.values(params, [], {name: str(tags[name]) for name in tags})
        self._seen_at = time.monotonic()
        self._written: set[int] = set()
        self._begun: str | None = None
        self.look()

    def _opened(self, name: str, key: str) -> str:
        """Find the run, or make it; of two that were made at the same time the first counts."""
        tags = self._mlflow.tracking.context.registry.resolve_tags({SWEEP_KEY: key, **self._mark})
        found = self._known(key)
        if not found:
            made = self._client.create_run(self._place, self._started, tags, name).info.run_id
            found = self._known(key)
            if found[0] != made:
                self._client.delete_run(made)
        self._client.update_run(found[0], status=RUNNING)
        for tag, value in self._mark.items():
            self._client.set_tag(found[0], tag, value)
        return found[0]

    def _known(self, key: str) -> list[str]:
        its = f"tags.{SWEEP_KEY} = '{key}'"
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        found = self._client.search_runs([self._place], its, order_by=order)
        return [str(run.info.run_id) for run in found]

    def look(self) -> None:
        """See which trials are recorded; delete those that are so in part, or are of another study.

        The same sweep is another study where its storage was deleted, or is another one.
        """
        for run in self._below():
            state, status = run.data.tags.get(STATE), run.info.status
            has_ended = state is not None and status == _status(state)
            is_whole = not tracking.is_abandoned(run) if status == RUNNING else has_ended
            if not is_whole or run.data.tags.get(STUDY_ID) != self._study_id:
                self._client.delete_run(run.info.run_id)
            elif state is not None:
                self._written.add(int(run.data.tags[TRIAL]))

    def _below(self) -> list[Any]:
        its, found, token = f"tags.`{PARENT}` = '{self.run_id}'", [], None
        while True:
            page = self._client.search_runs([self._place], its, page_token=token)
            found += page
            if (token := page.token) is None:
                return found

    def knows(self, number: int) -> bool:
        """Tell whether a trial is recorded."""
        return number in self._written

    def write(self, trial: TrialRecord) -> None:
        """Record a trial, unless it is."""
        if self.knows(trial.number):
            return
        self._clean()
        its = {PARENT: self.run_id, TRIAL: str(trial.number), STUDY_ID: self._study_id}
        state, is_failed = {STATE: trial.state}, _status(trial.state) == FAILED
        tags = {**its, **tracking.recorder(), **trial.tags, **({} if is_failed else state)}
        made = self._client.create_run(self._place, trial.started, tags, trial.name)
        self._begun = made.info.run_id
        run = OpenRun(made.info.run_id, self._mlflow)
        run.values(trial.params, trial.points, state if is_failed else {})
        self._client.set_terminated(made.info.run_id, _status(trial.state), trial.ended)
        self._begun = None
        self._written.add(trial.number)

    def _clean(self) -> None:
        """Delete what a store that failed has left of a trial; it is written anew."""
        if self._begun is not None:
            self._client.delete_run(self._begun)
            self._begun = None

    def best(self, name: str, value: float, number: int) -> None:
        """Record the best value so far, after the trial of that number."""
        self._open_run.values({}, [(name, value, number)])

    def sign(self) -> None:
        """Tell other machines that the sweep goes on, once in a while."""
        if time.monotonic() - self._seen_at > SECONDS_BETWEEN_SIGNS:
            self._client.set_tag(self.run_id, SEEN, tracking.recorder()[SEEN])
            self._seen_at = time.monotonic()

    def finish(
        self,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        texts: Mapping[str, str],
        folder: Path,
    ) -> None:
        """Record what the sweep came to; texts by file name, and all files of a folder."""
        self._clean()
        self._open_run.values({}, [(name, value, 0) for name, value in metrics.items()], tags)
        for name, text in texts.items():
            self._open_run.text(name, text)
        self._open_run.files({folder: ""})
        self._client.set_terminated(self.run_id, FINISHED)

    def abandon(self) -> None:
        """End the run as KILLED, unless another process has gone on with it."""
        run = self._client.get_run(self.run_id)
        if run.info.status == RUNNING and run.data.tags.get(RECORDER) == self._mark[RECORDER]:
            self._client.set_terminated(self.run_id, KILLED)


def _status(state: str) -> str:
    """Give the status that the run of a trial ends with."""
    return FAILED if state == "failed" else FINISHED
