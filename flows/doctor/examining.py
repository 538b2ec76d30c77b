"""Run each stage as usual and with all conditions varied; where it differs, find which matters.

A stable pipeline costs two runs of each stage. Only one that differs is run again: first as usual,
for it may differ from run to run, and then with one condition varied at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from flows.doctor import conditions as known
from flows.doctor.conditions import FOLDER, ORDER, Condition
from flows.doctor.places import Made, Places, carry
from flows.process import CommandError
from tasks import differences
from tasks.errors import StageError

LEAST_SECONDS = 1.1
"""Between two runs of a stage, so that a time in seconds cannot be the same by chance."""


class Verdict(StrEnum):
    """What is found of a stage; the value is what people read."""

    STABLE = "stable"
    UNSTABLE = "not stable"
    FAILED = "fails"
    UNREACHED = "not reached"


@dataclass(frozen=True)
class Reason:
    """Why outputs differ: the condition, None if they differ from run to run, and how.

    alone  whether the condition alone is enough
    """

    condition: Condition | None
    how: str
    alone: bool = True

    def __str__(self) -> str:
        if not self.alone:
            return f"all conditions together, and none alone: {self.how}"
        where = "differs from run to run" if self.condition is None else str(self.condition)
        return f"{where}: {self.how}"


@dataclass(frozen=True)
class Finding:
    """What came of one stage; `seconds` that it took as usual and varied."""

    stage: str
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    error: str = ""
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Telling:
    """Whom to tell: `ran` of each run with its seconds and how it differs, `line` of each line."""

    ran: Callable[[str, str, float, str], None]
    line: Callable[[str], None]


class Examination:
    """Examines the stages of both copies, one after the other."""

    def __init__(self, places: Places, conditions: Sequence[Condition], telling: Telling) -> None:
        self._places, self._conditions, self._telling = places, conditions, telling

    def of(self, names: Sequence[str], wanted: Sequence[str]) -> Iterator[Finding]:
        """Run the named stages in this order as usual, and give a finding of each wanted one."""
        failed = False
        for name in names:
            if failed:
                finding = Finding(name, Verdict.UNREACHED)
            else:
                finding = self._examine(name, is_wanted=name in wanted)
                failed = finding.verdict is Verdict.FAILED
            if name in wanted or finding.verdict is Verdict.FAILED:
                yield finding

    def _examine(self, name: str, *, is_wanted: bool) -> Finding:
        begun = time.monotonic()
        try:
            self._execute(name, self._places.usual, [])
            usual = time.monotonic() - begun
            self._places.graph.note(name)
        except StageError as error:
            return Finding(name, Verdict.FAILED, error=getattr(error, "reason", str(error)))
        self._telling.ran(name, "as usual", usual, "")
        if not is_wanted:
            return Finding(name, Verdict.STABLE)
        time.sleep(max(0.0, LEAST_SECONDS - usual))
        begun = time.monotonic()
        how = self._differs(name, self._conditions, "all varied")
        seconds = usual, time.monotonic() - begun
        if how is None:
            return Finding(name, Verdict.STABLE, seconds=seconds)
        return Finding(name, Verdict.UNSTABLE, tuple(self._reasons(name, how)), seconds=seconds)

    def _reasons(self, name: str, how: str) -> Iterator[Reason]:
        """Find the conditions each of which is enough to change the outputs."""
        if (again := self._differs(name, [], "as usual again")) is not None:
            yield Reason(None, again)
            return
        found = [
            Reason(each, alone)
            for each in self._conditions
            if (alone := self._differs(name, [each], each.name)) is not None
        ]
        yield from found or [Reason(None, how, alone=False)]

    def _differs(self, name: str, varied: Sequence[Condition], title: str) -> str | None:
        """Run a stage once more; say how its outputs differ, or that it fails."""
        made, places = self._places.made[name], self._places
        begun = time.monotonic()
        try:
            if FOLDER in varied:
                places.hand_over(name, shuffled=ORDER in varied)
                self._execute(name, places.other, varied)
                how = _first(made, places.usual, places.other)
            else:
                how = self._differs_there(made, varied)
        except CommandError as error:
            how = f"fails: {error.reason}"
        self._telling.ran(name, title, time.monotonic() - begun, how or "equal")
        return how

    def _differs_there(self, made: Made, varied: Sequence[Condition]) -> str | None:
        """Run a stage in the same folder again, whose contents are put back afterwards."""
        places = self._places
        folders = [path for path in made.inputs if (places.usual / path).is_dir()]
        shuffled = folders if ORDER in varied else []
        with places.aside(made.outputs) as kept, places.aside(shuffled) as inputs:
            for path in shuffled:
                carry(inputs / path, places.usual / path, shuffled=True)
            self._execute(made.name, places.usual, varied)
            return _first(made, kept, places.usual)

    def _execute(self, name: str, place: Path, varied: Sequence[Condition]) -> None:
        variables = known.variables(self._conditions, varied)
        self._places.run(name, place, variables, self._telling.line)


def _first(made: Made, expected: Path, got: Path) -> str | None:
    """Say what differs first in the outputs of a stage."""
    for path in sorted(made.outputs):
        if (how := differences.first(expected / path, got / path)) is not None:
            between = "/" if (got / path).is_dir() else ": "
            return f"{path}{between}{how}"
    return None
