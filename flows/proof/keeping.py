"""Keep a verdict: as tags of the version, or of the run where there is no version."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from flows.proof.verdict import Outcome, Verdict
from tasks import environment, proof, tracking
from tasks.claim import Claim
from tasks.proof import Proof
from tasks.registry import Registry

WORDS = {
    Outcome.REPRODUCED: proof.YES,
    Outcome.DIFFERS: proof.NO,
    Outcome.UNPROVABLE: proof.UNKNOWN,
}


def tags(claim: Claim, verdict: Verdict) -> dict[str, str]:
    """Give the tags that tell a verdict, when and where it was reached, and of which bytes."""
    kept = {
        proof.REPRODUCED: WORDS[verdict.outcome],
        proof.AT: datetime.now(UTC).isoformat(timespec="seconds"),
        proof.ON: f"{socket.gethostname()}, {environment.cpu()}",
        proof.LOCK: verdict.lock or environment.NONE,
        proof.PROOF: environment.NONE,
    }
    if verdict.outcome is Outcome.REPRODUCED and verdict.model is not None:
        kept[proof.PROOF] = Proof(verdict.model, claim.lineage.key).to_json()
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


def keep(claim: Claim, verdict: Verdict, models: Registry | None = None) -> bool:
    """Write the verdict; tell whether there was a place for it.

    models  the registry, where a version is to be tagged
    """
    if not is_worth_keeping(claim, verdict):
        return False
    written = tags(claim, verdict)
    if claim.version is None or models is None:
        tracking.tag(claim.run_id, written)
        return True
    for name, value in written.items():
        models.tag(claim.version.number, name, value)
    return True
