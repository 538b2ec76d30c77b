"""Decisions: kept whole, in order, and not to be changed unseen."""

import json
from dataclasses import replace

import pytest

from tasks import ledger
from tasks.ledger import Decision

AT = "1998-07-01T03:00:00+00:00"


def chain(*decisions: tuple[str, int | None, int | None]) -> list[Decision]:
    """Make decisions of kind, subject and champion afterwards, each after the one before."""
    found: list[Decision] = []
    for kind, subject, to in decisions:
        last = found[-1] if found else None
        found.append(
            Decision(
                kind=kind,
                at=AT,
                by="a run",
                champion=last.to if last else None,
                subject=subject,
                to=to,
                reason=f"{kind} {subject}",
                evidence={"roc_auc": 0.1234567},
                number=len(found) + 1,
                before=last.id if last else "",
            )
        )
    return found


def tags(decisions: list[Decision]) -> dict[str, str]:
    return {each.tag: each.to_json() for each in decisions}


LIFE = chain(
    ("promoted", 1, 1),
    ("kept", 2, 1),
    ("promoted", 3, 3),
    ("promoted", 4, 4),
    ("rolled back", 3, 3),
    ("rolled back", 1, 1),
)


def test_reads_what_was_kept_in_order():
    shuffled = dict(reversed(tags(LIFE).items())) | {"team": "shop"}
    assert ledger.read(shuffled) == [replace(each, evidence={"roc_auc": 0.123457}) for each in LIFE]
    assert ledger.gaps(shuffled) == []


@pytest.mark.parametrize("count", range(len(LIFE) - 1))
def test_one_that_is_missing_is_told(count: int):
    kept = tags(LIFE)
    del kept[LIFE[count].tag]
    assert ledger.gaps(kept) == [
        f"the decision before number {count + 2} is missing, or was changed"
    ]


def test_one_that_was_changed_is_told():
    kept = tags(LIFE)
    changed = json.loads(kept[LIFE[1].tag]) | {"reason": "it was better"}
    kept[LIFE[1].tag] = json.dumps(changed)
    assert ledger.gaps(kept) == ["decision 2 is not as it was written"]


def test_the_last_one_that_is_missing_is_told_by_its_copy():
    kept = tags(LIFE)
    last = {LIFE[-1].tag: kept.pop(LIFE[-1].tag)}
    assert ledger.gaps(kept) == []
    assert ledger.gaps(kept, last) == ["decision 6 is missing: its version still has it"]


@pytest.mark.parametrize("text", ["hello", "{}", "[1]"])
def test_a_tag_that_holds_no_decision_is_told_and_passed_by(text: str):
    kept = tags(LIFE) | {"ledger.note": text}
    assert len(ledger.read(kept)) == len(LIFE)
    assert ledger.gaps(kept) == ["the tag ledger.note holds no decision"]


def test_two_that_were_taken_at_once_stay_both():
    first, second = LIFE[0], replace(LIFE[0], by="another run")
    third = replace(LIFE[1], before=second.id)
    kept = tags([first, second, third])
    assert len(ledger.read(kept)) == 3
    assert ledger.gaps(kept) == []


def test_what_is_kept_fits_a_tag_and_loses_the_end_of_the_evidence_first():
    long = replace(
        LIFE[0],
        reason="why " * 1000,
        evidence={"gain": 0.5, "slices": ["x" * 100] * 20, "gate": {str(n): n for n in range(500)}},
    )
    kept = Decision.from_json(long.to_json())
    assert len(long.to_json()) <= ledger.LONGEST
    assert kept.evidence == {"gain": 0.5, "slices": ["x" * 100] * 20}
    assert len(kept.reason) == ledger.LONGEST_REASON
    assert kept.id == long.id


@pytest.mark.parametrize(
    ("count", "line"), [(1, [1]), (2, [1]), (3, [1, 3]), (4, [1, 3, 4]), (5, [1, 3]), (6, [1])]
)
def test_a_rollback_takes_away_what_promotions_have_added(count: int, line: list[int]):
    assert ledger.champions(LIFE[:count]) == line


def test_the_same_two_were_judged_before():
    kept = replace(LIFE[1], evidence={ledger.RULE: "strict"})
    life = [LIFE[0], kept, *LIFE[2:]]
    assert ledger.judged(life, 2, 1, rule="strict") == kept
    assert ledger.judged(life, 2, 1, rule="lenient") is None  # judged anew
    assert ledger.judged(life, 3, 1, rule="strict") is None  # it was promoted
    assert ledger.judged(life, 2, 3, rule="strict") is None


def test_what_was_rolled_back_stays_so_until_it_is_promoted_again():
    assert ledger.withdrawn(LIFE, 4) == LIFE[4]
    assert ledger.withdrawn(LIFE, 1) is None
    again = chain(("promoted", 1, 1), ("promoted", 2, 2), ("rolled back", 1, 1), ("promoted", 2, 2))
    assert ledger.withdrawn(again, 2) is None
