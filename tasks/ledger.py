"""The ledger: each decision about which version is the champion, appended and never changed.

MLflow keeps no history of where an alias pointed. A decision is kept as a tag of the registered
model and once more as a tag of the version that it is about, so that it survives the loss of any
run, and of any version. Each names the one before it by its hash: one that was changed or removed
afterwards leaves a gap that `gaps` tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tasks import files

PREFIX = "ledger."
"""How the names of the tags begin that hold decisions."""

LONGEST = 5000
"""What MLflow's tables hold of the tag of a registered model."""

LONGEST_REASON = 1200

RULE = "rule"
"""Key of the evidence: by what rule was judged."""

Kind = Literal["promoted", "kept", "rolled back", "found"]


@dataclass(frozen=True)
class Decision:
    """One decision, as it is kept.

    kind      `found`: the alias was not where the last decision had put it, as when moved by hand
    at        when, in UTC, to the second
    by        who or what: a person, or the run that judged
    champion  the version before it; None if there was none
    subject   the version that it is about; None if none was registered
    to        the version that is the champion since
    reason    why, in sentences
    evidence  what was known: metrics with intervals, the gate, lineage keys
    number    its place in the ledger, from 1
    before    `id` of the decision before it; empty for the first
    """

    kind: Kind
    at: str
    by: str
    champion: int | None
    subject: int | None
    to: int | None
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1
    before: str = ""

    @property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of all of it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def tag(self) -> str:
        """The name of the tag it is kept in; two that are taken at once do not meet."""
        return f"{PREFIX}{self.number:06}.{self.id}"

    def to_json(self) -> str:
        """Give JSON text of at most LONGEST characters; what is least needed of it is left out."""
        value = asdict(self) | {"reason": self.reason[:LONGEST_REASON]}
        evidence = dict(files.rounded(dict(self.evidence)))
        for name in ("", *reversed(evidence)):
            evidence.pop(name, None)
            text = json.dumps(value | {"evidence": evidence}, ensure_ascii=False, sort_keys=True)
            if len(text) <= LONGEST:
                break
        return text

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def read(tags: Mapping[str, str]) -> list[Decision]:
    """Read the decisions among the tags of a registered model, the first of them first."""
    return [decision for _, decision in _found(tags) if decision is not None]


def _found(tags: Mapping[str, str]) -> list[tuple[str, Decision | None]]:
    """Give the names of tags and what they hold; None where that is no decision."""
    names = sorted(name for name in tags if name.startswith(PREFIX))
    return [(name, parsed(tags[name])) for name in names]


def parsed(text: str) -> Decision | None:
    """Read a decision; None if the text is none, as when somebody has written into its tag."""
    with suppress(ValueError, TypeError):
        return Decision.from_json(text)
    return None


def gaps(tags: Mapping[str, str], copies: Mapping[str, str] | None = None) -> list[str]:
    """Say which decisions are not as they were written, and which are missing.

    copies  the tags that stand with the versions: they tell of the last ones, too
    """
    faults, known = [], {""}
    for name, decision in _found(tags):
        if decision is None:
            faults.append(f"the tag {name} holds no decision")
            continue
        number = decision.number
        if decision.tag != name:
            faults.append(f"decision {number} is not as it was written")
        if decision.before not in known:
            faults.append(f"the decision before number {number} is missing, or was changed")
        known.add(name.rpartition(".")[2])
    for name, decision in _found(copies or {}):
        if name not in tags and decision is not None:
            faults.append(f"decision {decision.number} is missing: its version still has it")
    return faults


def champions(decisions: Iterable[Decision]) -> list[int]:
    """Give the versions that a rollback would go back through, the champion last.

    A promotion goes on from the champion; a rollback takes it away.
    """
    line: list[int] = []
    for decision in decisions:
        while decision.kind == "rolled back" and line and line[-1] != decision.to:
            line.pop()
        if decision.to is not None and line[-1:] != [decision.to]:
            line.append(decision.to)
    return line


def judged(
    decisions: Sequence[Decision], subject: int, champion: int, *, rule: str
) -> Decision | None:
    """Find the newest decision by which the champion was kept against a version.

    rule  what stood in the section `promote`: by another rule they are judged anew
    """
    for decision in reversed(decisions):
        pair = decision.kind, decision.subject, decision.champion
        if pair == ("kept", subject, champion) and decision.evidence.get(RULE) == rule:
            return decision
    return None


def withdrawn(decisions: Iterable[Decision], subject: int) -> Decision | None:
    """Find the rollback that took a version back, unless it was promoted again since."""
    found = None
    for decision in decisions:
        if decision.kind == "rolled back" and decision.champion == subject:
            found = decision
        elif decision.to == subject:
            found = None
    return found
