"""What a proof comes to: reproduced, differs, or cannot be proven; and what lets it be so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tasks.errors import VerbatimError


class Outcome(StrEnum):
    """The three ends of a proof; the value is what people read."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    UNPROVABLE = "cannot be proven"


DAMAGED = "Damaged"
STATES = {
    Outcome.REPRODUCED: "Reproduced",
    Outcome.DIFFERS: "Differs",
    Outcome.UNPROVABLE: "CannotBeProven",
}
"""How the flow ends; a model that is what it claims while all else is not is Damaged."""

EXIT = {"Reproduced": 0, "Differs": 1, DAMAGED: 1, "CannotBeProven": 3}
"""The exit status of the command by state; 2 says that it was typed wrongly."""

NOT_REBUILT, NOT_MADE = "not rebuilt", "not made"


class UnprovableError(VerbatimError):
    """What a proof needs is gone, or is not on this machine.

    what     in two or three words, as `source gone`
    faults   each thing that is missing
    is_here  whether it is this machine that lacks it: the version itself is not at fault
    """

    def __init__(self, what: str, faults: list[str], *, is_here: bool = False) -> None:
        super().__init__("\n".join([f"{Outcome.UNPROVABLE}: {what}", *faults]))
        self.what, self.faults, self.is_here = what, faults, is_here


@dataclass(frozen=True)
class Row:
    """An output of a stage: its hash as recorded, and as it came out."""

    stage: str
    output: str
    expected: str
    got: str

    @property
    def is_missing(self) -> bool:
        """Whether nothing came out that could be compared."""
        return self.got in {NOT_REBUILT, NOT_MADE}

    @property
    def is_other(self) -> bool:
        """Whether it was to come out, and did not come out as recorded."""
        return self.got not in {self.expected, NOT_REBUILT}

    def cells(self) -> tuple[str, ...]:
        """Give the cells of the table."""
        return self.stage, self.output, self.expected, self.got


@dataclass(frozen=True)
class Verdict:
    """What a proof came to.

    title    what was proven; `commit` what it was rebuilt from
    what     why it cannot be proven, in two or three words
    why      what differs, or what is missing, one thing a line
    damage   what was changed besides: bytes of the lake or a cache, a commit that was amended
    notes    what is told by the record alone, and not by the commit
    causes   what differs between the machines
    model    SHA-256 of the stored model; None if none was looked at
    lock     SHA-256 of the requirements.lock that it was rebuilt by; empty if it was not
    seconds  that the rebuild took; None if nothing was rebuilt
    is_here  whether it is this machine alone that cannot prove it
    """

    title: str
    commit: str
    outcome: Outcome
    rows: tuple[Row, ...] = ()
    what: str = ""
    why: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    model: str | None = None
    lock: str = ""
    seconds: float | None = None
    is_here: bool = False

    @property
    def state(self) -> str:
        """The name of the state that the flow ends in."""
        is_damaged = self.outcome is Outcome.REPRODUCED and self.damage
        return DAMAGED if is_damaged else STATES[self.outcome]

    @property
    def status(self) -> int:
        """The exit status of the command."""
        return EXIT[self.state]

    @property
    def summary(self) -> str:
        """Say it in a line."""
        said = f"{self.title}: {self.outcome}" + (f": {self.what}" if self.what else "")
        said += ", by parameters that only the record has" if self.is_by_record else ""
        return said + (", but something else was changed" if self.state == DAMAGED else "")

    @property
    def is_by_record(self) -> bool:
        """Whether it is reproduced, and its commit does not hold its parameters."""
        return self.outcome is Outcome.REPRODUCED and bool(self.notes)
