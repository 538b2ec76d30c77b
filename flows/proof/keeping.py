"""Keep a verdict: as tags of the version, or of the run where there is no version."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from flows.proof.verdict import Outcome, Verdict
from tasks import environment, proof, store, tracking
from tasks.claim import Claim
from tasks.proof import Proof
from tasks.registry import Registry

WORDS = {
    Outcome.REPRODUCED: proof.YES,
    Outcome.DIFFERS: proof.NO,
    Outcome.UNPROVABLE: proof.UNKNOWN,
}


def tags(claim: Claim | None, verdict: Verdict) -> dict[str, str]:
    """Give the tags that tell a verdict, when and where it was reached, and of which bytes.

    claim  None of a version whose record cannot be read
    """
    kept = {
        proof.REPRODUCED: WORDS[verdict.outcome],
        proof.AT: datetime.now(UTC).isoformat(timespec="seconds"),
        proof.ON: f"{socket.gethostname()}, {environment.cpu()}",
        proof.LOCK: verdict.lock or environment.NONE,
        proof.PROOF: environment.NONE,
    }
    if claim and verdict.outcome is Outcome.REPRODUCED and verdict.model is not None:
        commit = claim.tags.get(proof.COMMIT, "")
        kept[proof.PROOF] = Proof(verdict.model, claim.lineage.key, commit).to_json()
    return kept


def is_worth_keeping(claim: Claim, verdict: Verdict) -> bool:
    """Tell whether a verdict says something of the version.

    What only this machine cannot prove does not, nor does a source that is gone of a model that was
    proven while it was there, and is the same still.
    """
    if verdict.outcome is not Outcome.UNPROVABLE:
        return bool(claim.run_id)
    known = None if claim.version is None else proof.read(claim.version.tags)
    is_proven = known is not None and known.model == verdict.model
    return bool(claim.run_id) and not verdict.is_here and not is_proven


def keep(claim: Claim, verdict: Verdict, models: Registry | None = None) -> None:
    """Write the verdict, if it says something of the version, or run.

    models  the registry, where a version is to be tagged

    Raises TemporaryError if the store does not answer.
    """
    if not is_worth_keeping(claim, verdict):
        return
    written = tags(claim, verdict)
    if claim.version is None or models is None:
        with store.reachable():
            tracking.tag(claim.run_id, written)
    else:
        _write(models, claim.version.number, written)


def keep_unread(models: Registry, number: int, verdict: Verdict) -> None:
    """Write the verdict on a version whose record is gone or unreadable: no earlier one holds."""
    _write(models, number, tags(None, verdict))


def _write(models: Registry, number: int, written: Mapping[str, str]) -> None:
    for name, value in written.items():
        models.tag(number, name, value)
