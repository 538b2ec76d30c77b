"""The flows `promote` and `rollback`: a person decides who is champion, and says why.

python -m flows promote 7 --reason "the new cohort is served better"
python -m flows rollback --reason "complaints from the shop"
"""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from flows import decisions
from flows.judging import PROMOTED
from tasks import params, proof, registry
from tasks.errors import GateError, ParamsError, VerbatimError
from tasks.ledger import Decision
from tasks.register import Register
from tasks.registry import CHAMPION, PREVIOUS, Registry, Version

ROLLED_BACK = "RolledBack"


@flow(name="promote", flow_run_name="promote version {version}", persist_result=False)
def promote(version: int, reason: str, *, force: bool = False) -> State[Any]:
    """Make a version the champion.

    version  of the registered model that params.yaml names
    reason   why, for those who read the ledger
    force    even if it did not pass the gate, or nobody knows whether it did; where
             register.require_proof is on, no force makes up for a proof
    """
    try:
        with registry.opened(_register().model_name) as models:
            decision = _promote(models, version, _said(reason), _register(), force=force)
            decisions.publish(models, decision)
    except VerbatimError as error:
        return Failed(message=str(error))
    return Completed(name=PROMOTED, message=_told(models, decision))


@flow(name="rollback", flow_run_name="rollback", persist_result=False)
def rollback(reason: str, *, force: bool = False) -> State[Any]:
    """Make the version champion again that was so before.

    reason  why, for those who read the ledger
    force   even if it did not pass the gate, or nobody knows whether it did
    """
    try:
        with registry.opened(_register().model_name) as models:
            decision = _roll_back(models, _said(reason), force=force)
            decisions.publish(models, decision)
    except VerbatimError as error:
        return Failed(message=str(error))
    return Completed(name=ROLLED_BACK, message=_told(models, decision))


def _register() -> Register:
    found: Register = params.read({"register": Register})["register"]
    return found


def _said(reason: str) -> str:
    if not reason.strip():
        raise ParamsError("--reason must say why, for those who read the ledger (got nothing)")
    return reason.strip()


def _promote(
    models: Registry, number: int, reason: str, register: Register, *, force: bool
) -> Decision:
    wanted, champion = models.version(number), models.alias(CHAMPION)
    if champion == number:
        raise ParamsError(
            f"{models.model_name}: must be another version than the champion (got {number})"
        )
    if not wanted.passed and not force:
        raise GateError(_ungated(models.model_name, wanted))
    if register.require_proof:
        proof.demand(models.model_name, wanted)
    return models.decide(
        "promoted",
        by=decisions.who(),
        seen=champion,
        subject=number,
        to=number,
        reason=reason,
        evidence={
            "passed_gate": wanted.passed,
            "forced": force,
            "lineage_keys": {"challenger": wanted.lineage_key},
            "proof": proof.evidence(wanted),
        },
    )


def _ungated(model_name: str, version: Version) -> str:
    got = "it failed" if version.passed is False else f"run {version.run_id} does not tell"
    return (
        f"{model_name} version {version.number}: must have passed the gate (got: {got})\n"
        "next: --force, if you must"
    )


def _roll_back(models: Registry, reason: str, *, force: bool) -> Decision:
    champion, previous = models.champion(), models.alias(PREVIOUS)
    if champion is None or previous in {None, champion.number}:
        raise ParamsError(
            f"{models.model_name}: there must be a champion before the one of now (got none)\n"
            "next: python -m flows ledger, then python -m flows promote VERSION --reason WHY"
        )
    back = models.version(int(previous))
    if not back.passed and not force:
        raise GateError(_ungated(models.model_name, back))
    keys = {"champion": champion.lineage_key, "previous": back.lineage_key}
    return models.decide(
        "rolled back",
        by=decisions.who(),
        seen=champion.number,
        subject=back.number,
        to=back.number,
        reason=reason,
        evidence={"passed_gate": back.passed, "forced": force, "lineage_keys": keys},
    )


def _told(models: Registry, decision: Decision) -> str:
    before = "none before" if decision.champion is None else f"before: version {decision.champion}"
    return f"{models.model_name} version {decision.to} is the champion, {before}: {decision.reason}"
