"""What a run asks for becomes what a pool knows, or is refused by its name."""

import pytest
from pool_server import KINDS, template
from prefect.client.schemas.objects import WorkPool
from pydantic import ValidationError

from flows.placement import Placement, job_variables
from tasks.errors import ParamsError


def pool(kind, **changes):
    made = {"name": f"{kind}-pool", "type": kind, "base_job_template": template(kind)}
    return WorkPool(**{**made, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_set_is_not_said(kind):
    assert job_variables(Placement(), pool(kind)) == {}


def test_every_field_tells_the_form_what_it_is():
    for name, field in Placement.model_json_schema()["properties"].items():
        assert field["description"], name
        assert "default" in field, name


@pytest.mark.parametrize("memory", ["16", "16Gx", "0Gi", "16 Gi", "16G", "-1Gi"])
def test_memory_has_a_unit_that_exists(memory):
    with pytest.raises(ValidationError, match="memory"):
        Placement(memory=memory)


def test_what_a_pool_does_not_know_is_refused_all_at_once():
    asked = Placement(gpu_type="h100", memory="16Gi", spot=True, time_limit_minutes=5)
    with pytest.raises(ParamsError) as caught:
        job_variables(asked, pool("process"), "run.placement")
    *lines, last = str(caught.value).splitlines()
    must = "the work pool process-pool (process) must know it"
    assert lines == [
        f"run.placement.gpu_type: {must} (got 'h100')",
        f"run.placement.memory: {must} (got '16Gi')",
        f"run.placement.spot: {must} (got True)",
    ]
    assert last.startswith("next: ")


def test_what_a_pool_bounds_is_held_to_its_bounds():
    narrow = template("kubernetes")
    narrow["variables"]["properties"]["gpus"]["maximum"] = 2
    with pytest.raises(ParamsError, match=r"^placement\.gpus: 4 is greater than .* 2 \(got 4\)"):
        job_variables(Placement(gpus=4), pool("kubernetes", base_job_template=narrow))


def test_a_pool_of_another_making_gets_only_what_it_knows():
    known = {"variables": {"properties": {"gpus": {"type": "integer"}}}}
    asked = pool("kubernetes", base_job_template=known)
    assert job_variables(Placement(gpus=1), asked) == {"gpus": 1}


def test_a_process_gets_its_time_limit_around_it():
    assert job_variables(Placement(time_limit_minutes=2), pool("process")) == {
        "time_limit_seconds": 120,
        "command": "timeout --verbose --kill-after=25 120 python -m prefect.engine",
    }
