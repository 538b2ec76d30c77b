"""A recorded result as OpenLineage events, so that tools which read that standard know it too.

Each stage is a job of the pipeline's namespace, and each output and source of data a dataset whose
version is its hash; paths are those of `dvc.lock`, so that all clones speak of the same dataset.
The run ids follow from the lineage key: the same result told twice is the same run.

Events go to a collector too, if one is configured as OpenLineage has it: `OPENLINEAGE_URL`, or
`openlineage.yml` here or in `~/.openlineage`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from tasks.lineage import LAST, Commit, Lineage, is_data
from tasks.params import NAMED

PRODUCER = "urn:verbatim"
PIPELINE = "training"
"""Job of the whole pipeline; a stage is the job `training.<stage>`."""

CONFIGS = (Path("openlineage.yml"), Path("~/.openlineage/openlineage.yml"))
FILE, REGISTRY = "file", "mlflow"
"""Namespaces of datasets: paths of the repository, and registered models."""


@dataclass(frozen=True)
class Told:
    """What the events tell of a result.

    namespace   of the jobs: the problem that is solved
    model_name  of the registered model
    manifest    of the snapshot
    columns     path -> column -> type, where they are known
    spans       stage -> when it began and ended, where it is known
    now         when the result is recorded
    engine      version of Python
    url         of the repository; empty if it has none
    """

    namespace: str
    model_name: str
    run_name: str
    lineage: Lineage
    commit: Commit
    manifest: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, str]]
    spans: Mapping[str, tuple[datetime, datetime]]
    now: datetime
    engine: str
    url: str

    def run_id(self, job: str) -> str:
        """Give the id of a job's run: the same for the same result."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.namespace} {self.lineage.key} {job}"))


def place(path: str) -> tuple[str, str]:
    """Give namespace and name of a dataset, as OpenLineage names files and objects."""
    scheme, separator, rest = path.partition("://")
    if not separator:
        return FILE, path
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key or "/"


def columns(lineage: Lineage, root: Path) -> dict[str, dict[str, str]]:
    """Read the columns of each output that holds Parquet files: those of the first by name."""
    found = {}
    for path in lineage.outputs:
        at = root / path
        tables = sorted(at.rglob("*.parquet")) if at.is_dir() else []
        if tables:
            schema = pl.read_parquet_schema(tables[0])
            found[path] = {name: str(kind) for name, kind in schema.items()}
    return found


def spans(ended: Mapping[str, float], costs: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Give when stages began and ended.

    ended  stage -> when, in seconds; of its wall seconds `costs` tells
    """
    found = {}
    for stage, seconds in ended.items():
        end = datetime.fromtimestamp(seconds, UTC)
        wall = costs.get(stage, {}).get("wall_seconds")
        if wall is not None:
            found[stage] = (end - timedelta(seconds=wall), end)
    return found


def origin() -> str:
    """Give the address that the repository was cloned from, without credentials; empty if none."""
    command = ["git", "remote", "get-url", "origin"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return NAMED.sub("://", asked.stdout.strip())


def events(told: Told) -> list[Any]:
    """Give START and COMPLETE of the pipeline and of every stage, in the order of the stages."""
    from openlineage.client import set_producer

    set_producer(PRODUCER)
    first = min((begin for begin, _ in told.spans.values()), default=told.now)
    found = [_event(told, PIPELINE, "START", first)]
    for stage in (*told.lineage.causes, LAST):
        begin, end = told.spans.get(stage, (told.now, told.now))
        reads, makes = _datasets(told, stage)
        job = f"{PIPELINE}.{stage}"
        found += [
            _event(told, job, "START", begin, reads=reads),
            _event(told, job, "COMPLETE", end, reads=reads, makes=makes),
        ]
    return [*found, _event(told, PIPELINE, "COMPLETE", told.now)]


def _datasets(told: Told, stage: str) -> tuple[list[Any], list[Any]]:
    """Give what a stage reads of data, and what it makes."""
    from openlineage.client import event_v2

    lineage = told.lineage
    if stage == LAST:
        source = told.manifest["source"]
        reads = {path: md5 for path, md5 in lineage.outputs.items() if path != source}
        model = event_v2.OutputDataset(REGISTRY, told.model_name, facets=_version(lineage.key))
        return [_dataset(told, path, md5, event_v2.InputDataset) for path, md5 in reads.items()], [
            model
        ]
    sources = {path: md5 for path, md5 in lineage.causes[stage]["deps"].items() if is_data(path)}
    reads = {**sources, **{path: lineage.outputs[path] for path in lineage.reads.get(stage, [])}}
    makes = {path: lineage.outputs[path] for path in lineage.makes.get(stage, [])}
    return (
        [_dataset(told, path, md5, event_v2.InputDataset) for path, md5 in reads.items()],
        [_dataset(told, path, md5, event_v2.OutputDataset) for path, md5 in makes.items()],
    )


def _dataset(told: Told, path: str, md5: str, kind: Any) -> Any:
    from openlineage.client.facet_v2 import schema_dataset as schema

    facets = _version(md5)
    is_lake = path == told.manifest["source"]
    its = told.manifest.get("columns", {}) if is_lake else told.columns.get(path, {})
    if its:
        fields = [schema.SchemaDatasetFacetFields(name, kind) for name, kind in its.items()]
        facets["schema"] = schema.SchemaDatasetFacet(fields)
    return kind(*place(path), facets=facets)


def _version(text: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset as version

    return {"version": version.DatasetVersionDatasetFacet(text)}


def _event(
    told: Told,
    job: str,
    state: str,
    at: datetime,
    *,
    reads: Sequence[Any] = (),
    makes: Sequence[Any] = (),
) -> Any:
    from openlineage.client import event_v2

    run = event_v2.Run(told.run_id(job), _run_facets(told, job))
    its = event_v2.Job(told.namespace, job, _job_facets(told, job))
    return event_v2.RunEvent(
        eventType=event_v2.RunState(state),
        eventTime=at.isoformat(timespec="milliseconds"),
        run=run,
        job=its,
        inputs=list(reads),
        outputs=list(makes),
        producer=PRODUCER,
    )


def _run_facets(told: Told, job: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import parent_run, processing_engine_run

    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(told.engine, "Python")
    }
    if job != PIPELINE:
        parent = parent_run.Run(told.run_id(PIPELINE)), parent_run.Job(told.namespace, PIPELINE)
        facets["parent"] = parent_run.ParentRunFacet(*parent)
    return facets


def _job_facets(told: Told, job: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import (
        documentation_job,
        job_type_job,
        source_code_location_job,
    )

    kind = "DAG" if job == PIPELINE else "TASK"
    facets: dict[str, Any] = {
        "jobType": job_type_job.JobTypeJobFacet("BATCH", "VERBATIM", kind),
        "documentation": documentation_job.DocumentationJobFacet(_documentation(told, job)),
    }
    if sha := told.commit.sha:
        facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
            "git", told.url or f"urn:git:{sha}", repoUrl=told.url or None, version=sha
        )
    return facets


def _documentation(told: Told, job: str) -> str:
    stage = job.removeprefix(f"{PIPELINE}.")
    cause = told.lineage.causes.get(stage)
    return cause["cmd"] if cause else f"MLflow run {told.run_name}"


def lines(found: Sequence[Any]) -> str:
    """Write events as JSON, one a line."""
    from openlineage.client.serde import Serde

    return "".join(f"{Serde.to_json(event)}\n" for event in found)


def is_wanted() -> bool:
    """Tell whether a collector is configured, and not switched off."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    named = any(os.environ.get(name) for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG"))
    by_name = any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ)
    return named or by_name or any(path.expanduser().is_file() for path in CONFIGS)


def send(found: Sequence[Any]) -> str | None:
    """Send events to the collector that is configured, if one is; give what went wrong.

    The first that fails is the last that is tried: a collector that is down costs seconds, not
    minutes, and never the record.
    """
    if not is_wanted():
        return None
    from openlineage.client import OpenLineageClient

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each retry
    sent = 0
    try:
        client = OpenLineageClient()
        for event in found:
            client.emit(event)
            sent += 1
        client.close()
    except Exception as error:  # noqa: BLE001 - whatever a transport raises, the record stands
        reason = NAMED.sub("://", str(error).strip().splitlines()[0] if str(error) else "")
        return f"{type(error).__name__}: {reason} after {sent} of {len(found)} events"
    return None
