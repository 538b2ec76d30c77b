"""What tests of work pools do on a real Prefect server: make pools, deployments and runs."""

import json
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from checkouts import ROOT
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

PATIENCE_SECONDS = 180
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


def deploy(client, pool, folder=Path(), step=None, **options):
    """Deploy the flow `work` of `work.py` in a folder, or where a step takes it; give the id."""
    change = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
    return client.create_deployment(
        flow_id=client.create_flow_from_name("work"),
        name=pool.name,
        work_pool_name=pool.name,
        entrypoint="work.py:work",
        pull_steps=[step or change],
        **options,
    )


def submit(server, pool, variables=None, **parameters):
    """Have a run of `work` on a pool scheduled for now; give its id."""
    with connected(server) as client:
        deployment = client.read_deployment_by_name(f"work/{pool.name}")
        return client.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, job_variables=variables
        ).id


def state(server, run):
    """Give the state of a run."""
    with connected(server) as client:
        return client.read_flow_run(run).state


def wait_until(true, what):
    """Poll for what must come true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
