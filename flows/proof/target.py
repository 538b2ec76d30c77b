"""What is to be proven: a version, a run, or what a git revision says of itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tasks import claim as claims
from tasks import files, registry, revision
from tasks.claim import Claim
from tasks.errors import StageError


@dataclass(frozen=True)
class Target:
    """What is to be proven.

    is_recorded   whether it is a version or run, and not what a commit says of itself: a verdict on
                  that is one on the version only if all is the same
    contradicted  what that commit says otherwise than the run that has recorded its content
    """

    claim: Claim
    is_recorded: bool
    contradicted: tuple[str, ...] = ()


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
    if (claim := claims.found(target, model_name)) is not None:
        return Target(claim, is_recorded=True)
    return _of_revision(target, model_name)


def _of_revision(target: str, model_name: str) -> Target:
    """Read what is recorded of a commit's content, to be held against it; else what it says."""
    own = revision.read(target)
    register = files.parsed_yaml(own.params)["register"]
    recorded = revision.recorded(
        own, experiment=register["experiment"], model_name=model_name, alias=""
    )
    if recorded is None:
        return Target(own, is_recorded=False)
    return Target(
        replace(recorded, commit=own.commit, is_dirty=False),
        is_recorded=False,
        contradicted=tuple(contradicted(own, recorded)),
    )


def contradicted(own: Claim, recorded: Claim) -> list[str]:
    """Name the outputs that the dvc.lock of a commit has otherwise than a run of its content."""
    said, known = own.lineage.outputs, recorded.lineage.outputs
    return [
        f"dvc.lock of commit {own.commit[:12]}: {path} must be {known.get(path, 'absent')} as "
        f"{recorded.title} recorded it (got {said.get(path, 'none')})"
        for path in sorted(said | known)
        if said.get(path) != known.get(path)
    ]
