"""One trial of a search: a training that is judged at times, and given up if it promises nothing.

What is searched with, and by whom, is not known here. The data is prepared by the learner, once for
as many trials as one likes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks import metrics
from tasks.checkpoints import NOWHERE
from tasks.errors import Interrupted
from tasks.listeners import Predict
from tasks.metrics import Metric
from tasks.models import Learner, Parts

FEW_STEPS = 16
"""Up to so many, a trial is judged after every step."""

FIRST_RUNG = 64
"""Of more, the first of these parts is the first rung; each one after lies twice as far."""

LONGEST_CURVE = 100
"""Points that are kept of a trial's curve, beside those that were judged."""

Verdict = Callable[[int, float], bool]
"""Takes the number of a step and the metric after it, and tells whether to give the trial up."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    steps    that the model is made of, or that were taken until the trial was given up
    curve    `step` and scores: of LONGEST_CURVE steps at most, and those that were judged
    metrics  of the validation part by name; of a trial that was given up none
    scores   probabilities of the validation rows, float32 [rows]; of one that was given up None
    seconds  that it took to compute
    """

    steps: int
    curve: list[dict[str, float]]
    metrics: dict[str, float]
    scores: NDArray[np.float32] | None
    seconds: float

    @property
    def pruned(self) -> bool:
        """Whether the trial was given up."""
        return self.scores is None

    def value(self, metric: str) -> float:
        """Give what it came to; of a trial that was given up, what was judged last."""
        judged = [point[name] for point in self.curve if (name := f"val_{metric}") in point]
        return judged[-1] if self.pruned else self.metrics[metric]

    def words(self, metric: str) -> str:
        """Tell what it came to."""
        value = self.value(metric)
        return f"{metric}={value:.5f} after {self.steps} steps in {self.seconds:.1f} s"


class _PrunedError(Exception):
    """The judge gave the trial up."""


def rungs(steps: int) -> tuple[int, ...]:
    """Give the steps after which a trial of at most `steps` steps is judged."""
    if steps <= FEW_STEPS:
        return tuple(range(1, steps + 1))
    first = max(1, steps // FIRST_RUNG)
    return tuple(first << power for power in range(steps.bit_length()) if first << power <= steps)


def run(
    learner: Learner,
    parts: Parts,
    *,
    seed: int,
    metric: str,
    measures: Mapping[str, Metric],
    judged: Collection[int],
    gives_up: Verdict,
    stopping: Callable[[], bool],
) -> Outcome:
    """Train, and measure the validation part; or give up when the judge says so.

    parts     what `learner.prepare` gave, or that of another learner of the kind
    metric    which of the measures is judged
    measures  by name, all that is told in the end
    judged    after which of the steps, but the last one: by then it has cost all it can
    gives_up  is asked after these
    stopping  is asked after every step whether to end early

    Raises what the learner raises, Interrupted if `stopping` becomes true.
    """
    started = time.perf_counter()
    if parts.val.target is None:
        raise ValueError("validation rows must have a target")
    target = parts.val.target.astype(np.int64)
    curve = list[dict[str, float]]()

    def report(step: int, scores: dict[str, float]) -> None:
        curve.append({"step": step, **scores})

    def judge(step: int, predict: Predict) -> None:
        if stopping():
            raise Interrupted(f"sweep: a trial was asked to stop at step {step}", signal.SIGINT)
        if step in judged and step < learner.steps:
            value = measures[metric](metrics.tally(target, predict()))
            curve[-1][f"val_{metric}"] = value
            if gives_up(step, value):
                raise _PrunedError

    try:
        fitted = learner.fit(parts, seed=seed, report=report, checkpoints=NOWHERE, judge=judge)
    except _PrunedError:
        seconds = time.perf_counter() - started
        kept = _thinned(curve, judged)
        return Outcome(len(curve), kept, metrics={}, scores=None, seconds=seconds)
    scores = parts.val_scores(fitted)
    tally = metrics.tally(target, scores)
    return Outcome(
        fitted.steps,
        _thinned(curve, judged),
        {name: measure(tally) for name, measure in measures.items()},
        scores.astype(np.float32),
        time.perf_counter() - started,
    )


def _thinned(curve: list[dict[str, float]], judged: Collection[int]) -> list[dict[str, float]]:
    """Keep evenly spaced points, the first and the last among them, and the judged ones."""
    spaced = np.linspace(0, len(curve) - 1, min(len(curve), LONGEST_CURVE)).round().astype(int)
    kept = {curve[number]["step"] for number in spaced}.union(judged)
    return [point for point in curve if point["step"] in kept]
