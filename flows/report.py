"""Tell people what a run did: Prefect artifacts to open, and a table in the terminal."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from rich.console import Console
from rich.table import Table

from flows.graph import FAILED, Done, Outcome
from tasks import files
from tasks.store import Record, look, shown

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
PARTS = ("train", "val", "test")
PICTURES = {
    "calibration": "Mean score against observed rate",
    "confusion": "Predicted against actual class of the test rows",
    "history": "Loss by step of the training",
    "importance": "Mean |contribution| of each feature, in log-odds",
    "pr": "Precision and recall",
    "roc": "ROC curve",
    "scores": "Scores of each class",
}
"""What the figures of `evaluate` show, by name."""

WORDS = {
    Outcome.RAN: "ran",
    Outcome.SENT: Outcome.SENT.value,
    Outcome.FETCHED: "fetched",
    Outcome.RESTORED: "cached",
    Outcome.UNCHANGED: "cached",
}
"""What the terminal says of a stage, in the order in which they are counted."""


@dataclass(frozen=True)
class Row:
    """What happened to one stage; `done` is None if it failed."""

    stage: str
    done: Done | None
    seconds: float

    @property
    def word(self) -> str:
        """What the terminal says of it."""
        return "failed" if self.done is None else WORDS[self.done.outcome]


def summary(rows: list[Row]) -> str:
    """Say in one line what a run did."""
    words = [row.word for row in rows]
    kinds = [word for word in dict.fromkeys((*WORDS.values(), "failed")) if word in words]
    counts = [f"{words.count(word)} {word}" for word in kinds]
    return ", ".join(counts) or "nothing ran"


@dataclass(frozen=True)
class Result:
    """What a run came to: its name, its stages, and where it is recorded, if it is."""

    name: str
    model_name: str
    rows: list[Row]
    record: Record | None

    @property
    def evaluated(self) -> bool:
        """Whether there are metrics of this result."""
        return any(row.stage == "evaluate" and row.done for row in self.rows)

    @property
    def version(self) -> str:
        """The model version, or why there is none."""
        if self.record is None:
            return "none: not recorded"
        if self.record.version is None:
            return "none: " + ("not registered" if self.record.passed else "the gate failed")
        return f"{self.model_name}/{self.record.version}"


def publish(result: Result) -> None:
    """Make the artifacts of a flow run from what its stages left; only what is there is shown."""
    from tasks import validate

    kept = FAILED / "validate" / "report.json"
    report = kept if kept.exists() else VALIDATED / "report.json"
    if report.exists() and any(row.stage == "validate" for row in result.rows):
        table = validate.rows(files.read_json(report))
        create_table_artifact(table, key="validation", description="Expectations")
    if not result.evaluated:
        return
    create_markdown_artifact(markdown(result), key="report", description="Metrics and gate")
    if (address := _address(result.record)) is not None:
        create_link_artifact(address, key="mlflow", description="The MLflow run of this content")
    if any(row.stage == "evaluate" and row.word == "ran" for row in result.rows):
        for picture in sorted((EVALUATED / "figures").glob("*.png")):
            create_image_artifact(
                inline(picture), key=picture.stem, description=PICTURES.get(picture.stem)
            )


def inline(picture: Path) -> str:
    """Give a picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")


def markdown(result: Result) -> str:
    """Write the report of one result: metrics with intervals, baselines, gate, record."""
    gate = files.read_json(EVALUATED / "gate.json")
    lines = [
        f"# {result.name}",
        f"Model version: **{result.version}**. MLflow run: {_link(result.record)}.",
        "The gate passed." if gate["passed"] else "**The gate failed.**",
        markdown_table(("check", "bound", "observed", "passed", "why"), _checks(gate)),
        "## Metrics",
        markdown_table(("metric", *PARTS, "95 % interval on test"), _metrics()),
        "## Baselines on test",
        markdown_table(("baseline", "ROC AUC", "gain over it", "95 % interval"), _baselines()),
    ]
    return "\n\n".join(lines)


def _link(record: Record | None) -> str:
    if record is None:
        return "none"
    address = _address(record)
    if address is None:
        return f"`{record.run_id}`, which `{look()}` shows"
    return f"[{record.run_id}]({address})"


def _address(record: Record | None) -> str | None:
    """Give where a run is shown by a server of MLflow's."""
    if record is None or not shown().startswith("http"):
        return None
    return f"{shown()}/#/experiments/{record.experiment_id}/runs/{record.run_id}"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def _checks(gate: dict[str, Any]) -> Iterator[Sequence[str]]:
    for check in gate["checks"]:
        numbers = (_digits(check["bound"]), _digits(check["observed"]))
        yield check["name"], *numbers, "yes" if check["passed"] else "**no**", check["why"]


def _metrics() -> Iterator[Sequence[str]]:
    metrics = files.read_json(EVALUATED / "metrics.json")
    for name in SHOWN:
        values = [_digits(metrics[part][name]) for part in PARTS]
        yield name, *values, _interval(metrics["test_interval"].get(name))


def _baselines() -> Iterator[Sequence[str]]:
    for name, baseline in files.read_json(EVALUATED / "baselines.json").items():
        gain = baseline["gain"]
        auc = _digits(baseline["test"]["roc_auc"])
        words = f"{name} ({baseline['model']})"
        yield words, auc, _digits(gain["value"]), _interval(gain)


def _interval(bounds: dict[str, Any] | None) -> str:
    if bounds is None or bounds["low"] is None:
        return ""
    return f"{_digits(bounds['low'])} to {_digits(bounds['high'])}"


def _digits(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def show(result: Result) -> None:
    """Print what happened to each stage, the metrics, the record, and what to type next."""
    console = Console(soft_wrap=True)
    stages = Table("stage", "what happened", "seconds", "output", title=result.name)
    for row in result.rows:
        stages.add_row(
            row.stage, row.word, f"{row.seconds:.2f}", row.done.output if row.done else ""
        )
    console.print(stages)
    if not result.evaluated:
        return
    metrics = Table("metric", *PARTS, "95 % interval on test")
    for cells in _metrics():
        metrics.add_row(*cells)
    console.print(metrics)
    console.print("MLflow run     " + (result.record.run_id if result.record else "none"))
    console.print("model version  " + result.version)
    console.print("next           " + look())
    console.print("               dvc metrics diff; dvc plots show; git commit -a")
