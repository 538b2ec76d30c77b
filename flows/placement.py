"""What a run asks of the machine it runs on, and how a work pool is asked for it.

A work pool's base job template (`pools/*.json`) says which job variables the pool knows. What a
person may ask for is the same for all pools; some pools want it said in more than one variable,
because Prefect's templates hold no conditions. What a pool does not know is refused, not dropped:
a run that asks for a spot machine must not land on another one in silence.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from tasks.errors import ParamsError
from tasks.params import Section

GRACE_SECONDS = 25
"""From the end of a process's time to its kill; a stage takes up to 20 of them to keep its state,
and Prefect's own patience is 30."""
WAIT_SECONDS = 3600
"""What a Kubernetes job may spend beside its time limit: on the wait for a node, and the image."""

Memory = Annotated[str, Field(pattern="^[1-9][0-9]*(Mi|Gi|Ti)$")]
Label = Annotated[str, Field(pattern="^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]


class Placement(Section):
    """The machine that a run asks for; what is not set, its work pool decides."""

    gpu_type: Label | None = Field(
        default=None,
        description="type of GPU, as the nodes of the cluster are labelled: nvidia-h100-80gb",
    )
    gpus: int | None = Field(default=None, ge=1, le=16, description="number of GPUs")
    memory: Memory | None = Field(
        default=None, description="memory of the machine's processors, with its unit: 16Gi"
    )
    spot: bool = Field(
        default=False,
        description="on a spot machine: cheaper, and may be taken away at any time; a training "
        "goes on from its last checkpoint",
    )
    time_limit_minutes: int | None = Field(
        default=None, ge=1, le=10_080, description="end the run after so many minutes"
    )


VARIABLES = {name: name for name in Placement.model_fields} | {
    "time_limit_minutes": "time_limit_seconds"
}
"""The job variable that each field becomes."""


def pool(name: str) -> WorkPool:
    """Read a work pool from the Prefect server; raises ParamsError if there is none."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_work_pool(name)
        except ObjectNotFound:
            raise ParamsError(
                f"work pool: must exist on the Prefect server (got {name})\nnext: `prefect "
                f"work-pool create {name} --type process --base-job-template pools/process.json`"
            ) from None


def job_variables(placement: Placement, pool: WorkPool, path: str = "placement") -> dict[str, Any]:
    """Say a placement in the job variables of a pool; what is not set is not in them.

    path  of the placement among the parameters, for messages

    Raises ParamsError, with a line for each, for what the pool does not know or does not take.
    """
    asked = {field: value for field, value in placement if value is not None and value is not False}
    schema = pool.base_job_template.get("variables", {})
    known = schema.get("properties", {})
    variables = _SAID.get(pool.type, dict)(_named(asked))
    wrong = {
        field: f"the work pool {pool.name} ({pool.type}) must know it"
        for field in asked
        if VARIABLES[field] not in known
    } or _refused(variables, schema)
    if wrong:
        lines = [f"{path}.{field}: {must} (got {asked[field]!r})" for field, must in wrong.items()]
        lines.append(f"next: leave it empty, or `prefect work-pool inspect {pool.name}`")
        raise ParamsError("\n".join(lines))
    return {name: value for name, value in variables.items() if name in known}


def _refused(variables: dict[str, Any], schema: dict[str, Any]) -> dict[str, str]:
    """Hold variables against a pool's schema: the fields that it does not take, and why."""
    from prefect.utilities.schema_tools import validate  # a fifth of a second, before every run

    fields = {variable: field for field, variable in VARIABLES.items()}
    errors = validate(variables, schema, ignore_required=True)
    return {
        fields[str(error.path[0])]: error.message
        for error in errors
        if error.path and error.path[0] in fields
    }


def _named(asked: dict[str, Any]) -> dict[str, Any]:
    named = {VARIABLES[field]: value for field, value in asked.items()}
    if "time_limit_seconds" in named:
        named["time_limit_seconds"] *= 60
    return named


def _process(variables: dict[str, Any]) -> dict[str, Any]:
    """Set the limit around the very process that runs the flow, so that it can end in order."""
    if (seconds := variables.get("time_limit_seconds")) is None:
        return variables
    limit = f"timeout --verbose --kill-after={GRACE_SECONDS} {seconds}"
    return {**variables, "command": f"{limit} python -m prefect.engine"}


def _docker(variables: dict[str, Any]) -> dict[str, Any]:
    """Docker says 16g for 16 GiB, and asks for GPUs by a list of requests."""
    said = dict(variables)
    if "memory" in said:
        said["memory"] = said["memory"].removesuffix("i").lower()
    if "gpus" in said:
        request = {"Driver": "nvidia", "Count": said["gpus"], "Capabilities": [["gpu"]]}
        said["device_requests"] = [request]
    return said


def _kubernetes(variables: dict[str, Any]) -> dict[str, Any]:
    """Say how the labels of nodes are compared: a template cannot conclude it."""
    said = dict(variables)
    if "gpus" in said or "gpu_type" in said:
        said["gpu_type_operator"] = "In" if "gpu_type" in said else "Exists"
    if "spot" in said:
        said["spot_operator"] = "In"
    if "time_limit_seconds" in said:
        said["deadline_seconds"] = said["time_limit_seconds"] + WAIT_SECONDS
    return said


_SAID = {"process": _process, "docker": _docker, "kubernetes": _kubernetes}
"""By type of pool, what says a placement in the variables of `pools/*.json`."""
