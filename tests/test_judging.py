"""What a night remembers, and how it ends, where a proof is required."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from left_behind import REGISTER
from prefect.logging import disable_run_logger

from flows import judging, prove
from flows.proof.verdict import Outcome
from flows.proof.verdict import Verdict as Proven
from tasks import files, ledger
from tasks.errors import StageError
from tasks.judgement import Promote, Verdict
from tasks.ledger import Decision
from tasks.register import Register
from tasks.registry import Version

PROMOTE = Promote(metric="roc_auc", margin=0.01, slice_margin=0.1, slice_rows=100, resamples=100)


def version(**tags: str) -> Version:
    return Version(2, "run", "key", "1998-07-01", passed=True, tags=tags)


def values(*, require_proof: bool) -> Mapping[str, Any]:
    return {
        "promote": PROMOTE,
        "register": Register(**REGISTER, require_proof=require_proof),
    }


class Registered:
    """One version, as a registry has it."""

    model_name = "churn-predictor"

    def version(self, _number: int) -> Version:
        return version(reproduced="false")


def proven(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, **known: Any) -> Verdict:
    """Judge by a proof that ends like this."""
    ended = Proven("version 2", "", outcome, why=("it",), **known)
    monkeypatch.setattr(prove, "of_version", lambda *_: ended)
    with disable_run_logger():
        return judging._proven(Registered(), version(), Verdict(True, "better", {}))[0]


def test_what_is_known_of_a_proof_is_part_of_the_rule_only_where_one_is_required():
    tagged = [version(), version(reproduced="false"), version(reproduced="true")]
    asked = {judging._rule(values(require_proof=True), each) for each in tagged}
    unasked = {judging._rule(values(require_proof=False), each) for each in tagged}
    assert (len(asked), len(unasked), len(asked | unasked)) == (3, 1, 4)


def test_what_this_machine_cannot_prove_is_no_decision(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(StageError, match=r"no GPU[^$]*next: where it can be rebuilt"):
        proven(monkeypatch, Outcome.UNPROVABLE, what="no GPU", is_here=True)


@pytest.mark.parametrize(
    ("outcome", "ending"), [(Outcome.DIFFERS, "Differs"), (Outcome.UNPROVABLE, judging.KEPT)]
)
def test_people_are_told_of_a_challenger_that_differs(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, ending: str
):
    verdict = proven(monkeypatch, outcome)
    kept = Decision("kept", "", "", 1, 2, 1, verdict.reason, verdict.evidence)
    assert not verdict.promoted
    assert judging._ending(kept) == ending
    assert judging._ending(ledger.Decision("kept", "", "", 1, 2, 1, "")) == judging.KEPT


def test_what_was_rolled_back_stays_so_where_nobody_is_champion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    files.write_json(tmp_path / "gate.json", {"checks": []})
    monkeypatch.setattr(judging, "EVALUATED", tmp_path)
    taken = {"by": "a person", "reason": "complaints", "evidence": {}, "at": "1998-07-01T00:00:00"}
    line = [
        Decision(kind="promoted", champion=None, subject=2, to=2, number=1, **taken),
        Decision(kind="rolled back", champion=2, subject=1, to=1, number=2, **taken),
    ]

    class Headless(Registered):
        def champion(self) -> None:
            return None

        def decisions(self) -> list[Decision]:
            return line

        def decide(self, kind: str, **told: Any) -> tuple[str, str]:
            return kind, told["reason"]

    found = judging._decide(Headless(), values(require_proof=False), "a night", version())
    assert found[0] == "kept"
    assert "only `promote` brings it back" in found[1]
