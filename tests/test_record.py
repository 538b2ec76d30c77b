import json
import re
from pathlib import Path

import pytest
from left_behind import FOLDERS, ROOT, leave

from tasks import command, files, record, seeds
from tasks.record import Folders


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.chdir(leave(tmp_path))
    return Folders(*(tmp_path / "data" / name for name in FOLDERS[:-1]))


def test_costs_are_those_of_what_lies_there(folders: Folders) -> None:
    lake = folders.ingest.with_name("lake")
    lake.mkdir()
    (lake / "purchases.csv").write_text("1")
    sampled = {"wall_seconds": 2.0, "outputs": command.digest(lake)}
    (command.COSTS / "sample.json").write_text(json.dumps(sampled))
    (command.COSTS / "validate.json").write_text('{"wall_seconds": 3.0}')  # of which outputs?
    measured = {"wall_seconds": 1.5, "peak_memory_mib": 90.0}
    costs = {"train": measured, "evaluate": measured, "sample": {"wall_seconds": 2.0}}
    assert record.read(folders).costs == costs
    (folders.train / "history.json").write_text("[]")  # as if restored from a cache
    (lake / "purchases.csv").unlink()
    assert record.read(folders).costs == {"evaluate": measured}


def test_seeds_are_recorded_for_every_purpose(folders: Folders) -> None:
    """Those of the stages, of which learners derive what else they need."""
    code = "".join(path.read_text() for path in sorted((ROOT / "tasks").glob("*.py")))
    purposes = set(re.findall(r'seeds\.derive\(seed, "(\w+)"\)', code))
    assert purposes == set(record.PURPOSES)
    parameters = record.parameters(record.read(folders))
    found = {name: value for name, value in parameters.items() if name.startswith("seeds.")}
    assert found == {f"seeds.{name}": seeds.derive(1, name) for name in purposes}


@pytest.mark.parametrize(("told", "known"), [("0123abc", "0123abc"), ("unknown", ""), ("", "")])
def test_image_tells_the_commit_where_git_cannot(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, told: str, known: str
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    monkeypatch.setenv("VERBATIM_GIT_COMMIT", told)
    assert record.origin(record.read(folders))["git_commit"] == known


def test_origin_tells_how_the_model_was_trained(folders: Folders) -> None:
    tags = record.origin(record.read(folders))
    assert (tags["device"], tags["deterministic"]) == ("cpu", "true")
    learner = files.read_json(folders.train / "learner.json")
    told = {"device": "cuda", "deterministic": False}
    files.write_json(folders.train / "learner.json", learner | told)
    tags = record.origin(record.read(folders))
    assert (tags["device"], tags["deterministic"]) == ("cuda", "false")


def test_checkout_knows_its_commit_better_than_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("VERBATIM_GIT_COMMIT", "0123abc")
    assert record.commit().sha not in {"", "0123abc"}
