"""The clone that a deployed run works in, and the experiment that keeps what it did.

Prefect's pull step has cloned the repository and changed into the clone before this is imported.
What the form overrides is written into the clone's `params.yaml`; what came of it is saved as a DVC
experiment and pushed to where the clone came from, so that `dvc exp apply NAME` brings it back.
"""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from prefect import runtime
from prefect.client.orchestration import get_client
from scmrepo.exceptions import SCMError

from tasks.errors import StageError

ORIGIN = "origin"
MOST_TRIES = 3


@cache
def is_own() -> bool:
    """Tell whether this folder is the clone that the deployment of this run has made for it.

    A deployment may also run in somebody's checkout.
    """
    if runtime.deployment.id is None:
        return False
    with get_client(sync_client=True) as client:
        steps = client.read_deployment(runtime.deployment.id).pull_steps or []
    return any(name.endswith(".git_clone") for step in steps for name in step)


def commit() -> str:
    """Give the commit that was cloned."""
    return str(Repo().scm.get_rev())


def go_to(wanted: str) -> None:
    """Take up a commit that the repository held when somebody else cloned it."""
    for words in (["fetch", "--quiet", ORIGIN, wanted], ["checkout", "--quiet", wanted]):
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageError(f"{wanted}: must be a commit of {ORIGIN} (got {done.stderr.strip()})")


def keep(name: str) -> str:
    """Save what stands here as the experiment `name`, and push it; give its commit.

    An experiment of that name is replaced. Raises StageError if the repository that was cloned does
    not take it.
    """
    experiments = Repo().experiments
    try:
        saved: str = experiments.save(name=name, force=True)
        _push(experiments, name)
    except (DvcException, SCMError) as error:
        raise StageError(
            f"{name}: the experiment must be taken by the repository that was cloned (got {error})"
            f"\nnext: see that the worker may push to refs/exps of `git remote get-url {ORIGIN}`"
        ) from error
    return saved


def _push(experiments: Any, name: str) -> None:
    """Push an experiment; two runs of one content may do so at the same moment."""
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            experiments.push(ORIGIN, [name], force=True)
        except SCMError:
            if not tries_left:
                raise
        else:
            return
