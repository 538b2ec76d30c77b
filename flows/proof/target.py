"""What is to be proven: a version, a run, or what a git revision says of itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tasks import claim as claims
from tasks import files, registry, revision
from tasks.claim import Claim
from tasks.errors import ParamsError, StageError, TemporaryError
from tasks.tracking import AbsentError


@dataclass(frozen=True)
class Target:
    """What is to be proven.

    is_recorded  whether it is a version or run, and not what a commit says of itself: a verdict on
                 that is one on the version only if all is the same
    """

    claim: Claim
    is_recorded: bool


def any_version(model_name: str) -> str:
    """Choose one of the versions that are registered; raises StageError if there is none."""
    with registry.looked_at(model_name) as models:
        numbers = models.versions()
    if not numbers:
        raise StageError(
            f"{model_name}: must have a version to be proven (got none)\n"
            "next: python -m flows train"
        )
    return f"{model_name}/{random.choice(numbers)}"  # noqa: S311 - a sample, and no secret


def find(target: str, model_name: str) -> Target:
    """Read what is named as version or run, else as a revision of git.

    Raises StageError if it is none of them, AbsentError if what a run must hold is gone.
    """
    try:
        return Target(claims.find(target, model_name), is_recorded=True)
    except (AbsentError, TemporaryError, claims.UnreadableError):
        raise
    except (StageError, ParamsError):
        if claims.is_version(target):
            raise
    return Target(_of_revision(target, model_name), is_recorded=False)


def _of_revision(target: str, model_name: str) -> Claim:
    """Read what a commit says of itself, and what is recorded of this content if anything is."""
    own = revision.read(target)
    register = files.parsed_yaml(own.params)["register"]
    recorded = revision.recorded(
        own, experiment=register["experiment"], model_name=model_name, alias=""
    )
    if recorded is None:
        return own
    return replace(
        recorded,
        commit=own.commit,
        is_dirty=False,
        params=own.params,
        lock=own.lock,
        lineage=own.lineage,
    )
