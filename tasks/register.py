"""Record everything the other stages left in one MLflow run, and release the model if it passed.

The same content is recorded once: a second call finds the run by its lineage key. What a killed
call left half done is marked FAILED by the next one, and recorded anew. Only what follows from the
content is written to the output; run ids, versions and latencies live in MLflow.

    python -m tasks.register data/{ingest,validate,featurize,train,evaluate,register}
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from tasks import (
    command,
    environment,
    files,
    inventory,
    lineage,
    open_lineage,
    packing,
    papers,
    record,
    store,
    tracking,
)
from tasks.errors import GateError, StageError
from tasks.open_run import OpenRun
from tasks.params import Section
from tasks.record import Facts, Folders, Metric

SETTINGS = (Path("params.yaml"), Path("dvc.yaml"), Path("dvc.lock"))
NEXT = (
    "next: `mlflow ui` shows what was reached; improve the features or the model in params.yaml "
    "and run `dvc repro`, or mend the bounds in its section `evaluate`"
)
PERCENTILES = (50, 95, 99)
EXAMPLE_ROWS = 3
SAME = 1e-6
"""How far a served probability may be from the evaluated one: float32 sums of other batch sizes."""


def usable(alias: str) -> str:
    """Give the alias back if MLflow takes it; raise ValueError if not."""
    if not re.fullmatch(r"(?!latest$|v\d+$)[A-Za-z0-9_-]+", alias):
        raise ValueError("must be letters, digits, _ and -, but neither `latest` nor like `v1`")
    return alias


Intent = Literal["baseline", "hyperparameter-search", "ablation", "production-candidate"]
Alias = Annotated[str, AfterValidator(usable)]


class Register(Section):
    """Where the result is recorded, and under which names."""

    experiment: str = Field(min_length=1, description="MLflow experiment: the problem solved")
    model_name: str = Field(
        pattern=r"^[^/:.%\"']+$",
        description="registered model that a passing result is a version of",
    )
    stage: Alias = Field(description="alias that is pointed to the version")
    intent: Intent = Field(description="why this run was made; the first word of its name")
    batch_rows: int = Field(gt=0, description="test rows in the batch whose latency is measured")
    latency_calls: int = Field(ge=1, description="timed calls, for one row and for the batch each")
    require_proof: bool = Field(
        default=False,
        description="whether only a version that `prove` has reproduced may become champion",
    )


def circumstances(facts: Facts, register: Register) -> dict[str, str]:
    """Give the tags that a run has besides: who, why, with what result, on what machine."""
    needed = packing.requirements(facts.learner["model"])
    return {
        store.GATE: "passed" if facts.gate["passed"] else "failed",
        "intent": register.intent,
        "model": facts.learner["model"],
        "author": facts.commit.author,
        **{f"environment.{name}": value for name, value in environment.describe().items()},
        **dict(f"library.{requirement}".split("==") for requirement in needed),
    }


def failed_checks(gate: dict[str, Any], run: str) -> str:
    """Name each check that failed, with its numbers, and what to do."""
    failed = [
        f"gate: {check['name']}: {check['why']} (bound {check['bound']:g}, "
        f"got {'undefined' if check['observed'] is None else check['observed']})"
        for check in gate["checks"]
        if not check["passed"]
    ]
    return "\n".join(
        [
            *failed,
            f"no version was registered; all is recorded as MLflow run {run}",
            NEXT,
        ]
    )


def version(facts: Facts, register: Register) -> dict[str, Any]:
    """Give the content of `version.json`: what the registered version is, not when or where."""
    return {
        "model_name": register.model_name,
        "alias": register.stage,
        "lineage_key": facts.key,
        "gate_passed": facts.gate["passed"],
        "outputs": facts.lineage.outputs,
    }


def latency(predict: Callable[[Any], Any], rows: pl.DataFrame, register: Register) -> list[Metric]:
    """Time the model on one row and on a batch: percentiles in milliseconds."""
    found: list[Metric] = []
    for size, frame in (("one_row", rows.head(1)), ("batch", rows)):
        seconds = timed(predict, frame.to_pandas(), register.latency_calls)
        for percent in PERCENTILES:
            value = float(np.percentile(seconds, percent)) * 1000
            found.append((f"latency_ms/{size}_p{percent}", value, 0))
    return [*found, ("latency_ms/batch_rows", float(len(rows)), 0)]


def timed(call: Callable[[Any], Any], argument: Any, repeats: int) -> list[float]:
    """Time repeated calls in seconds, after one that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call(argument)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def check_served(served: Any, evaluated: pl.Series) -> None:
    """See that the logged model gives the probabilities that were evaluated.

    Raises StageError if it does not, so that no run ends well whose model is another.
    """
    furthest = float(np.abs(np.asarray(served) - evaluated.to_numpy()).max())
    if furthest > SAME:
        raise StageError(
            f"the logged model must score as `evaluate` did, within {SAME:g} (got {furthest:g})\n"
            "next: dvc repro --force train"
        )


def write(name: str, facts: Facts, folders: Folders, register: Register) -> str:
    """Record one run; give its id."""
    tags = {
        **record.origin(facts),
        **circumstances(facts, register),
        **inventory.tags(facts.contents),
    }
    names = {"name": name, "model_name": register.model_name}
    told = papers.events(facts, experiment=register.experiment, **names)
    with tracking.recording(
        name, experiment=register.experiment, key=facts.key, tags=tags
    ) as open_run:
        open_run.values(record.parameters(facts), record.metrics(facts))
        write_dataset(open_run, facts, folders)
        write_files(open_run, folders)
        open_run.json("environment.json", environment.describe() | environment.installed())
        open_run.text("model_card.md", papers.card(facts, **names))
        open_run.text("lineage.mmd", papers.picture(facts, **names))
        open_run.text("openlineage.ndjson", open_lineage.lines(told))
        open_run.text(inventory.ARTIFACT, inventory.text(facts.contents))
        write_model(open_run, facts, folders, register)
    if (fault := open_lineage.send(told)) is not None:
        print(f"the OpenLineage collector was not told: {fault}", file=sys.stderr)
    return open_run.run_id


def write_dataset(open_run: OpenRun, facts: Facts, folders: Folders) -> None:
    """Record the snapshot as the run's input."""
    open_run.dataset(
        files.read_parquet(folders.ingest / "snapshot.parquet"),
        name=f"{facts.manifest['source']}@{facts.manifest['dataset_version']}",
        source=facts.manifest["source"],
        digest=facts.snapshot_md5,
    )


def write_files(open_run: OpenRun, folders: Folders) -> None:
    """Record reports, curves, weights, encoder and the settings that led to them."""
    open_run.files(
        {
            folders.ingest / "manifest.json": "ingest",
            folders.validate: "validate",
            folders.featurize / "encoder.json": "featurize",
            folders.featurize / "examples.json": "featurize",
            folders.train: "train",
            folders.evaluate: "evaluate",
            **dict.fromkeys(SETTINGS, ""),
        }
    )


def write_model(open_run: OpenRun, facts: Facts, folders: Folders, register: Register) -> None:
    """Log the model of raw columns, check it against `evaluate`, and time it."""
    test = files.read_parquet(folders.featurize / "test.parquet").select(facts.features)
    evaluated = files.read_parquet(folders.evaluate / "predictions.parquet")["score"]
    batch = test.head(register.batch_rows)
    learner, encoder = facts.learner["model"], folders.featurize / "encoder.json"
    predict = open_run.model(learner, folders.train, encoder, example=test.head(EXAMPLE_ROWS))
    check_served(predict(batch.to_pandas()), evaluated.head(len(batch)))
    open_run.values({}, latency(predict, batch, register))


def run(  # noqa: PLR0917 - the folders of the stages, in their order
    ingest_folder: Path,
    validate_folder: Path,
    featurize_folder: Path,
    train_folder: Path,
    evaluate_folder: Path,
    register_folder: Path,
    *,
    register: Register,
) -> None:
    """Record the run, make the version if the gate passed, and write `version.json`."""
    folders = Folders(
        ingest_folder, validate_folder, featurize_folder, train_folder, evaluate_folder
    )
    facts = record.read(folders)
    name = lineage.run_name(register.intent, facts.learner["model"], facts.lineage)
    with tracking.alone(), store.reachable():
        run_id = found_or_written(name, facts, folders, register)
        if not facts.gate["passed"]:
            raise GateError(failed_checks(facts.gate, name))
        number = release(run_id, name, facts, register)
    files.write_json(register_folder / "version.json", version(facts, register))
    print(
        f"{register.model_name} version {number} ({register.stage}) of MLflow run {name} {run_id}"
    )


def found_or_written(name: str, facts: Facts, folders: Folders, register: Register) -> str:
    """Give the id of the run that holds this content; record it if there is none."""
    found = tracking.find(
        facts.key,
        experiment=register.experiment,
        model_name=register.model_name,
        alias=register.stage,
    )
    if found is None:
        return write(name, facts, folders, register)
    tracking.rename(found.run_id, name, {"intent": register.intent})
    return found.run_id


def release(run_id: str, name: str, facts: Facts, register: Register) -> int:
    """Point the alias to the version of this run, made if it is missing; give its number."""
    names = {"name": name, "model_name": register.model_name}
    return tracking.release(
        run_id,
        model_name=register.model_name,
        alias=register.stage,
        tags=record.origin(facts),
        describe=lambda title: papers.description(facts, title=title, **names),
    )


if __name__ == "__main__":
    command.main(run)
