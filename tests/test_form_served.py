"""The form as a real Prefect server takes it: what it refuses, and what a run is given."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient
from prefect.utilities.callables import parameter_schema
from systems import ask

from flows.form import Overrides, SweepOverrides, settings

NOTHING = SweepOverrides()


@flow(name="form-test")
def training(*, overrides: SweepOverrides = NOTHING) -> list[str]:
    """Tell what would be set."""
    return settings(overrides)


Submit = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def submit(prefect: dict[str, str]) -> Submit:
    """Deploy a flow; give what submits its form as Prefect's pages do."""
    address = prefect["PREFECT_API_URL"]

    async def deploy() -> str:
        async with PrefectClient(address) as client:
            schema = parameter_schema(training).model_dump()
            made = await client.create_deployment(
                flow_id=await client.create_flow(training),
                name="form",
                parameter_openapi_schema=schema,
                enforce_parameter_schema=True,
            )
            return str(made)

    url = f"{address}/deployments/{asyncio.run(deploy())}/create_flow_run"

    return lambda overrides: ask(url, {"parameters": {"overrides": overrides}})


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"models": {"trees": {"learning_rate": 0.1}}},
        {"models": {"trees": {"learning_rate": 1}, "network": {"compile": False}}},
        {"evaluate": {"baseline_run_id": None}, "validate": {"suite": "mine"}},
        {"featurize": {"horizon_days": 30}, "ingest": {"dataset_version": "1998-05-01"}},
        {"featurize": {"recipe": "table", "parts": {"ratios": {"train": 0.5}}}},
        {"featurize": {"columns": {"positive": "yes"}, "derived": {"old": "age > 60"}}},
        {"sweep": {"space": {"trees": {"max_depth": [2, 4], "subsample": {"low": 0.1}}}}},
        {"sweep": {"timeout_seconds": None}, "pins": "A=1"},
    ],
)
def test_what_is_right_becomes_a_run_with_just_that(submit: Submit, overrides: dict[str, Any]):
    status, run = submit(overrides)
    assert status == 201, run
    assert run["parameters"] == {"overrides": overrides}


@pytest.mark.parametrize(
    ("overrides", "field", "reason"),
    [
        (
            {"models": {"trees": {"learning_rate": 3}}},
            "overrides.models.trees.learning_rate",
            "3 is greater than the maximum of 1",
        ),
        ({"models": {"trees": {"max_depth": "4"}}}, "overrides.models.trees.max_depth", "'4'"),
        ({"models": {"trees": {"max_depth": 0}}}, "overrides.models.trees.max_depth", "minimum"),
        ({"models": {"trees": {"depth": 2}}}, "overrides.models.trees", "'depth' was unexpected"),
        ({"model": "forest"}, "overrides.model", "not one of"),
        ({"seed": True}, "overrides.seed", "True"),
        ({"train": {"refit": "yes"}}, "overrides.train.refit", "'yes'"),
        ({"train": {"refit": {}}}, "overrides.train.refit", "{}"),
        ({"featurize": {"horizon": 3}}, "overrides.featurize", "not valid under any"),
        ({"sweep": {"storage": "postgresql://me:secret@db/x"}}, "overrides.sweep.storage", ""),
        ({"sead": 1}, "overrides", "'sead' was unexpected"),
    ],
)
def test_what_is_wrong_is_refused_with_field_and_reason(
    submit: Submit, overrides: dict[str, Any], field: str, reason: str
):
    status, answer = submit(overrides)
    assert status == 409
    assert f"field {field!r}" in answer["detail"]
    assert reason in answer["detail"]


def test_a_flow_takes_what_its_run_was_given(submit: Submit):
    _, run = submit({"models": {"trees": {"learning_rate": 0.1}}, "seed": 3})
    taken = training.validate_parameters(run["parameters"])["overrides"]
    assert sorted(settings(taken)) == ["models.trees.learning_rate=0.1", "seed=3"]
    assert training.serialize_parameters({"overrides": taken}) == run["parameters"]


def test_null_is_as_good_as_nothing_where_params_yaml_takes_none(submit: Submit):
    status, run = submit({"seed": None, "models": {"trees": {"max_depth": None}}})
    assert status == 201
    assert settings(training.validate_parameters(run["parameters"])["overrides"]) == []


def test_the_form_of_stages_is_a_part_of_that_of_the_sweep():
    filled = Overrides.model_validate({"seed": 3})
    assert SweepOverrides.model_validate(filled.model_dump()).model_dump() == {"seed": 3}
