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
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tasks import files

PREFIX = "ledger."
"""How the names of the tags begin that hold decisions."""

LONGEST = 5000
"""What MLflow's tables hold of the tag of a registered model."""

LONGEST_REASON = 1200

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
    names = sorted(name for name in tags if name.startswith(PREFIX))
    return [Decision.from_json(tags[name]) for name in names]


def gaps(tags: Mapping[str, str]) -> list[str]:
    """Say which decisions are not as they were written, and which are missing."""
    faults, known = [], {""}
    for name in sorted(name for name in tags if name.startswith(PREFIX)):
        number, _, stated = name.removeprefix(PREFIX).partition(".")
        decision = Decision.from_json(tags[name])
        if decision.id != stated or decision.number != int(number):
            faults.append(f"decision {int(number)} is not as it was written")
        if decision.before not in known:
            faults.append(f"the decision before number {int(number)} is missing, or was changed")
        known.add(stated)
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


def judged(decisions: Sequence[Decision], subject: int, champion: int | None) -> Decision | None:
    """Find the newest decision between these two, if a run has judged them before."""
    for decision in reversed(decisions):
        pair = decision.subject, decision.champion
        if decision.kind in {"promoted", "kept"} and pair == (subject, champion):
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
