"""compose.yaml is held against Compose's own schema, and against what it must never do."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from checkouts import ROOT

from containers import EXAMPLE, REQUIRED, MissingVariableError, filled_in, raw, used

SECRET = re.compile(r"PASSWORD|SECRET|KEY|AUTH_STRING|TOKEN")
ONE_SHOT = {"prepare"}
READ_BY_LIBRARIES = re.compile(
    r"(AWS|DVC|GIT|PREFECT_LOGGING)_\w+|PGPASSWORD|PYTHONPATH|TMPDIR|HOME"
)
"""Variables that no code of ours and no list of settings names."""

FILLED = {name: f"some-{name.lower().replace('_', '-')}" for name in REQUIRED}
SERVICES = raw()["services"]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema of the Compose specification, as check-jsonschema carries it."""
    package = find_spec("check_jsonschema")
    folder = Path(package.submodule_search_locations[0])
    return json.loads((folder / "builtin_schemas/vendor/compose-spec.json").read_text())


def mistakes(file: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft202012Validator(schema).iter_errors(file)
    return [f"{error.json_path}: {error.message}" for error in found]


def test_the_specification_allows_it(schema):
    assert mistakes(raw(), schema) == []


@pytest.mark.parametrize(
    "change", [{"healthchek": {}}, {"restart": ["always"]}, {"depends_on": {"s3": {"when": "up"}}}]
)
def test_the_specification_would_not_allow_a_mistake(schema, change):
    file = raw()
    file["services"]["prefect"] |= change
    assert mistakes(file, schema)


@pytest.mark.parametrize("name", REQUIRED)
def test_nothing_starts_without(name):
    with pytest.raises(MissingVariableError, match=f"{name}: set it in .env"):
        filled_in(SERVICES, FILLED | {name: ""})


def test_the_example_of_env_names_every_variable():
    told = set(re.findall(r"^(?:# )?(\w+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert {name for name, _ in used(raw())} - {"GIT_COMMIT"} == told


@pytest.mark.parametrize("service", SERVICES)
class TestService:
    def test_has_an_image_with_an_exact_version_or_one_of_ours(self, service):
        image = SERVICES[service]["image"]
        if "build" in SERVICES[service]:
            assert image == "verbatim:services"
        else:
            assert re.fullmatch(r"[\w/.-]+:\d+\.\d+(\.\d+)?(-\w+)?", image)

    def test_has_no_secret_but_what_it_is_told(self, service):
        environment = SERVICES[service].get("environment", {})
        for name, value in environment.items():
            if SECRET.search(name):
                assert re.fullmatch(r"(admin:)?\$\{\w+:\?set it in \.env\}", value), name
        secrets = [name for name, how in used(SERVICES[service]) if how == ":?"]
        assert set(secrets) <= set(REQUIRED)

    def test_shows_no_secret_on_a_command_line(self, service):
        words = json.dumps([SERVICES[service].get(key) for key in ("command", "healthcheck")])
        assert not set(re.findall(r"\$\{(\w+)", words)) & set(REQUIRED)

    def test_publishes_ports_on_this_machine_only(self, service):
        for port in filled_in(SERVICES[service].get("ports", []), FILLED):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)

    def test_is_checked_for_health_or_ends_by_itself(self, service):
        if service in ONE_SHOT:
            assert SERVICES[service]["restart"] == "no"
        else:
            assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"
            assert SERVICES[service]["restart"] == "unless-stopped"

    def test_waits_for_services_that_can_be_what_it_waits_for(self, service):
        for other, how in SERVICES[service].get("depends_on", {}).items():
            ends = other in ONE_SHOT
            wanted = "service_completed_successfully" if ends else "service_healthy"
            assert how["condition"] == wanted
            assert not SERVICES[other].get("profiles")

    def test_may_do_no_more_than_it_must(self, service):
        assert SERVICES[service]["cap_drop"] == ["ALL"]
        assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
        assert SERVICES[service]["read_only"] or service.endswith("-worker")
        assert not {"privileged", "network_mode", "pid", "devices"} & set(SERVICES[service])
        assert bool(SERVICES[service].get("cap_add")) == (service == "postgres")

    def test_has_limits(self, service):
        limits = SERVICES[service]["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}

    def test_uses_volumes_configs_and_files_that_there_are(self, service):
        for volume in SERVICES[service].get("volumes", []):
            place = volume.split(":")[0]
            assert (ROOT / place).exists() if place[0] == "." else place in raw()["volumes"]
        for config in SERVICES[service].get("configs", []):
            assert (ROOT / raw()["configs"][config["source"]]["file"]).exists()

    def test_is_told_variables_that_somebody_reads(self, service):
        names = set(SERVICES[service].get("environment", {}))
        assert names - known_variables() == set()

    def test_runs_a_program_that_there_is(self, service):
        command = SERVICES[service].get("command")
        words = shlex.split(command or "postgres")
        assert words[0] in {"python", "prefect", "mlflow", "weed", "postgres"}
        if words[0] == "python":
            is_worker = service.endswith("-worker")
            program = ["flows.system.worker", "--pool", service.replace("worker", "pool")]
            wanted = [*program, *words[5:]] if is_worker else ["flows", "prepare"]
            assert words[1:] == ["-m", *wanted]


def known_variables() -> set[str]:
    """What Prefect, MLflow, the PostgreSQL image, our own code and other libraries read."""
    from mlflow import environment_variables
    from prefect.settings.legacy import _get_settings_fields
    from prefect.settings.models.root import Settings

    prefect = set(_get_settings_fields(Settings)) | {"PREFECT_HOME"}
    mlflow = {name for name in vars(environment_variables) if name.startswith("MLFLOW_")}
    code = [*ROOT.glob("flows/**/*.py"), *ROOT.glob("tasks/**/*.py"), ROOT / "prefect.yaml"]
    text = " ".join(file.read_text() for file in code if file.exists())
    ours = set(re.findall(r"\b(?:VERBATIM|OPTUNA)_[A-Z_]+\b", text))
    script = (ROOT / "containers/postgres.sh").read_text()
    database = {"POSTGRES_PASSWORD", *re.findall(r"\$(\w+_PASSWORD|POSTGRES_USER)", script)}
    told = {name for each in SERVICES.values() for name in each.get("environment", {})}
    libraries = {name for name in told if READ_BY_LIBRARIES.fullmatch(name)}
    return prefect | mlflow | ours | database | libraries


def test_gpu_worker_asks_for_gpus_and_comes_only_when_it_is_called():
    worker = SERVICES["gpu-worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert worker["profiles"] == ["gpu"]


def test_workers_share_no_volume():
    names = [
        {volume.split(":")[0] for volume in SERVICES[worker]["volumes"]}
        for worker in ("cpu-worker", "gpu-worker")
    ]
    assert names[0] & names[1] == {"./.git"}


def test_secrets_are_kept_out_of_git_and_of_the_image():
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert ".env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_copies_files_that_there_are_and_runs_without_privileges():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / word).exists() for word in line.split()[2:-1])
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER verbatim"]
