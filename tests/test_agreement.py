"""What is said twice must be equal: dvc.yaml and the modules, the layers and the imports."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from flows import preflight
from tasks import files, params

ROOT = Path(__file__).parent.parent
STAGES = files.read_yaml(ROOT / "dvc.yaml")["stages"]
VERBS = set(STAGES)


def imported(file: Path) -> set[Path]:
    """The modules of tasks/ that a module imports, anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {path for name in names if name.startswith("tasks.") and (path := located(name))}


def located(name: str) -> Path | None:
    stem = ROOT / Path(*name.split("."))
    return next((at for at in (stem.with_suffix(".py"), stem / "__init__.py") if at.exists()), None)


def reached(file: Path) -> set[Path]:
    """A module and all that it imports, directly or not."""
    found, todo = set(), {file}
    while todo:
        found |= todo
        todo = {each for at in todo for each in imported(at)} - found
    return found


def dependency(file: Path) -> str:
    """How dvc.yaml names the file: packages are named as folders."""
    parts = file.relative_to(ROOT).parts
    return "/".join(parts[:2] if len(parts) > 2 else parts)


def command(stage: str) -> tuple[str, list[str]]:
    words = STAGES[stage]["cmd"].split(" python -m ")[1].split()
    return words[0], words[1:]


@pytest.mark.parametrize("stage", STAGES)
class TestStage:
    def test_one_word_names_module_and_output(self, stage):
        module, paths = command(stage)
        assert module == f"tasks.{stage}"
        assert STAGES[stage]["outs"] == [paths[-1]]
        assert paths[-1] == ("data/lake" if stage == "sample" else f"data/{stage}")

    def test_paths_of_the_command_are_its_dependencies(self, stage):
        _, paths = command(stage)
        assert paths[:-1] == [dep for dep in STAGES[stage]["deps"] if dep in paths]
        if stage != "register":
            code = {dep for dep in STAGES[stage]["deps"] if dep.startswith("tasks/")}
            assert set(STAGES[stage]["deps"]) - code - {"requirements.lock"} == set(paths[:-1])

    def test_code_dependencies_are_what_the_module_imports(self, stage):
        needed = {dependency(file) for file in reached(ROOT / "tasks" / f"{stage}.py")}
        declared = {dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] == "tasks"}
        assert declared == ({"tasks"} if stage == "register" else needed)

    def test_environment_is_a_dependency(self, stage):
        assert "requirements.lock" in STAGES[stage]["deps"]

    def test_signature_names_the_paths_and_the_parameters(self, stage):
        module, paths = command(stage)
        run = importlib.import_module(module).run
        positional = [
            name
            for name, parameter in inspect.signature(run).parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        assert len(positional) == len(paths)
        declared = {re.split(r"[.]", name)[0] for name in STAGES[stage].get("params", [])}
        wanted = set(params.wanted_by(run))
        assert wanted <= declared if stage == "register" else wanted == declared

    def test_verbs_do_not_import_verbs(self, stage):
        others = {ROOT / "tasks" / f"{verb}.py" for verb in VERBS - {stage}}
        assert not imported(ROOT / "tasks" / f"{stage}.py") & others


def test_register_runs_again_when_anything_that_determines_the_result_changes():
    made = {out for stage in STAGES.values() for out in stage["outs"]}
    register = STAGES["register"]
    for name, stage in STAGES.items():
        sources = {dep for dep in stage["deps"] if not dep.startswith("tasks/")}
        assert sources - made - {"${ingest.source}"} <= set(register["deps"]), name
        assert set(stage.get("params", [])) <= set(register["params"]), name


def test_nouns_do_not_import_verbs():
    verbs = {ROOT / "tasks" / f"{verb}.py" for verb in VERBS}
    for noun in set((ROOT / "tasks").rglob("*.py")) - verbs:
        assert not imported(noun) & verbs, noun


def test_every_parameter_is_used_by_a_stage_or_a_flow():
    written = set(files.read_yaml(ROOT / "params.yaml"))
    declared = {name.split(".")[0] for stage in STAGES.values() for name in stage.get("params", [])}
    interpolated = set(re.findall(r"\$\{\s*(\w+)", (ROOT / "dvc.yaml").read_text()))
    assert written == declared | interpolated | set(preflight.SECTIONS)
