"""Tell people what the monitor saw: artifacts to open, a report in a folder, the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from rich.console import Console
from rich.table import Table

from flows.report import inline, markdown_table
from tasks import files
from tasks.monitoring import Finding, is_ignored
from tasks.observation import Observation

PICTURES = {
    "drift": "Drift of each feature since training and evaluation",
    "scores": "Scores of the champion's test part, and of today",
    "volume": "Events of each month",
    "live": "ROC AUC by outcomes known since, beside what was promised",
}
"""What the pictures show, by name."""

HEAD = ("finding", "bound", "observed", "crossed", "why")


@dataclass(frozen=True)
class Result:
    """What a run saw and found.

    version   of the champion
    patterns  features that are not judged
    changed   a sentence if the lake's past is not as it was
    folder    where report and pictures are kept
    """

    name: str
    model_name: str
    version: int
    seen: Observation
    findings: Sequence[Finding]
    patterns: Sequence[str]
    changed: str | None
    folder: Path

    @property
    def crossed(self) -> list[Finding]:
        """The findings that are over their bound."""
        return [each for each in self.findings if each.crossed]

    @property
    def summary(self) -> str:
        """Say in a line what was found."""
        if not self.crossed:
            return f"{len(self.findings)} findings, none over its bound"
        names = ", ".join(each.name for each in self.crossed)
        return f"{len(self.crossed)} of {len(self.findings)} findings over their bound ({names})"

    @property
    def pictures(self) -> list[Path]:
        """The pictures that could be drawn."""
        paths = (self.folder / f"{name}.png" for name in PICTURES)
        return [path for path in paths if path.exists()]


def keep(result: Result) -> None:
    """Write the report, and all findings as JSON, beside the pictures."""
    result.folder.mkdir(parents=True, exist_ok=True)
    images = [f"![{PICTURES[path.stem]}]({path.name})" for path in result.pictures]
    text = "\n\n".join([markdown(result), *images])
    (result.folder / "report.md").write_text(text + "\n", encoding="utf-8")
    files.write_json(result.folder / "findings.json", [asdict(each) for each in result.findings])
    live = result.seen.features.live if result.seen.features else None
    if live is not None:
        known = {name: [live.value[name], *live.interval[name]] for name in live.value}
        values = {name: list(map(_or_none, each)) for name, each in known.items()}
        files.write_json(result.folder / "live.json", {"rows": live.rows, **values})


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def publish(result: Result) -> None:
    """Make the artifacts of the flow run."""
    create_markdown_artifact(markdown(result), key="monitor-report", description=result.summary)
    table = [dict(zip(HEAD, _cells(each), strict=True)) for each in result.findings]
    create_table_artifact(table, key="monitor-findings", description="Bounds and what was seen")
    for path in result.pictures:
        create_image_artifact(
            inline(path), key=f"monitor-{path.stem}", description=PICTURES[path.stem]
        )


def markdown(result: Result) -> str:
    """Write the report: what crossed, live quality, drift of every feature, volume."""
    crossed = [f"- **{each.name}**: {each.why}" for each in result.crossed]
    others = [each for each in result.findings if _is_told(each)]
    of = f"{result.model_name} version {result.version}, as of {result.seen.as_of}"
    lines = [
        f"# {result.name}",
        f"{of}: {result.summary}.",
        *([f"**{result.changed}**"] if result.changed else []),
        *(["\n".join(crossed)] if crossed else []),
        markdown_table(HEAD, map(_cells, others)),
    ]
    if result.seen.features is not None:
        head = ("feature", "PSI since training", "PSI since evaluation", "nulls then", "nulls now")
        lines += ["## Features", markdown_table(head, _features(result))]
    return "\n\n".join(lines)


def _is_told(finding: Finding) -> bool:
    """Tell whether a finding stands above; features have a table of their own."""
    return finding.crossed or not finding.name.startswith(("drift.", "nulls."))


def _cells(finding: Finding) -> tuple[str, ...]:
    observed = "unknown" if finding.observed is None else f"{finding.observed:.4f}"
    crossed = "**yes**" if finding.crossed else "no"
    why = " ".join(finding.why.replace("|", r"\|").split())
    return finding.name, f"{finding.bound:.4g}", observed, crossed, why


def _features(result: Result) -> Iterator[tuple[str, ...]]:
    if (features := result.seen.features) is None:
        return
    for name, psi in features.drift.items():
        spared = " (not judged)" if is_ignored(name, result.patterns) else ""
        then, now = features.nulls[name]
        yield f"{name}{spared}", f"{psi.train:.4f}", f"{psi.test:.4f}", f"{then:.1%}", f"{now:.1%}"


def show(result: Result) -> None:
    """Print what crossed, or the summary; where the report is, and what to type next."""
    console = Console(soft_wrap=True)
    table = Table("finding", "bound", "observed", "crossed", title=result.name)
    for each in filter(_is_told, result.findings):
        table.add_row(*_cells(each)[:3], "YES" if each.crossed else "no")
    console.print(table)
    if result.changed:
        console.print(result.changed, highlight=False)
    for each in result.crossed:
        console.print(f"DRIFTED        {each.why}", highlight=False, markup=False)
    console.print(f"in short       {result.summary}", highlight=False)
    console.print(f"report         {result.folder / 'report.md'}", highlight=False)
    if result.crossed:
        console.print("next           python -m flows train --dataset-version latest")
