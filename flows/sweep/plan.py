"""What a sweep is about, and the name that follows from it: the same content, the same study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from flows.sweep.section import Dimension, Sweep, dimensions
from flows.sweep.storage import address
from flows.sweep.trial import Conditions
from tasks.metrics import Tally
from tasks.models import Learner
from tasks.params import Section

TRAINING = "train"
"""The stage whose learner is searched; what leads to it is brought up to date first."""


@dataclass(frozen=True)
class Plan:
    """A sweep that can begin.

    key      SHA-256 of all that the trials' values depend on, in hex
    written  what of the section `sweep` they depend on; the rest may differ from command to command
    space    name of a searched parameter -> where it is searched
    current  its value in params.yaml
    fixed    the learner's other parameters
    """

    sweep: Sweep
    model: str
    key: str
    written: Mapping[str, Any]
    space: Mapping[str, Dimension]
    current: Mapping[str, Any]
    fixed: Mapping[str, Any]
    conditions: Conditions

    @property
    def name(self) -> str:
        """The one name of study, flow run and MLflow run."""
        return self.conditions.study

    @property
    def is_larger_better(self) -> bool:
        """Whether the metric is to be maximised."""
        return self.sweep.direction == "maximize"

    def quality(self, tally: Tally) -> float:
        """Compute the metric so that larger is better."""
        value = self.conditions.measures()[self.sweep.metric](tally)
        return value if self.is_larger_better else -value


def plan(values: Mapping[str, Any], causes: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Settle a sweep by the parameters and by what the graph says of each stage's causes."""
    sweep, model = values["sweep"], values["model"]
    learner = getattr(values["models"], model)
    section = learner.model_dump(mode="json")
    space = dimensions(sweep, model)
    fixed = {name: value for name, value in section.items() if name not in space}
    evaluate = values["evaluate"]
    judged = {"threshold": evaluate.threshold, "bins": evaluate.calibration_bins}
    written = {
        **sweep.model_dump(mode="json", include={"metric", "direction", "sampler", "pruner"}),
        "space": sweep.space.model_dump(mode="json", include={model}, exclude_none=True),
    }
    facts = {
        "causes": _before(causes),
        "model": model,
        "fixed": fixed,
        "seed": values["seed"],
        **judged,
        **written,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    conditions = Conditions(
        study=f"hyperopt-{model}-{key[:8]}",
        storage=address(sweep),
        model=model,
        settings=section,
        steps=_steps(learner, space),
        metric=sweep.metric,
        pruner=sweep.pruner,
        seed=values["seed"],
        **judged,
    )
    current = {name: section[name] for name in space}
    return Plan(sweep, model, key, written, space, current, fixed, conditions)


def _steps(learner: Section, space: Mapping[str, Dimension]) -> int:
    """Give the most steps that any learner of the space takes."""
    most = {
        name: max(each) if isinstance(each, list) else each.high for name, each in space.items()
    }
    known = [learner, *(learner.model_copy(update={name: value}) for name, value in most.items())]
    return max(cast(Learner, each).steps for each in known)


def _before(causes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give the causes of all stages up to the training, whose parameters are told apart."""
    found: dict[str, Any] = {}
    for name, cause in causes.items():
        if name == TRAINING:
            return found | {name: cause["deps"]}
        found[name] = cause
    return found
