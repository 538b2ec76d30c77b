"""Make what deployed runs need, on servers that answer: bucket, work pools, deployments.

Where the servers are, the environment says. Everything is made or brought up to date, so that it
can be done again at any time.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from flows.system.environment import BUCKET
from flows.system.settings import POOLS
from tasks import files
from tasks.errors import StageError

DEPLOYMENTS = Path("prefect.yaml")

TO_BE_TOLD = "VERBATIM_NOTIFY_URL=https://… make up, see docs/being-told.md"

SECONDS_TO_MARK = 30.0
"""That the server may take to mark a silent run."""


def everything(notify_url: SecretStr | None) -> str:
    """Make all that runs need, and say in a line who is told of them.

    Raises StageError if a deployment cannot be made.
    """
    bucket(BUCKET)
    pools()
    deployments()
    automations()
    return telling(notify_url)


def bucket(name: str) -> None:
    """Make the bucket, unless it is there."""
    import s3fs

    s3fs.S3FileSystem().makedirs(name, exist_ok=True)


def databases(url: str, names: list[str]) -> None:
    """Make the databases that a PostgreSQL lacks; raises StageError if it does not let us."""
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(url, autocommit=True) as server:
            there = {row[0] for row in server.execute("SELECT datname FROM pg_database")}
            for name in sorted(set(names) - there):
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise StageError(
            f"DATABASE_URL: a PostgreSQL must answer, and let databases be made (got {reason})"
        ) from None  # the error holds the address, and its password


def pools(kinds: Mapping[str, str] = POOLS) -> None:
    """Make the work pools, or give those that are there the newest template of their type."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for name, kind in kinds.items():
            template = files.read_json(Path(f"pools/{kind}.json"))
            try:
                pool = WorkPoolCreate(name=name, type=kind, base_job_template=template)
                client.create_work_pool(pool)
            except ObjectAlreadyExists:  # with limits, perhaps, that somebody has set
                client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


def deployments() -> None:
    """Deploy all that `prefect.yaml` names; a schedule that is on stays on."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        before = {each.id for each in client.read_deployments() if _is_on(each)}
    command = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise StageError(f"{DEPLOYMENTS}: must be deployable (got {said})")
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            for schedule in deployment.schedules if deployment.id in before else []:
                client.update_deployment_schedule(deployment.id, schedule.id, active=True)


def _is_on(deployment: Any) -> bool:
    return any(schedule.active for schedule in deployment.schedules)


def automations() -> None:
    """Have the server tend to runs that die."""
    from flows import automations

    automations.apply()


def telling(notify_url: SecretStr | None) -> str:
    """Have the server tell people what became of runs; say by which blocks, or how to be told."""
    from flows import telling

    blocks = ", ".join(telling.apply(notify_url))
    return f"told      by {blocks}" if blocks else f"told      nobody: {TO_BE_TOLD}"


def reconcile_soon() -> None:
    """Have what was cut off when the system stopped be taken up, once its silence tells."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    from flows.automations import DEPLOYMENT, WINDOW_SECONDS

    when = datetime.now(UTC) + timedelta(seconds=WINDOW_SECONDS + SECONDS_TO_MARK)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        client.create_flow_run_from_deployment(deployment.id, state=Scheduled(scheduled_time=when))
