"""Show decisions about the champion: as artifacts of a flow run, and in the terminal."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Sequence

from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from rich.console import Console
from rich.padding import Padding

from flows.report import markdown_table
from tasks import ledger
from tasks.ledger import Decision
from tasks.registry import CHAMPION, Registry

COLUMNS = ("#", "when", "decision", "by", "why")


def who() -> str:
    """Name who decides: the person at the terminal, or the run that was started from elsewhere."""
    if runtime.deployment.id is not None:
        return f"run {runtime.flow_run.name}"
    command = ["git", "var", "GIT_AUTHOR_IDENT"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    name = asked.stdout.rpartition(">")[0]
    return f"{name}>" if name else getpass.getuser()


def cells(decision: Decision) -> tuple[str, ...]:
    """Give a decision as a row of the table."""
    when = decision.at.replace("T", " ").removesuffix("+00:00")
    return str(decision.number), when, moved(decision), decision.by, decision.reason


def moved(decision: Decision) -> str:
    """Say in a few words what was decided."""
    champion, to = _version(decision.champion), _version(decision.to)
    if decision.champion != decision.to:
        return f"{decision.kind}: {champion} → {to}"
    subject = "" if decision.subject in {None, decision.to} else f", not {decision.subject}"
    return f"{decision.kind}: {to}{subject}"


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"


def show(model_name: str, decisions: Sequence[Decision], faults: Sequence[str]) -> None:
    """Print the ledger, the first decision first."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if not decisions:
        console.print(f"{model_name}: no decision was ever taken")
    for decision in decisions:
        number, when, what, by, why = cells(decision)
        console.print(f"{number:>4}  {when}  {what}", style="bold")
        for line in (f"by {by}", *why.splitlines()):
            console.print(Padding(line, (0, 0, 0, 6)), soft_wrap=False)
    if decisions:
        last = decisions[-1]
        console.print(f"{model_name}: {_version(last.to)} is the champion (times in UTC)")
    for fault in faults:
        console.print(f"the ledger is not whole: {fault}", style="bold red")


def publish(registry: Registry, decision: Decision | None) -> None:
    """Keep a decision, and the ledger that it stands in, with the flow run."""
    if decision is not None:
        create_markdown_artifact(
            markdown(registry.model_name, decision), key="decision", description="Who is champion"
        )
    rows = [dict(zip(COLUMNS, cells(each), strict=True)) for each in registry.decisions()]
    if rows:
        create_table_artifact(rows, key="ledger", description="Every decision, the first one first")


def markdown(model_name: str, decision: Decision) -> str:
    """Tell one decision with its evidence."""
    evidence = decision.evidence
    lines = [
        f"# {model_name}: {decision.kind}",
        decision.reason,
        f"Champion: **{_version(decision.to)}**, before: {_version(decision.champion)}.",
        f"By {decision.by}, {decision.at}.",
    ]
    if {"champion", "challenger"} <= evidence.keys():
        both = [evidence[role] for role in ("challenger", "champion")]
        names = [name for name in both[0] if name not in {"low", "high"}]
        rows = [(name, *(_digits(each[name]) for each in both)) for name in names]
        lines.append(markdown_table(("same test rows", "challenger", "champion"), rows))
    if slices := evidence.get("slices"):
        named = [
            (each["slice"], str(each["rows"]), *(_digits(each[end]) for end in GAIN))
            for each in slices
        ]
        lines.append(markdown_table(("slice", "rows", "gain", "from", "to"), named))
    return "\n\n".join(lines)


GAIN = ("value", "low", "high")
"""What is told of a gain: itself, and its 95 % interval."""


def _digits(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def of(registry: Registry) -> tuple[list[Decision], list[str]]:
    """Read the ledger, and what is wrong with it."""
    tags = registry.tags
    found, champion = ledger.read(tags), registry.alias(CHAMPION)
    faults = ledger.gaps(tags, registry.copies())
    if found and champion != found[-1].to:
        faults.append(
            f"the alias {CHAMPION} is on {_version(champion)}: it was moved past the ledger, or a "
            "decision was cut off; the next decision records it"
        )
    return found, faults
