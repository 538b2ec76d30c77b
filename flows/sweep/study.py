"""The trials of a sweep in Optuna's storage: what is done, what is missing, what is tried again.

A trial is *lost* if its worker died, its driver died or the sweep was interrupted: nobody's fault,
so its parameters are enqueued again, as a trial that names the lost one. One whose worker dies
again, or whose driver does again and again, is given up. Who drives a trial stands in its
attributes, so that a driver can tell the trials of a dead one from those of one at work elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal
from uuid import uuid4

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from flows.sweep.choosing import Grid, pruner, sampler
from flows.sweep.plan import Plan
from flows.sweep.section import Dimension
from flows.sweep.space import distributions
from flows.sweep.storage import connect
from tasks import seeds, tracking
from tasks.trials import Outcome

MOST_DEATHS, MOST_KILLS = 1, 3
"""How many workers, and how many drivers, may die of a trial before it is given up."""

DRIVER, OUTCOME = "driver", "outcome"
"""Attributes of a trial: which process drives it, and when it last said so; what it came to."""

SECONDS_TO_SIGN, SECONDS_BETWEEN_SIGNS = 5.0, 30.0
"""How long a driver may take to sign a trial that it was given; and to do so again."""

WORDS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
"""How a trial can have ended, in words."""

KEPT = ("current", "deaths", "kills")
"""Attributes that a trial passes on to the one that takes its place."""

_given: dict[tuple[str, str], set[int]] = {}
"""By storage and study the trials that this process was given, whatever bore its name before."""


class Search:
    """A study, as the process sees it that drives its trials.

    study    Optuna's
    process  this one, as other drivers of the study know it
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._distributions = plan, distributions(plan.space)
        conditions, sweep = plan.conditions, plan.sweep
        self._storage = connect(conditions.storage)
        self.study = optuna.create_study(
            study_name=conditions.study,
            storage=self._storage,
            direction=sweep.direction,
            pruner=pruner(sweep.pruner, conditions.steps),
            load_if_exists=True,
        )
        self.process = tracking.recorder()[tracking.RECORDER]
        self._seen_at = time.monotonic()
        self._given = _given.setdefault((conditions.storage, conditions.study), set())

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Give the trials in these states, or all."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def greeting(self) -> str:
        """Say what is there, and what is missing."""
        done, most = len(self.done()), self._plan.sweep.n_trials
        if not done:
            return f"{self._plan.name}: {most} trials"
        return f"{self._plan.name}: {done} of {most} trials were there before"

    def done(self) -> list[FrozenTrial]:
        """Give the trials that have finished, without those that another one repeats."""
        return [each for each in self.trials(*WORDS) if not is_retried(each)]

    def begin(self) -> None:
        """Say what is searched, lose the trials of dead drivers, and try what is in use first."""
        plan = self._plan
        known = self.study.user_attrs
        facts = {
            "id": known.get("id", uuid4().hex),
            "begun": known.get("begun", time.time_ns() // 1_000_000),
            "key": plan.key,
            "model": plan.model,
            "metric": plan.sweep.metric,
            "fixed": dict(plan.fixed),
            "sweep": dict(plan.written),
            "command": plan.sweep.model_dump(mode="json", exclude={"storage", *plan.written}),
        }
        for name, value in facts.items():
            self.study.set_user_attr(name, value)
        self.reclaim()
        fits = all(_holds(plan.space[name], value) for name, value in plan.current.items())
        if not self.trials() and fits and plan.sweep.sampler != "grid":
            attrs = {"current": True}
            self.study.enqueue_trial(dict(plan.current), attrs, skip_if_exists=True)

    def reclaim(self) -> bool:
        """Lose the trials of dead drivers; tell whether there were any."""
        running = self.trials(TrialState.RUNNING)
        unsigned = {each.number for each in running if DRIVER not in each.user_attrs}
        if unsigned:  # their driver was killed as it asked for them, or is about to sign them
            time.sleep(SECONDS_TO_SIGN)
        lost = [
            trial
            for trial in self.trials(TrialState.RUNNING)
            if (self._is_left(trial) if DRIVER in trial.user_attrs else trial.number in unsigned)
        ]
        for trial in lost:
            self.lose(trial, "the process that drove it was killed", kind="kills")
        return bool(lost)

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Tell whether nobody drives a running trial any more.

        In a container that was started again, the process that drove it may bear our own name.
        """
        driver = trial.user_attrs[DRIVER]
        if driver["process"] == self.process:
            return trial.number not in self._given
        return tracking.is_gone(**driver)

    def ask(self) -> Trial | None:
        """Give the next trial; None if no more are missing, or others compute those.

        Drivers that ask at the same moment may each be given the last one.
        """
        while self._lacks() or (self.reclaim() and self._lacks()):
            trial = self.study.ask(self._distributions)
            self._given.add(trial.number)
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # signed too late
                trial.set_user_attr(DRIVER, self._sign_of_life())
                return trial
        return None

    def _sign_of_life(self) -> dict[str, Any]:
        signed = tracking.recorder()
        return {"process": signed[tracking.RECORDER], "seen": int(signed[tracking.SEEN])}

    def _lacks(self) -> bool:
        """Tell whether a trial is missing; if so, the sampler is set to draw it."""
        self.study.sampler = self._sampler(0)
        self._enqueue_lost()
        trials = self.trials()
        waiting = [each for each in trials if each.state == TrialState.WAITING]
        begun = [each for each in trials if each not in waiting and not is_retried(each)]
        self.study.sampler = self._sampler(len(trials))
        return bool(waiting) or (
            len(begun) < self._plan.sweep.n_trials and not self._is_exhausted()
        )

    def _sampler(self, number: int) -> BaseSampler:
        """Make the sampler of the trial of that number.

        With one seed for all of them, a sweep that goes on would draw again what came at first, and
        two drivers that begin together would draw the same.
        """
        seed = seeds.derive(self._plan.conditions.seed, f"sweep after {number}")
        return sampler(self._plan.sweep, self._plan.space, seed=seed)

    def _is_exhausted(self) -> bool:
        sampler = self.study.sampler
        return isinstance(sampler, Grid) and sampler.is_exhausted(self.study)

    def _enqueue_lost(self) -> None:
        trials = self.trials()
        again = {each.user_attrs.get("retry_of") for each in trials}
        for trial in trials:
            point = self.study.sampler.point(trial) if isinstance(self.study.sampler, Grid) else {}
            params = {**point, **trial.system_attrs.get("fixed_params", {}), **trial.params}
            is_drawn = params.keys() == self._distributions.keys()  # or it was killed before
            if is_retried(trial) and is_drawn and trial.number not in again:
                attrs = {name: trial.user_attrs[name] for name in KEPT if name in trial.user_attrs}
                attrs["retry_of"] = trial.number
                self.study.enqueue_trial(params, user_attrs=attrs)

    def sign(self, running: list[Trial]) -> None:
        """Tell drivers on other machines that these trials are at work, once in a while."""
        if time.monotonic() - self._seen_at > SECONDS_BETWEEN_SIGNS:
            for trial in running:
                self._note(trial, {DRIVER: self._sign_of_life()})
            self._seen_at = time.monotonic()

    def tell(self, trial: Trial, outcome: Outcome, metric: str) -> FrozenTrial:
        """Take what a trial came to."""
        names = ("steps", "curve", "metrics", "seconds")
        told = {name: getattr(outcome, name) for name in names} | {"words": outcome.words(metric)}
        self._note(trial, {OUTCOME: told})  # at once: each attribute costs a transaction
        if outcome.pruned:
            return self._tell(trial, TrialState.PRUNED)
        return self._tell(trial, TrialState.COMPLETE, outcome.metrics[metric])

    def fail(self, trial: Trial, reason: str) -> FrozenTrial:
        """Take that a trial cannot be computed: its own parameters' fault."""
        self._note(trial, {"reason": reason})
        return self._tell(trial, TrialState.FAIL)

    def lose(
        self,
        trial: Trial | FrozenTrial,
        reason: str,
        *,
        kind: Literal["deaths", "kills"] | None = None,
    ) -> FrozenTrial:
        """Take that a trial has ended by no fault that is known, unless it was told before.

        kind  whether its worker or its driver died, which may be its fault after all
        """
        attrs: dict[str, Any] = {"reason": reason, "lost": True}
        if kind is not None:
            attrs[kind] = trial.user_attrs.get(kind, 0) + 1
        self._note(trial, attrs)
        return self._tell(trial, TrialState.FAIL)

    def _note(self, trial: Trial | FrozenTrial, attrs: Mapping[str, Any]) -> None:
        """Write attributes of a trial, unless another driver has taken it for lost."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            for name, value in attrs.items():
                self._storage.set_trial_user_attr(trial._trial_id, name, value)  # noqa: SLF001

    def _tell(
        self, trial: Trial | FrozenTrial, state: TrialState, value: float | None = None
    ) -> FrozenTrial:
        return self.study.tell(trial.number, value, state, skip_if_finished=True)


def named(number: int) -> str:
    """Name a trial, in Prefect and in MLflow."""
    return f"trial-{number:04}"


def is_retried(trial: FrozenTrial) -> bool:
    """Tell whether a trial was lost, and another takes its place."""
    attrs = trial.user_attrs
    is_spared = attrs.get("deaths", 0) <= MOST_DEATHS and attrs.get("kills", 0) <= MOST_KILLS
    return bool(attrs.get("lost")) and is_spared


def _holds(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, list):
        return value in dimension
    steps = (value - dimension.low) / dimension.step if dimension.step else 0
    return dimension.low <= value <= dimension.high and math.isclose(steps, round(steps))
