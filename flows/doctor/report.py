"""Tell people what is found of each stage, while it is examined and afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.doctor.examining import Finding, Verdict

STYLES = {
    Verdict.STABLE: "green",
    Verdict.UNSTABLE: "bold red",
    Verdict.FAILED: "bold red",
    Verdict.UNREACHED: "dim",
}
AGAIN = (
    "differs from run to run: derive each random choice from `seed`, write neither times nor ids, "
    "and let no race between threads decide (deterministic: true)"
)


class Progress:
    """Prints a line for each run as it ends; in a terminal also the newest line of the stage."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._status = self._console.status("examining")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status.stop()

    def line(self, text: str) -> None:
        """Show what a stage prints."""
        self._status.update(escape(text[: self._console.width - 4]))

    def ran(self, stage: str, title: str, seconds: float, how: str) -> None:
        """Tell that a run has ended, and how its outputs differ."""
        told = f"{stage:<12} {title:<16} {seconds:6.1f} s  {how}".rstrip()
        self._console.print(escape(told), soft_wrap=True)


def show(findings: Sequence[Finding]) -> None:
    """Print the table of stages, why some are not stable, and what to do."""
    console = Console(highlight=False)
    console.print(_table(findings))
    for line in lines(findings):
        console.print(escape(line), soft_wrap=True)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("stage", "verdict")
    for title in ("as usual", "all varied"):
        table.add_column(title, justify="right")
    for each in findings:
        seconds = (f"{one:.1f} s" for one in each.seconds)
        table.add_row(each.stage, f"[{STYLES[each.verdict]}]{each.verdict}", *seconds)
    return table


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Give what is to be said below the table."""
    unstable = [each for each in findings if each.verdict is Verdict.UNSTABLE]
    failed = [each for each in findings if each.verdict is Verdict.FAILED]
    for each in unstable:
        yield from (f"{each.stage}: not stable: {reason}" for reason in each.reasons)
    for each in failed:
        yield f"{each.stage}: fails as it stands, so nothing can be said of it: {each.error}"
    if failed:
        yield "next: python -m flows train, and mend what fails"
    if unstable:
        names = " ".join(each.stage for each in unstable)
        yield f"next: mend what is named, and python -m flows doctor {names}"
        yield from (f"  {advice}" for advice in _advice(unstable))
    elif not failed:
        yield f"stable: {len(findings)} of {len(findings)}\nnext: python -m flows train"


def _advice(unstable: Sequence[Finding]) -> list[str]:
    """Give the advice for each condition that matters somewhere, each once."""
    found = (
        AGAIN if reason.condition is None else f"{reason.condition.name}: {reason.condition.advice}"
        for each in unstable
        for reason in each.reasons
        if reason.alone
    )
    return list(dict.fromkeys(found))
