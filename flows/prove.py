"""The flow `prove`: see whether a model really comes from its commit, its data, its parameters.

Everything is made again: a clean tree of the commit elsewhere, the source data by their hashes, all
stages from the first on, and the model once more, into a registry that is thrown away. Every output
and the bytes of the stored model are compared. The verdict is kept with the version; nothing else
of the checkout, its cache or the registry is touched.

    python -m flows prove churn-predictor@champion
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, runtime
from prefect.states import Completed, Failed

from flows.proof import examine, keeping, report, target
from flows.proof.examine import Emit
from flows.proof.verdict import DAMAGED, Outcome, Verdict
from tasks import claim as claims
from tasks import params, registry, tracking
from tasks.claim import Claim, UnreadableError
from tasks.errors import VerbatimError
from tasks.register import Register
from tasks.registry import Registry
from tasks.tracking import AbsentError

ANY = "one of all versions"


def run_name() -> str:
    """Name the run by what it proves."""
    return f"prove {runtime.flow_run.parameters.get('target') or ANY}"


@flow(name="prove", flow_run_name=run_name, persist_result=False)
def prove(target: str = "", *, make_env: bool = False, keep: bool = False) -> State[Any]:
    """Rebuild a model from what it claims to come from, and compare every byte.

    target    MODEL@ALIAS, MODEL/VERSION, the name of a run, or a git revision; left empty: one of
              all versions, by chance
    make_env  install the packages that the commit's lock names, if these are others
    keep      leave the rebuilt tree where it is, to be looked at
    """
    emit = get_run_logger().info
    try:
        verdict = _proven(target, emit, make_env=make_env, keep=keep)
    except VerbatimError as error:
        return Failed(message=str(error))
    report.publish(verdict)
    report.show(verdict)
    told = report.told(verdict)
    if verdict.outcome is Outcome.DIFFERS or verdict.state == DAMAGED:
        return Failed(name=verdict.state, message=told)
    return Completed(name=verdict.state, message=told)


def _proven(wanted: str, emit: Emit, *, make_env: bool, keep: bool) -> Verdict:
    """Find what is meant, prove it, and keep the verdict."""
    model_name = str(params.read({"register": Register})["register"].model_name)
    if not wanted:
        wanted = target.any_version(model_name)
        emit(f"{wanted}, chosen by chance")
    try:
        found = target.find(wanted, model_name)
    except (AbsentError, UnreadableError) as error:
        verdict = _unread(wanted, error)
        _keep_unread(wanted, model_name, verdict)
        return verdict
    claim = found.claim
    verdict = judge(claim, emit, make_env=make_env, keep=keep, contradicted=found.contradicted)
    if not found.is_recorded and verdict.outcome is not Outcome.REPRODUCED:
        return verdict
    if claim.version is None or claim.model_name is None:
        keeping.keep(claim, verdict)
    else:
        with registry.opened(claim.model_name) as models:
            keeping.keep(claim, verdict, models)
    return verdict


def _unread(title: str, error: AbsentError | UnreadableError) -> Verdict:
    """Give the verdict on what has no record, or none that can be read."""
    if isinstance(error, UnreadableError):
        return Verdict(title, "", Outcome.DIFFERS, why=(str(error),))
    why = f"{error}: it was removed, or made by hand and not by this pipeline"
    return Verdict(title, "", Outcome.UNPROVABLE, what="record gone", why=(why,))


def _keep_unread(wanted: str, model_name: str, verdict: Verdict) -> None:
    """Keep it with the version that is meant, or that was made of the run that is meant."""
    name, known = claims.version_meant(wanted) or (model_name, None)
    with registry.opened(name) as models:
        if known is None:
            run_id = tracking.named(wanted)
            version = models.version_of(run_id) if run_id else None
            number = version.number if version else None
        else:
            is_alias = re.fullmatch(claims.ALIAS, wanted)
            number = models.alias(known) if is_alias else int(known)
        if number is not None:
            keeping.keep_unread(models, number, verdict)


def of_version(models: Registry, number: int, emit: Emit) -> Verdict:
    """Prove a version of a registry that is open, and keep the verdict."""
    try:
        claim = claims.of_version(models.model_name, number)
    except (AbsentError, UnreadableError) as error:
        verdict = _unread(f"{models.model_name} version {number}", error)
        keeping.keep_unread(models, number, verdict)
        return verdict
    verdict = judge(claim, emit)
    keeping.keep(claim, verdict, models)
    return verdict


def judge(
    claim: Claim,
    emit: Emit,
    *,
    make_env: bool = False,
    keep: bool = False,
    contradicted: Sequence[str] = (),
) -> Verdict:
    """Come to a verdict in a folder of its own; raises VerbatimError if nothing can be said.

    contradicted  what is known to contradict the claim
    """
    with _elsewhere(emit, keep=keep) as place:
        return examine.examine(
            claim, Path.cwd(), place, emit, make_env=make_env, contradicted=contradicted
        )


@contextmanager
def _elsewhere(emit: Emit, *, keep: bool) -> Iterator[Path]:
    """Give a folder that is gone afterwards, whatever happens, unless it is to be kept."""
    place = Path(tempfile.mkdtemp(prefix="verbatim-prove-"))
    try:
        yield place
    finally:
        if keep:
            emit(f"the rebuilt tree is in {place}/checkout")
        else:
            shutil.rmtree(place, ignore_errors=True)
