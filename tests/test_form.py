import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import ROOT
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from prefect.utilities.callables import parameter_schema
from prefect.utilities.collections import visit_collection
from pydantic import ValidationError

from flows import form, preflight, spelling
from flows.form import Overrides, SweepOverrides, settings
from tasks import files, params
from tasks.errors import ParamsError

STANDS = params.load(ROOT / "params.yaml")

LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]))
"""What YAML can hold: it has no word for control characters."""

LEAVES = {
    "seed": st.integers(),
    "pins": LINES,
    "ingest.dataset_version": st.dates().map(str),
    "ingest.time_column": st.none() | LINES,
    "ingest.source": st.sampled_from(["s3://lake/year=2026", "data/lake", "a~b+c"]),
    "validate.suite": st.sampled_from(["training_data_v3", "null", "true", "1", "1e3"]),
    "featurize.amount": LINES,
    "featurize.windows_days": st.sets(st.integers(1, 900), min_size=1).map(sorted),
    "model": st.sampled_from(["trees", "network"]),
    "models.trees.learning_rate": st.floats(1e-9, 1) | st.just(1),
    "models.network.class_weight": st.sampled_from(["none", "balanced"]),
    "models.network.compile": st.booleans(),
    "evaluate.drift_ignored": st.lists(
        st.sampled_from(["a b", "it's", "${x}", "\\", "a,b", "[x", "*"])
    ),
    "evaluate.baseline_run_id": st.none() | st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    "register.experiment": st.text("abc 'é\"\\${}()~+", min_size=1),
    "sweep.timeout_seconds": st.none() | st.floats(1, 1e30),
    "sweep.space.trees.max_depth": st.just([2, 4]) | st.just({"low": 1, "high": 9}) | st.none(),
    "sweep.space.network.width": st.just([2, 4]) | st.just({"low": 1, "high": 9, "log": True}),
}


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of params.yaml in the current folder, beside the graph."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def nested(leaves: dict) -> dict:
    found: dict = {}
    for key, value in leaves.items():
        *path, name = key.split(".")
        branch = found
        for part in path:
            branch = branch.setdefault(part, {})
        branch[name] = value
    return found


def merged(below: object, above: object) -> object:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


def properties(schema: dict, *path: str) -> dict:
    """The schema of a field, found as Prefect's pages find it."""
    at = schema["properties"]["overrides"]
    for key in path:
        bound = at.get("then", at)
        at = schema["definitions"][bound["$ref"].rpartition("/")[2]]
        at = at["properties"][key]
    return at


def shown(kind: type) -> dict:
    nothing = kind()

    def flow(*, overrides: kind = nothing): ...

    return parameter_schema(flow).model_dump()


@pytest.fixture(scope="module")
def schema() -> dict:
    return shown(SweepOverrides)


def test_every_key_of_the_shipped_parameters_has_a_field():
    def keys(kind: type, values: dict, path: str = ""):
        assert values.keys() <= kind.known(), path
        for name, value in values.items():
            field = next(each for each in kind.model_fields.values() if each.alias == name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, form.Form):
                keys(field.annotation, value, f"{path}.{name}")

    others = preflight.SECTIONS.keys() - {"sweep"}  # of flows that have forms of their own
    shipped = {name: value for name, value in STANDS.items() if name not in others}
    keys(SweepOverrides, shipped)
    assert SweepOverrides.model_validate(shipped).model_dump() == shipped


def test_stages_are_not_asked_for_what_only_flows_take():
    assert SweepOverrides.known() - Overrides.known() == {"sweep"}


def test_a_number_is_a_plain_input_with_its_bounds_and_no_default(schema: dict):
    rate = properties(schema, "models", "trees", "learning_rate")
    assert rate == {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "title": "models.trees.learning_rate",
        "description": "share of its step that a tree takes",
        "position": 0,
    }


def test_choices_are_listed(schema: dict):
    assert properties(schema, "model")["enum"] == ["trees", "network"]
    assert "cuda" in properties(schema, "models", "network", "device")["enum"]
    titles = [each.get("title") for each in properties(schema, "featurize")["anyOf"][1:]]
    assert len(titles) == 2
    assert schema["definitions"]["Table"]["title"] == "table"


def test_nothing_is_required_and_nothing_is_prefilled(schema: dict):
    text = json.dumps(schema["definitions"])
    assert '"required"' not in text
    assert '"default"' not in text


def test_a_truth_is_two_words_not_a_box_that_would_be_sent_as_false(schema: dict):
    refit = properties(schema, "train", "refit")
    assert "type" not in refit
    assert [each["title"] for each in refit["anyOf"]] == ["as in params.yaml", "true", "false"]
    assert refit["then"] == {"type": "boolean"}


def test_nothing_filled_in_changes_nothing(parameters: Path):
    for nothing in (
        {},
        {"models": {"trees": {}}, "featurize": {}, "seed": None},
        {"validate": None},
    ):
        assert settings(SweepOverrides.model_validate(nothing)) == []


def test_one_deep_field_gives_one_setting(parameters: Path):
    filled = Overrides.model_validate({"models": {"trees": {"learning_rate": 0.1}}})
    assert settings(filled) == ["models.trees.learning_rate=0.1"]


def test_null_is_a_value_only_where_params_yaml_takes_it(parameters: Path):
    nulls = {"ingest": {"time_column": None, "source": None}, "evaluate": {"baseline_run_id": None}}
    filled = Overrides.model_validate(nulls)
    assert settings(filled) == ["ingest.time_column=null", "evaluate.baseline_run_id=null"]


def test_a_run_hands_on_what_was_filled_in_and_no_more():
    given = {"validate": {"suite": "x"}, "ingest": {"time_column": None}, "models": {"trees": {}}}
    filled = Overrides.model_validate(given)
    assert filled.model_dump() == filled.model_dump(mode="json") == given
    assert Overrides.model_validate(filled.model_dump()) == filled


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"models": {"trees": {"learning_rate": 3}}}, "learning_rate"),
        ({"models": {"trees": {"learning": 3}}}, "learning"),
        ({"model": "forest"}, "model"),
        ({"ingest": {"dataset_version": "yesterday"}}, "dataset_version"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(given: dict, key: str):
    with pytest.raises(ValidationError, match=key):
        Overrides.model_validate(given)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"featurize": {"entity": "recency_days"}}, "params.yaml: featurize: entity must not bear"),
        ({"sweep": {"direction": "minimize"}}, "params.yaml: sweep.direction: "),
        (
            {"sweep": {"space": {"trees": {"max_depth": {"low": 12}}}}},
            "params.yaml: sweep.space.trees.max_depth",
        ),
        ({"models": {"trees": {"max_depth": "4"}}}, "params.yaml: models.trees.max_depth: "),
        ({"featurize": {"recipe": "table"}}, "params.yaml: featurize.columns: Field required"),
        ({"seed": True}, "params.yaml: seed: "),
    ],
)
def test_what_a_form_cannot_see_preflight_refuses_with_its_key(
    parameters: Path, given: dict, line: str
):
    filled = SweepOverrides.model_validate(given)
    with pytest.raises(ParamsError) as caught:
        preflight.override(settings(filled))
    assert line in str(caught.value)


@effort(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=st.fixed_dictionaries({}, optional=LEAVES).map(nested))
def test_what_is_filled_in_is_written_as_it_is(parameters: Path, given: dict):
    shutil.copy(ROOT / "params.yaml", parameters)
    filled = SweepOverrides.model_validate(given)
    assert filled.model_dump() == given
    preflight.override(settings(filled))
    assert params.load(parameters) == merged(STANDS, given)


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("'\"\\${}[]() ,:=~+\n")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.from_regex(spelling.KEY, fullmatch=True), inner)
    ),
    max_leaves=8,
)


@effort(max_examples=150, deadline=None)
@given(JSON)
def test_any_json_is_spelled_so_that_it_is_read_as_it_is(value: object):
    changed = preflight._changed({}, [f"+a={spelling.spelled(value, 'a')}"])
    assert changed == {"a": value}


@pytest.mark.parametrize("name", ["1", "null", "True", "é", "it's", "", "a "])
def test_a_key_that_cannot_be_spelled_is_told(name: str):
    with pytest.raises(ParamsError, match=r"params\.yaml: featurize\.derived: .*\nnext: "):
        spelling.spelled({name: 1}, "featurize.derived")


TABLE = {
    "columns": {"key": "id", "target": "sick", "positive": True, "ignored": ["a b"]},
    "derived": {"old": "age > 60", "odd name": "'x' || \"b,c\""},
    "parts": {"by": "stratified", "ratios": {"train": 0.7, "val": 0.15, "test": 0.15}},
}


def test_another_recipe_takes_the_place_of_the_one_that_is_written(parameters: Path):
    table = {**TABLE, "columns": {**TABLE["columns"], "key": ["id"]}}
    preflight.override(settings(Overrides.model_validate({"featurize": table})))
    assert params.load(parameters)["featurize"] == {"recipe": "table", **table}
    assert "# every random choice is derived from it" in parameters.read_text()


def test_another_way_to_share_out_takes_the_place_and_the_same_way_is_changed(parameters: Path):
    def override(parts: dict) -> dict:
        filled = Overrides.model_validate({"featurize": {"parts": parts}})
        preflight.override(settings(filled))
        return params.load(parameters)["featurize"]["parts"]

    table = {"featurize": {**TABLE, "columns": {**TABLE["columns"], "key": ["id"]}}}
    preflight.override(settings(Overrides.model_validate(table)))
    shares = TABLE["parts"]["ratios"]
    assert override({"by": "random"}) == {"by": "random", "ratios": shares}
    cuts = {"val": 2024, "test": 2025}
    assert override({"by": "time", "column": "day", "cuts": cuts}) == {
        "by": "time",
        "column": "day",
        "cuts": cuts,
    }
    assert override({"column": "month"})["column"] == "month"
    assert override({"cuts": None, "ratios": shares})["by"] == "time"


def test_derived_columns_are_replaced_not_added_to(parameters: Path):
    table = {"featurize": {**TABLE, "columns": {**TABLE["columns"], "key": ["id"]}}}
    preflight.override(settings(Overrides.model_validate(table)))
    new = {"featurize": {"derived": {"young": "age < 20"}, "columns": {"slice": "old"}}}
    preflight.override(settings(Overrides.model_validate(new)))
    found = params.load(parameters)["featurize"]
    assert found["derived"] == {"young": "age < 20"}
    assert found["columns"]["slice"] == "old"


def test_a_stage_of_another_making_may_take_any_json(parameters: Path):
    graph = parameters.with_name("dvc.yaml")
    own = "  mine:\n    cmd: echo ${_odd}\n    params: [mine.deep, a-b, schema]\n"
    graph.write_text(graph.read_text().replace("stages:\n", f"stages:\n{own}"))
    parameters.write_text(parameters.read_text() + "mine: {deep: 1}\na-b: 2\nschema: 3\n_odd: 4\n")
    kind = form.build(graph)
    given = {
        "mine": {"deep": [1, "x"], "more": None},
        "a-b": {"c": 1},
        "schema": None,
        "_odd": "${x}",
    }
    filled = kind.model_validate(given)
    assert filled.model_dump() == given
    preflight.override(settings(filled))
    assert {key: params.load(parameters)[key] for key in given} == given
    assert shown(kind)["definitions"]["Overrides"]["properties"].keys() >= given.keys()


def test_the_form_is_the_same_from_any_folder_and_takes_no_heavy_library(tmp_path: Path):
    code = (
        "import sys; from flows.form import Overrides\n"
        "print(*sorted(Overrides.known()))\n"
        "print(*{'torch', 'mlflow', 'xgboost', 'pandas', 'prefect'} & sys.modules.keys())"
    )
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert set(said[0].split()) == Overrides.known()
    assert said[1] == ""
    assert files.read_yaml(ROOT / "dvc.yaml")["stages"].keys() & set(said[0].split())


def test_prefect_looks_for_futures_in_what_was_filled_in():
    """As it does with the parameters of every run, in an object that `dict` must take."""
    filled = Overrides.model_validate({"seed": 7, "models": {"trees": {"max_depth": 3}}})
    assert visit_collection(filled, visit_fn=lambda each: each, return_data=True) == filled
    assert dict(filled) == {"seed": 7, "models": filled.models}
