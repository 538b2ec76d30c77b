"""Tell people what a run did: Prefect artifacts to open, and a table in the terminal."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from rich.console import Console
from rich.table import Table

from flows.graph import FAILED, Outcome
from tasks import files
from tasks.store import Record, uri

EVALUATED = Path("data/evaluate")
VALIDATED = Path("data/validate")
SHOWN = (
    "roc_auc",
    "pr_auc",
    "pr_auc_negative",
    "log_loss",
    "brier",
    "calibration_error",
    "accuracy",
    "f1",
)
CURVES = ("roc", "pr", "calibration", "confusion", "importance", "history")
"""The figures published as images, by the name of their file."""


@dataclass(frozen=True)
class Row:
    """What happened to one stage; `outcome` is None if it failed."""

    stage: str
    outcome: Outcome | None
    seconds: float
    output_hash: str

    @property
    def word(self) -> str:
        """What the terminal says of it."""
        if self.outcome is None:
            return "failed"
        return "ran" if self.outcome is Outcome.RAN else "cached"


def summary(rows: list[Row]) -> str:
    """Say in one line what a run did."""
    words = [row.word for row in rows]
    kinds = [word for word in ("ran", "cached", "failed") if word in words]
    counts = [f"{words.count(word)} {word}" for word in kinds]
    return ", ".join(counts) or "nothing ran"


def publish(rows: list[Row], record: Record | None, *, name: str) -> None:
    """Make the artifacts of a flow run from what its stages left; only what is there is shown."""
    reached = {row.stage for row in rows if row.outcome is not None}
    checked = FAILED / "validate" if rows and rows[-1].word == "failed" else VALIDATED
    if (report := checked / "report.json").exists():
        create_table_artifact(
            key="validation", table=validation(files.read_json(report)), description="Expectations"
        )
    if "evaluate" not in reached:
        return
    create_markdown_artifact(key="report", markdown=markdown(record, name=name))
    if any(row.stage == "evaluate" and row.outcome is Outcome.RAN for row in rows):
        for curve in CURVES:
            picture = EVALUATED / "figures" / f"{curve}.png"
            create_image_artifact(key=curve, image_url=_inline(picture))


def _inline(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")


def validation(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Give one row for each expectation, as the validation report lists them."""
    from tasks.validate import rows

    return rows(report)


def markdown(record: Record | None, *, name: str) -> str:
    """Write the report of one result: metrics with intervals, gate, where it is recorded."""
    metrics = files.read_json(EVALUATED / "metrics.json")
    gate = files.read_json(EVALUATED / "gate.json")
    verdict = "passed" if gate["passed"] else "**failed**"
    lines = [
        f"# {name}",
        "",
        f"The gate {verdict}.",
        "",
        "| metric | train | val | test | 95 % interval on test |",
        "|---|---|---|---|---|",
        *_metric_lines(metrics),
        "",
        "| check | bound | observed | passed |",
        "|---|---|---|---|",
        *(
            f"| {check['name']} | {check['bound']} | {check['observed']} | "
            f"{'yes' if check['passed'] else 'no'} |"
            for check in gate["checks"]
        ),
        "",
        *_where(record),
    ]
    return "\n".join(lines)


def _metric_lines(metrics: dict[str, Any]) -> Iterator[str]:
    for name in SHOWN:
        interval = metrics["test_interval"].get(name)
        bounds = f"{interval['low']:.4f} to {interval['high']:.4f}" if interval else ""
        values = " | ".join(f"{metrics[part][name]:.4f}" for part in ("train", "val", "test"))
        yield f"| {name} | {values} | {bounds} |"


def _where(record: Record | None) -> list[str]:
    if record is None:
        return ["Not recorded in MLflow."]
    version = f"version {record.version}" if record.version else "no version (the gate failed)"
    return [f"MLflow run `{record.run_id}` in `{uri()}`; {version}."]


def show(rows: list[Row], record: Record | None, *, model_name: str, name: str) -> None:
    """Print what happened to each stage, the metrics, the record, and what to type next."""
    console = Console(soft_wrap=True)
    console.print(_stages(rows, name))
    if record is None:
        return
    console.print(_scores(files.read_json(EVALUATED / "metrics.json")))
    console.print(f"MLflow run     {record.run_id}")
    console.print(f"model version  {model_name}/{record.version or 'none: the gate failed'}")
    console.print("next           mlflow ui --backend-store-uri " + uri())
    console.print("               dvc metrics diff; dvc plots show; git commit -a")


def _stages(rows: list[Row], name: str) -> Table:
    table = Table("stage", "what happened", "seconds", "output", title=name, title_justify="left")
    for row in rows:
        table.add_row(row.stage, row.word, f"{row.seconds:.2f}", row.output_hash)
    return table


def _scores(metrics: dict[str, Any]) -> Table:
    table = Table("metric", "train", "val", "test", "95 % interval")
    for line in _metric_lines(metrics):
        table.add_row(*(cell.strip() for cell in line.strip("|").split("|")))
    return table
