"""What tests of work pools do on a real Prefect server: make pools, deployments and runs."""

import json
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from checkouts import ROOT
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

KINDS = ("process", "docker", "kubernetes")


def template(kind):
    return json.loads((ROOT / f"pools/{kind}.json").read_text())


@contextmanager
def connected(server, settings=None):
    """A client of the running server, and Prefect's settings as a worker on it has them."""
    changed = {PREFECT_API_URL: server["PREFECT_API_URL"], **(settings or {})}
    with temporary_settings(changed), get_client(sync_client=True) as client:
        yield client


def make_pool(client, kind):
    """Make a work pool of a name of its own, from the template for its type if there is one."""
    base = template(kind) if kind in KINDS else {}
    name = f"{kind}-{uuid4().hex[:8]}"
    return client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=base))


def deploy(client, pool, folder=Path(), **options):
    """Deploy the flow `work` of `work.py` in a folder; give the deployment's id."""
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
    return client.create_deployment(
        flow_id=client.create_flow_from_name("work"),
        name=pool.name,
        work_pool_name=pool.name,
        entrypoint="work.py:work",
        pull_steps=[step],
        **options,
    )
