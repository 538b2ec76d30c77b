"""Hold what a run has made against the champion, and decide: promote it, or keep the champion.

Both score the same test rows, the champion with the code and encoder that it was logged with. What
was decided before between the same two is not decided again. Where `register.require_proof` is on,
what is to be promoted is proven first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
from prefect import get_run_logger

from flows import decisions, prove
from flows.proof.verdict import Outcome
from flows.walk import GATE_FAILED, Failure
from tasks import files, judgement, ledger, metrics, proof, registry, scored, seeds
from tasks.errors import StageError
from tasks.judgement import Contender, Rows, Verdict
from tasks.ledger import Decision
from tasks.past_model import PastModel, UnfitModelError
from tasks.registry import Registry, Version
from tasks.store import Record

FEATURIZED, EVALUATED = Path("data/featurize"), Path("data/evaluate")
PURPOSE = "promotion"
"""What the seed of the bootstrap is derived for."""

MOST_FAULTS = 5
"""How many lines of a refusal are kept."""

PROMOTED, KEPT, UNCHANGED = "Promoted", "Kept", "Unchanged"
"""How a run ends that was to judge; or as `prove` does, if the challenger differs."""

PROOF_FAILED = "proof_failed"
"""Key of the evidence: how the proof of the challenger ended, if it differs."""


@dataclass(frozen=True)
class Conclusion:
    """How a run that judges ends: the name of its state, and why."""

    name: str
    message: str


def conclude(
    values: Mapping[str, Any], run: str, record: Record | None, failure: Failure | None
) -> Conclusion | None:
    """Decide, and keep the decision; None if nothing can be said: the run was cut off.

    run  what decides, by name

    Raises VerbatimError if the registry or the model's files cannot be reached.
    """
    if failure is not None and failure.state_name is None:
        return None
    with registry.opened(values["register"].model_name) as models:
        if failure is not None:
            decision = _refuse(models, run, failure)
            decisions.publish(models, decision)
            return None
        if record is None or record.version is None:
            raise StageError(
                f"{run}: must be a version of {models.model_name} to be judged (got none)\n"
                "next: run it once more, when the store of MLflow answers"
            )
        challenger = models.version(record.version)
        rule = _rule(values, challenger)
        conclusion, decision = _known(models, record.version, rule), None
        if conclusion is None:
            decision = _decide(models, values, run, challenger)
            conclusion = Conclusion(_ending(decision), decision.reason)
        decisions.publish(models, decision)
        return conclusion


def _refuse(models: Registry, run: str, failure: Failure) -> Decision | None:
    """Note that nothing could be promoted, unless the run was begun again and it stands there."""
    champion, known = models.alias(registry.CHAMPION), models.decisions()
    reason = f"nothing to promote, {failure.what}: {_faults(failure)}"
    if known and (known[-1].by, known[-1].reason) == (run, reason[: ledger.LONGEST_REASON]):
        return None
    return models.decide("kept", by=run, seen=champion, subject=None, to=champion, reason=reason)


def _faults(failure: Failure) -> str:
    """Give the checks of the gate that failed, or the first lines of why the data was refused."""
    if failure.state_name == GATE_FAILED:
        checks = files.read_json(EVALUATED / "gate.json")["checks"]
        return "; ".join(check["why"] for check in checks if not check["passed"])
    return "; ".join(failure.message.splitlines()[:MOST_FAULTS])


def _ending(decision: Decision) -> str:
    """Name the state: people are told of a challenger that is not what it claims to be."""
    if decision.kind == "promoted":
        return PROMOTED
    return str(decision.evidence.get(PROOF_FAILED, KEPT))


def _rule(values: Mapping[str, Any], challenger: Version) -> str:
    """Name the rule that is judged by: by another one, the same two are judged anew.

    Where a proof is required, what is known of that of the challenger is part of it.
    """
    text = values["promote"].model_dump_json()
    if values["register"].require_proof:
        text += f" proof: {challenger.tags.get(proof.REPRODUCED)}"
    return sha256(text.encode()).hexdigest()[:8]


def _known(models: Registry, number: int, rule: str) -> Conclusion | None:
    """Tell what was decided before of a version and the champion of now."""
    champion = models.alias(registry.CHAMPION)
    if champion == number:
        return Conclusion(
            UNCHANGED, f"nothing has changed: {models.model_name} version {number} is the champion"
        )
    if champion is None:
        return None
    before = ledger.judged(models.decisions(), number, champion, rule=rule)
    if before is None:
        return None
    return Conclusion(
        UNCHANGED,
        f"nothing has changed since decision {before.number} of {before.at}: {before.reason}",
    )


def _decide(
    models: Registry,
    values: Mapping[str, Any],
    run: str,
    challenger: Version,
) -> Decision:
    champion = models.champion()
    back = ledger.withdrawn(models.decisions(), challenger.number)
    if back is not None:
        why = f"version {challenger.number} was rolled back ({back.by}, {back.at}: {back.reason})"
        verdict = Verdict(False, f"{why}; only `promote` brings it back", {})
    elif champion is None:
        is_first = not ledger.champions(models.decisions())
        which = "the first version that has" if is_first else "no version is champion, and it has"
        verdict = Verdict(True, f"{which} passed the gate", {})
    else:
        verdict = _judged(values, champion, challenger)
    if verdict.promoted and values["register"].require_proof:
        verdict, challenger = _proven(models, challenger, verdict)
    before = None if champion is None else champion.number
    origin = _origin(challenger, champion)
    return models.decide(
        "promoted" if verdict.promoted else "kept",
        by=run,
        seen=before,
        subject=challenger.number,
        to=challenger.number if verdict.promoted else before,
        reason=verdict.reason,
        evidence={ledger.RULE: _rule(values, challenger), **verdict.evidence, **origin},
    )


def _proven(models: Registry, challenger: Version, verdict: Verdict) -> tuple[Verdict, Version]:
    """Prove what is to be promoted, unless it is proven; the champion stays if it differs.

    Gives the version as it is tagged then. Raises StageError if it is this machine alone that
    cannot prove it: that says nothing of the version, and is not remembered.
    """
    if proof.lacking(models.model_name, challenger) is not None:
        found = prove.of_version(models, challenger.number, get_run_logger().info)
        challenger = models.version(challenger.number)
        why = "; ".join([found.summary, *found.why][: MOST_FAULTS + 1])
        reason = f"it would be promoted ({verdict.reason}), but is not proven: {why}"
        if found.is_here:
            target = f"{models.model_name}/{challenger.number}"
            raise StageError(
                f"{target}: must be proven where it is judged (got: {reason})\nnext: where it can "
                f"be rebuilt, python -m flows prove {target}; then judge it again"
            )
        if found.outcome is not Outcome.REPRODUCED:
            failed = {PROOF_FAILED: found.state} if found.outcome is Outcome.DIFFERS else {}
            return Verdict(False, reason, failed | verdict.evidence), challenger
    kept = {**verdict.evidence, "proof": proof.evidence(challenger)}
    return replace(verdict, evidence=kept), challenger


def _origin(challenger: Version, champion: Version | None) -> dict[str, Any]:
    """Give what both come from, and the challenger's gate."""
    both = {"challenger": challenger, "champion": champion}
    gate = files.read_json(EVALUATED / "gate.json")["checks"]
    return {
        "lineage_keys": {role: each.lineage_key for role, each in both.items() if each},
        "gate": {each["name"]: [each["observed"], each["bound"]] for each in gate},
    }


def _judged(values: Mapping[str, Any], champion: Version, challenger: Version) -> Verdict:
    """Compare the two on the challenger's test rows."""
    roles = files.read_json(FEATURIZED / "examples.json")["columns"]
    test = files.read_parquet(FEATURIZED / "test.parquet")
    predicted = files.read_parquet(EVALUATED / "predictions.parquet")
    features = [*roles["numeric"], *roles["categorical"]]
    where = f"scores of version {champion.number}"
    try:
        found = PastModel(champion.run_id).predict(test.select(features))
        score = scored.probabilities(found, where)
    except UnfitModelError as error:
        return Verdict(False, f"they cannot be compared: {str(error).splitlines()[0]}", {})
    except StageError as error:
        raise StageError(
            f"version {champion.number}, the champion, must score the new test rows "
            f"(got {str(error).splitlines()[0]})\nnext: see that the store of MLflow answers; if "
            f"its model is lost, python -m flows promote {challenger.number} --reason WHY"
        ) from error
    rows = Rows(
        target=predicted[roles["target"]].to_numpy().astype("int64"),
        slices=test[roles["slice"]] if roles["slice"] else None,
    )
    evaluate = values["evaluate"]
    return judgement.judge(
        rows,
        _contender(champion, pl.Series(score)),
        _contender(challenger, predicted["score"]),
        values["promote"],
        measures=metrics.by_name(threshold=evaluate.threshold, bins=evaluate.calibration_bins),
        seed=seeds.derive(values["seed"], PURPOSE),
    )


def _contender(version: Version, score: pl.Series) -> Contender:
    known = date.fromisoformat(version.dataset_version) if version.dataset_version else date.min
    return Contender(f"version {version.number}", known, score.to_numpy())
