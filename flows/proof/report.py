"""Tell a verdict: a table and sentences in the terminal, and the same as a Prefect artifact."""

from __future__ import annotations

from collections.abc import Iterator

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from rich.console import Console
from rich.table import Table

from flows.proof.verdict import Outcome, Row, Verdict

COLUMNS = ("stage", "output", "expected", "got")
SHORT = 12
MOST_TOLD = 12
"""Lines of a state's message; the terminal and the artifact have all."""


def told(verdict: Verdict) -> str:
    """Say it in the message of a flow's state."""
    lines = [verdict.summary, *verdict.why, *verdict.damage, *verdict.notes]
    return "\n".join(lines[:MOST_TOLD])


def sections(verdict: Verdict) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give what there is to say besides the table: headings, and lines below each."""
    missing = verdict.outcome is Outcome.UNPROVABLE
    parts = (
        (verdict.what if missing else "what differs", verdict.why),
        ("what differs between the machines", verdict.causes),
        ("what was changed besides", verdict.damage),
        ("what only the record says", verdict.notes),
    )
    yield from ((heading, lines) for heading, lines in parts if lines)


def publish(verdict: Verdict) -> None:
    """Keep the verdict with the flow run."""
    rows = [dict(zip(COLUMNS, row.cells(), strict=True)) for row in verdict.rows]
    if rows:
        create_table_artifact(rows, key="proof", description=verdict.summary)
    text = [f"# {verdict.summary}", f"Commit `{verdict.commit}`, {_time(verdict)}."]
    for heading, lines in sections(verdict):
        text += [f"## {heading.capitalize()}", "\n".join(f"- {line}" for line in lines)]
    create_markdown_artifact("\n\n".join(text), key="verdict", description=verdict.summary)


def show(verdict: Verdict) -> None:
    """Print the table, and all there is to say."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if verdict.rows:
        table = Table(*COLUMNS)
        for row in verdict.rows:
            table.add_row(*_short(row), style="red" if row.is_other else None)
        console.print(table)
    for heading, lines in sections(verdict):
        console.print(heading, style="bold")
        for line in lines:
            console.print(f"  {line}")
    good = verdict.status == 0
    console.print(f"{verdict.summary} ({_time(verdict)})", style="bold green" if good else "bold")


def _short(row: Row) -> tuple[str, ...]:
    """Give the cells for the terminal: of hashes as many digits as people compare."""
    expected, got = row.expected[:SHORT], row.got
    if not row.is_missing:
        got = f"{row.got[:SHORT]} {'differs' if row.is_other else 'same'}"
    return row.stage, row.output, expected, got


def _time(verdict: Verdict) -> str:
    if verdict.seconds is None:
        return "nothing was rebuilt"
    return f"rebuilt in {verdict.seconds:.0f} s"
