"""The work pools' job templates, rendered by Prefect's own workers on a real server."""

import asyncio
import json
import re
from contextlib import contextmanager

import kubernetes_validate
import pytest
from docker.types import HostConfig
from pool_server import KINDS, connected, deploy, make_pool, template
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_SERVER_DATABASE_PASSWORD,
    get_current_settings,
)
from prefect.settings.base import PrefectBaseSettings
from prefect.workers.base import BaseWorker

from flows.placement import Placement, job_variables

DROPPED = {
    "process": {"working_dir"},  # a run never works where somebody else does
    "docker": {
        "container_create_kwargs",  # written out, a variable for each of its parts
        "mem_limit",  # memory
        "memswap_limit",  # memory too: no swap
        "privileged",  # would own the machine
        "registry_credentials",  # `docker login` on the worker's machine
    },
    "kubernetes": {
        "backoff_limit",  # 0, so that Prefect schedules an evicted run again
        "cluster_config",  # would keep a kubeconfig in clear in Prefect's database
        "cpu_limit",
        "cpu_request",  # cpus
        "memory_limit",
        "memory_request",  # memory
    },
}
SAID_IN_OTHERS = {"process": {"time_limit_seconds"}, "docker": {"gpus"}, "kubernetes": {"spot"}}
"""Variables that a template holds a run to, and another variable says to the worker."""
IMAGE = {"image": "registry.example.com/verbatim:1f3c9ab"}
MARK = "not-to-be-seen"
PLACEMENTS = {
    "anywhere": Placement(),
    "on any GPU": Placement(gpus=2),
    "on a type of GPU, on spot": Placement(gpus=1, gpu_type="nvidia-h100-80gb", spot=True),
    "with everything": Placement(
        gpus=8, gpu_type="H200", memory="512Gi", spot=True, time_limit_minutes=90
    ),
}


def needs_image(kind):
    return IMAGE if kind != "process" else {}


@pytest.fixture(scope="module")
def pools(prefect):
    """A pool of each type and a deployment on it."""
    with connected(prefect) as client:
        made = {kind: make_pool(client, kind) for kind in KINDS}
        return {kind: (pool, deploy(client, pool)) for kind, pool in made.items()}


async def resolve(kind, pool, run):
    async with get_client() as client:
        return await BaseWorker.get_worker_class_from_type(
            kind
        ).job_configuration.resolve_for_flow_run(
            await client.read_flow_run(run), client=client, work_pool=pool, worker_name="tests"
        )


def rendered(prefect, pools, kind, variables, settings=None, **changes):
    """What the worker of a pool makes of a run with these job variables."""
    pool, deployment = pools[kind]
    with connected(prefect, settings) as client:
        run = client.create_flow_run_from_deployment(
            deployment, job_variables={**needs_image(kind), **variables}
        )
        return asyncio.run(resolve(kind, pool.model_copy(update=changes), run.id))


def manifest(configuration):
    """The job that goes to Kubernetes, with the name that the API server would give it."""
    job = json.loads(json.dumps(configuration.job_manifest))
    job["metadata"]["name"] = job["metadata"]["generateName"] + "x7k2p"
    return job


def requirements(job):
    spec = job["spec"]["template"]["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = terms["nodeSelectorTerms"]
    return [tuple(line.values()) for line in term["matchExpressions"]]


@contextmanager
def refused(words):
    with pytest.raises(PrefectHTTPStatusError) as caught:
        yield
    assert re.search(words, caught.value.response.text), caught.value.response.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_knows_what_its_worker_knows(kind):
    default = BaseWorker.get_worker_class_from_type(kind).get_default_base_job_template()
    ours = template(kind)
    known = set(ours["variables"]["properties"])
    assert set(default["variables"]["properties"]) - known == DROPPED[kind]
    placed = set(re.findall(r"{{ (\w+) }}", json.dumps(ours["job_configuration"])))
    assert placed <= known
    assert known - placed - {"env"} == SAID_IN_OTHERS[kind]


@pytest.mark.parametrize("asked", PLACEMENTS)
def test_a_kubernetes_job_is_what_the_api_takes(prefect, pools, asked):
    variables = job_variables(PLACEMENTS[asked], pools["kubernetes"][0])
    job = manifest(rendered(prefect, pools, "kubernetes", variables))
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    assert "{{" not in json.dumps(job)
    assert (job["spec"]["completions"], job["spec"]["backoffLimit"]) == (1, 0)
    assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    for _, operator, values in requirements(job):  # the API's own rule, which no schema tells
        assert bool(values) == (operator in {"In", "NotIn"})


def test_the_job_that_prefect_would_send_by_default_is_not():
    """So that the test above is known to see something."""
    default = BaseWorker.get_worker_class_from_type("kubernetes").get_default_base_job_template()
    job = default["job_configuration"]["job_manifest"]
    job["metadata"] = {"name": "job"}
    job["spec"] |= {"backoffLimit": 0, "ttlSecondsAfterFinished": 1}
    job["spec"]["template"]["spec"]["containers"] = [{"name": "job"}]
    with pytest.raises(kubernetes_validate.ValidationError, match="Additional properties"):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_a_run_that_asks_for_nothing_stays_off_gpus_and_spot(prefect, pools):
    job = manifest(rendered(prefect, pools, "kubernetes", {}))
    assert requirements(job) == [
        ("cloud.google.com/gke-accelerator", "DoesNotExist", []),
        ("cloud.google.com/gke-spot", "NotIn", ["true"]),
    ]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {}, "limits": {}}
    assert "activeDeadlineSeconds" not in job["spec"]
    assert container["args"][:5] == [
        "timeout", "--verbose", "--signal=INT", "--kill-after=10", "0",
    ]  # fmt: skip


def test_a_run_gets_the_machine_it_asks_for(prefect, pools):
    placement = PLACEMENTS["with everything"]
    labels = {"gpu_type_label": "nvidia.com/gpu.product", "cpus": "4"}
    variables = labels | job_variables(placement, pools["kubernetes"][0])
    job = manifest(rendered(prefect, pools, "kubernetes", variables))
    assert requirements(job) == [
        ("nvidia.com/gpu.product", "In", ["H200"]),
        ("cloud.google.com/gke-spot", "In", ["true"]),
    ]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "512Gi"},
        "limits": {"memory": "512Gi", "nvidia.com/gpu": 8},
    }
    assert container["args"][4:] == ["5400", "prefect", "flow-run", "execute"]
    assert job["spec"]["activeDeadlineSeconds"] == 5400 + 3600
    taints = [toleration["key"] for toleration in job["spec"]["template"]["spec"]["tolerations"]]
    assert taints == ["nvidia.com/gpu", "cloud.google.com/gke-spot"]


def test_docker_is_asked_for_gpus_and_memory(prefect, pools):
    placement = Placement(gpus=2, memory="16Gi", time_limit_minutes=1)
    variables = job_variables(placement, pools["docker"][0])
    configuration = rendered(prefect, pools, "docker", variables)
    assert configuration.command.endswith(" 60 prefect flow-run execute")
    host = HostConfig(
        version="1.45",
        mem_limit=configuration.mem_limit,
        memswap_limit=configuration.memswap_limit,
        **configuration.container_create_kwargs,
    )
    assert host["Memory"] == host["MemorySwap"] == 16 * 2**30
    (request,) = host["DeviceRequests"]
    assert (request["Driver"], request["Count"]) == ("nvidia", 2)
    assert request["Capabilities"] == [["gpu"]]
    assert host["Mounts"][0]["ReadOnly"]


def test_docker_without_gpus_needs_no_driver_for_them(prefect, pools):
    configuration = rendered(prefect, pools, "docker", {})
    host = HostConfig(version="1.45", **configuration.container_create_kwargs)
    assert "DeviceRequests" not in host
    assert host["Init"]
    assert host["ShmSize"] == 2**30


def test_a_process_sees_the_gpus_it_is_given(prefect, pools):
    configuration = rendered(prefect, pools, "process", {"cuda_visible_devices": "0,1"})
    assert configuration.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert configuration.working_dir is None


def secrets(settings):
    """Prefect's settings that it takes for secrets itself, by variable."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, PrefectBaseSettings):
            yield from secrets(value)
        elif "Secret" in str(field.annotation):
            yield f"{settings.model_config['env_prefix']}{name.upper()}"


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_no_secret_of_the_worker_is_in_the_job(prefect, pools, monkeypatch, kind):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", MARK)
    settings = {
        PREFECT_API_AUTH_STRING: f"admin:{MARK}",
        PREFECT_CLIENT_CUSTOM_HEADERS: {"x-key": MARK},
        PREFECT_SERVER_DATABASE_PASSWORD: MARK,
    }
    default = BaseWorker.get_worker_class_from_type(kind).get_default_base_job_template()
    leaking = rendered(prefect, pools, kind, {}, settings, base_job_template=default)
    assert str(leaking.model_dump()).count(MARK) >= 3
    configuration = rendered(prefect, pools, kind, {}, settings)
    assert "PREFECT_API_URL" in str(configuration.env)
    assert MARK not in str(configuration.model_dump())


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_every_secret_that_prefect_has_is_kept_out(kind):
    environment = template(kind)["job_configuration"]["env"]
    kept_out = {name for name, value in environment.items() if value is None}
    assert kept_out >= set(secrets(get_current_settings()))


def test_kubernetes_takes_secrets_from_a_secret(prefect, pools):
    job = manifest(rendered(prefect, pools, "kubernetes", {"secret_name": "ours"}))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "ours", "optional": True}}]


@pytest.mark.parametrize(
    ("kind", "variables", "words"),
    [
        ("kubernetes", {"memory": "16Gx"}, "16Gx"),
        ("kubernetes", {"memory": "16"}, "memory"),
        ("kubernetes", {"cpus": "four"}, "four"),
        ("kubernetes", {"gpu": 1}, "'gpu' does not match"),
        ("kubernetes", {"spot": True}, "'In' was expected"),
        ("kubernetes", {"gpus": 1}, "'DoesNotExist' is not one of"),
        ("kubernetes", {"image": ""}, "image"),
        ("docker", {"memory": "16Gi"}, "16Gi"),
        ("docker", {"gpus": 1}, "'device_requests' is a dependency"),
        ("process", {"time_limit_seconds": 60}, "'command' is a dependency"),
        ("process", {"working_dir": "/srv/checkout"}, "working_dir"),
        ("process", {"env": {"AWS_SECRET_ACCESS_KEY": MARK}}, "AWS_SECRET_ACCESS_KEY"),
        ("process", {"env.PREFECT_API_AUTH_STRING": MARK}, "PREFECT_API_AUTH_STRING"),
        ("process", {"env": {"OPTUNA_STORAGE": "postgresql://me:word@db/s"}}, "env"),
    ],
)
def test_prefect_refuses_a_run_that_says_what_its_pool_does_not_take(
    prefect, pools, kind, variables, words
):
    _, deployment = pools[kind]
    with connected(prefect) as client, refused(words):
        client.create_flow_run_from_deployment(
            deployment, job_variables={**needs_image(kind), **variables}
        )


def test_prefect_refuses_a_container_without_an_image(prefect, pools):
    with connected(prefect) as client, refused("image"):
        client.create_flow_run_from_deployment(pools["docker"][1])


def test_plain_environment_variables_are_taken(prefect, pools):
    variables = {"env": {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}, "env.OMP_NUM_THREADS": "1"}
    configuration = rendered(prefect, pools, "kubernetes", variables)
    (container,) = manifest(configuration)["spec"]["template"]["spec"]["containers"]
    named = {line["name"]: line["value"] for line in container["env"]}
    assert named["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert named["OMP_NUM_THREADS"] == "1"
    assert named["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
