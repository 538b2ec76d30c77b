"""The section `sweep` of params.yaml: how is searched, and where.

A space has the shape of the learner's own section: a range or a list of choices in place of a
value. Its bounds and choices are held against the very fields of that section, so what could not be
trained with cannot be searched either.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from tasks.models import Models
from tasks.params import Section

Bound = TypeVar("Bound")
Step = TypeVar("Step")
Number = TypeVar("Number", int, float)

PLACES = (
    "device",
    "precision",
    "micro_batch_size",
    "threads",
    "processes",
    "compile",
    "deterministic",
)
"""Settings that say where and how a model is computed, not what it learns: never searched."""

SMALLER_IS_BETTER = ("log_loss", "brier", "calibration_error")

DATABASES = r"^(sqlite:///|postgresql(\+psycopg)?://)."
PASSWORD = re.compile(r"://[^@]*:.*@|[?&]\w*password=", re.IGNORECASE)
"""What the URL of a database holds it in."""

URL = "OPTUNA_STORAGE"
"""Variable that names the storage before params.yaml does, as for Optuna's own commands."""

MOST_POINTS = 10_000
"""Of a grid."""


def _divides(step: float, span: float) -> bool:
    steps = span / step if step > 0 else 1
    return 1 <= steps < math.inf and math.isclose(steps, round(steps))


class Range(Section, Generic[Bound, Step]):
    """Numbers between two bounds, both included."""

    low: Bound
    high: Bound
    log: bool = Field(default=False, description="draw from the logarithm: for what spans decades")
    step: Step | None = Field(default=None, description="from one number to the next")

    @model_validator(mode="after")
    def _holds_together(self) -> Range[Bound, Step]:
        low, high, step = cast(
            "tuple[float, float, float | None]", (self.low, self.high, self.step)
        )
        wrong = [
            ("high must be above low", high <= low),
            ("low must be above 0 with log", self.log and low <= 0),
            ("step cannot be combined with log", self.log and step is not None),
            ("step must be above 0", step is not None and step <= 0),
            (
                "high must be low and some steps",
                step is not None and not _divides(step, high - low),
            ),
        ]
        if errors := [text for text, is_wrong in wrong if is_wrong]:
            raise ValueError("; ".join(errors))
        return self


Dimension = Range[Any, Any] | list[Any]
"""Where a parameter is searched: in a range, or among choices."""


def values(dimension: Dimension) -> Sequence[Any] | None:
    """Give all values of a dimension in order; None if they are too many to be told."""
    if isinstance(dimension, list):
        return dimension
    low, high, step = dimension.low, dimension.high, dimension.step
    if step is None and (dimension.log or not isinstance(low, int)):
        return None
    count = round((high - low) / (step or 1))
    if count >= MOST_POINTS:
        return None
    return [as_listed(low + number * (step or 1)) for number in range(count + 1)]


def as_listed(value: Number) -> Number:
    """Give a number between two bounds as a person would write it, not as steps add up."""
    return value if isinstance(value, int) else round(value, 12)


def _distinct(choices: list[Any]) -> list[Any]:
    if len({(type(each), each) for each in choices}) < len(choices):
        raise ValueError("choices must differ from each other")
    return choices


def _shape(given: Any) -> str:
    return "choices" if isinstance(given, list) else "range"


def _range_or_choices(given: Any) -> Any:
    if not isinstance(given, list | dict):
        raise ValueError(  # noqa: TRY004 - pydantic's word for what it tells of
            "must be a range, such as {low: 1, high: 9}, or a list of choices"
        )
    return given


def _dimension(field: FieldInfo) -> Any:
    """Give the type of the dimension that a learner's setting may be searched in."""
    kind: Any = field.annotation
    value: Any = Annotated[kind, *field.metadata] if field.metadata else kind
    choices = Annotated[list[value], Field(min_length=2), AfterValidator(_distinct)]
    if kind not in (int, float):
        return choices
    tagged = Annotated[Range[value, kind], Tag("range")] | Annotated[choices, Tag("choices")]
    return Annotated[tagged, Discriminator(_shape), BeforeValidator(_range_or_choices)]


def _space(learner: type[Section]) -> type[Section]:
    """Make the section of a learner's space from its own section."""
    fields: dict[str, Any] = {
        name: (_dimension(field) | None, Field(default=None, description=field.description))
        for name, field in learner.model_fields.items()
        if name not in PLACES
    }
    return create_model(f"{learner.__name__}Space", __base__=Section, **fields)


Space: Any = create_model(
    "Space",
    __base__=Section,
    **cast(
        "dict[str, Any]",
        {
            name: (
                _space(cast("type[Section]", field.annotation)),
                Field(default={}, validate_default=True),
            )
            for name, field in Models.model_fields.items()
        },
    ),
)
"""A learner's name -> the space of its settings, of which those left out are not searched."""


class Sweep(Section):
    """How hyperparameters are searched."""

    metric: Literal[
        "roc_auc",
        "pr_auc",
        "pr_auc_negative",
        "accuracy",
        "f1",
        "log_loss",
        "brier",
        "calibration_error",
    ] = Field(description="of the validation part: what the best trial is best in")
    direction: Literal["maximize", "minimize"] = Field(description="which way the metric is better")
    sampler: Literal["tpe", "random", "grid", "cmaes"] = Field(
        description="how the next trial is drawn; grid tries all, cmaes fits numbers alone"
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        description="when a trial that promises little is given up"
    )
    n_trials: int = Field(ge=1, description="trials that finish, over all commands of this sweep")
    timeout_seconds: float | None = Field(
        gt=0, description="after which a command begins no more trials; the same goes on later"
    )
    resamples: int = Field(
        ge=20, le=10_000, description="bootstrap resamples that tell how sure the improvement is"
    )
    engine: Literal["local", "ray"] = Field(
        description="this machine, or the cluster of RAY_ADDRESS"
    )
    workers: int = Field(ge=1, description="trials at the same time; 1 on this machine: in process")
    cpus: float = Field(gt=0, description="processors that Ray keeps for a trial")
    gpus: float = Field(ge=0, description="GPUs that Ray keeps for a trial; 0.5: two share one")
    gpu_type: str | None = Field(description="the kind of GPU that Ray must find, such as H100")
    patience_seconds: float = Field(
        gt=0, description="how long Ray may take to find or start a machine for the first trial"
    )
    storage: str = Field(description="sqlite:///FILE, or postgresql://… for many machines")
    space: Space

    @field_validator("direction")
    @classmethod
    def _leads_to_the_better(cls, direction: str, info: ValidationInfo) -> str:
        metric = info.data.get("metric")
        better = "minimize" if metric in SMALLER_IS_BETTER else "maximize"
        if metric is not None and direction != better:
            raise ValueError(f"must be {better} for {metric}")
        return direction

    @field_validator("storage")
    @classmethod
    def _holds_no_secret(cls, storage: str) -> str:
        if not re.match(DATABASES, storage):
            raise ValueError("must be sqlite:///FILE or postgresql://user@host/database")
        if PASSWORD.search(storage):
            raise ValueError(f"must not hold a password: set the variable {URL} to it")
        return storage


def dimensions(sweep: Sweep, model: str) -> dict[str, Dimension]:
    """Give the searched parameters of a learner, by name."""
    space = getattr(sweep.space, model)
    names = type(space).model_fields
    return {name: dimension for name in names if (dimension := getattr(space, name))}


def unfit(sweep: Sweep, model: str) -> list[str]:
    """Tell, each with its key, what of the section cannot work for a learner, or here."""
    found, key = dimensions(sweep, model), f"sweep.space.{model}"
    errors = [f"{key}.{name}: {why}" for name, why in _MISFITS[sweep.sampler](found).items()]
    if not found:
        errors.append(f"{key}: at least one parameter must have a range or choices (got none)")
    points = math.prod(len(values(each) or ()) for each in found.values())
    if sweep.sampler == "grid" and points > MOST_POINTS:
        errors.append(f"{key}: a grid must have at most {MOST_POINTS} points (got {points})")
    cores = os.cpu_count() or 1
    if sweep.engine == "local" and sweep.workers > cores:
        here = f"must be at most the {cores} cores of this machine, or engine: ray"
        errors.append(f"sweep.workers: {here} (got {sweep.workers})")
    if not re.match(DATABASES, os.environ.get(URL) or sweep.storage):
        errors.append(f"sweep.storage: {URL} must be sqlite:///FILE or postgresql://…, or not set")
    if sweep.gpu_type is not None and not sweep.gpus:
        errors.append(f"sweep.gpu_type: with gpus: 0 it must be null (got {sweep.gpu_type!r})")
    return errors


def _unlisted(space: Mapping[str, Dimension]) -> dict[str, str]:
    return {
        name: "the sampler grid needs choices, or a step but no log, and few values"
        for name, dimension in space.items()
        if values(dimension) is None
    }


def _unordered(space: Mapping[str, Dimension]) -> dict[str, str]:
    return {
        name: "the sampler cmaes draws numbers alone, and needs a range"
        for name, dimension in space.items()
        if isinstance(dimension, list)
    }


def _none(_space: Mapping[str, Dimension]) -> dict[str, str]:
    return {}


_MISFITS = {"grid": _unlisted, "cmaes": _unordered, "tpe": _none, "random": _none}
"""Sampler -> what it cannot draw, and why."""
