"""How a proof ends is told once, as a state and as an exit status."""

import pytest

from flows.proof.verdict import EXIT, STATES, Outcome, Verdict


@pytest.mark.parametrize(
    ("outcome", "damage", "state", "status"),
    [
        (Outcome.REPRODUCED, (), "Reproduced", 0),
        (Outcome.REPRODUCED, ("the lake",), "Damaged", 1),
        (Outcome.DIFFERS, ("the lake",), "Differs", 1),
        (Outcome.UNPROVABLE, ("the lake",), "CannotBeProven", 3),
    ],
)
def test_state_and_exit_status(outcome: Outcome, damage: tuple[str, ...], state: str, status: int):
    verdict = Verdict("it", "", outcome, damage=damage)
    assert (verdict.state, verdict.status) == (state, status)
    assert EXIT.keys() == {*STATES.values(), "Damaged"}
