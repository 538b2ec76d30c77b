"""What is said of hand-made outputs and stored models that differ, and which verdicts are kept."""

import dataclasses
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.proof import comparing, keeping, report, target
from flows.proof.objects import Objects
from flows.proof.verdict import NOT_MADE, NOT_REBUILT, Outcome, Row, Verdict
from tasks import content, proof, registry
from tasks.errors import StageError
from tasks.proof import Proof


def write(file: Path, data: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return file


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()  # noqa: S324


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """An empty cache."""
    write(tmp_path / "root/.dvc/config", "[core]\n    no_scm = true\n")
    return Objects(tmp_path / "root", tmp_path / "site")


def told(objects: Objects, tmp_path: Path, *rows: Row) -> list[str]:
    places = [tmp_path / name for name in ("run", "tree")]
    return comparing.first_difference([*rows], *places, objects, tmp_path / "expected")


SAME = Row("ingest", "data/ingest", "1", "1")


def test_the_first_stage_that_differs_is_named_with_the_first_difference(objects, tmp_path: Path):
    cache = tmp_path / "root/.dvc/cache/files/md5"
    then, now = json.dumps({"trees": 3}).encode(), json.dumps({"trees": 4}).encode()
    write(cache / md5(then)[:2] / md5(then)[2:], then)
    write(tmp_path / "tree/data/train.json", now)
    rows = (
        SAME,
        Row("train", "data/train.json", md5(then), md5(now)),
        Row("evaluate", "e", "5", "6"),
    )
    (said,) = told(objects, tmp_path, *rows)
    assert said.startswith(
        "train is the first stage that comes out otherwise: data/train.json: trees"
    )
    assert "4 instead of 3" in said


def test_what_the_cache_has_lost_is_compared_with_the_copy_of_the_run(objects, tmp_path: Path):
    write(tmp_path / "run/train/learner.json", '{"trees": 3}')
    write(tmp_path / "tree/data/train/learner.json", '{"trees": 4}')
    row = Row("train", "data/train", content.of(tmp_path / "run/train"), "other")
    (said,) = told(objects, tmp_path, row)
    assert ": data/train: learner.json: trees" in said
    (said,) = told(objects, tmp_path, dataclasses.replace(row, expected=f"{'0' * 32}.dir"))
    assert said.endswith("data/train; the bytes of then are nowhere any more")


def test_where_all_is_the_same_or_nothing_came_out_no_stage_is_first(objects, tmp_path: Path):
    assert told(objects, tmp_path, SAME) == []
    assert told(objects, tmp_path, SAME, Row("train", "data/train", "1", NOT_REBUILT)) == []
    assert told(objects, tmp_path, SAME, Row("train", "data/train", "1", NOT_MADE)) == []


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A stored model, and the one that came out, logged elsewhere."""
    for name, run in (("stored", "a1"), ("rebuilt", "b2")):
        write(tmp_path / name / "MLmodel", f"run_id: {run}\nflavors: {{python_function: {{}}}}\n")
        write(tmp_path / name / "artifacts/learner.json", '{"trees": 3}')
    return tmp_path / "stored", tmp_path / "rebuilt"


def test_a_model_logged_anew_is_the_same(models: tuple[Path, Path]):
    stored, rebuilt = models
    write(stored / proof.ABOUT_VERSION, "version: 1")
    assert comparing.unlike_model(stored, rebuilt) == []
    assert comparing.fingerprint(stored) == comparing.fingerprint(rebuilt)


def test_each_file_of_a_stored_model_that_differs_is_named(models: tuple[Path, Path]):
    stored, rebuilt = models
    write(stored / "artifacts/learner.json", '{"trees": 4}')
    write(stored / "MLmodel", "run_id: a1\nflavors: {other: {}}\n")
    write(stored / "more.txt", "more")
    write(rebuilt / "serving.py", "")
    found = comparing.unlike_model(stored, rebuilt)
    assert [said.split(":")[1].split()[0] for said in found] == [
        *("MLmodel", "artifacts/learner.json", "more.txt", "serving.py")
    ]
    assert found[0].endswith(
        ": flavors.python_function: is missing ({} is expected) (and 1 more value)"
    )
    assert "4 instead of 3" in found[1]
    assert found[2:] == [
        "stored model: more.txt is in no rebuilt model",
        "stored model: serving.py is missing",
    ]
    assert comparing.fingerprint(stored) != comparing.fingerprint(rebuilt)


def claim_of(**tags: str) -> SimpleNamespace:
    return SimpleNamespace(run_id="1", version=SimpleNamespace(number=1, tags=tags))


PROVEN = {
    proof.REPRODUCED: proof.YES,
    proof.PROOF: Proof("the bytes", "the key", "a" * 40).to_json(),
}


@pytest.mark.parametrize(
    ("claim", "verdict", "is_kept"),
    [
        (claim_of(), Verdict("it", "", Outcome.REPRODUCED), "kept"),
        (claim_of(**PROVEN), Verdict("it", "", Outcome.DIFFERS), "kept"),
        (claim_of(), Verdict("it", "", Outcome.UNPROVABLE), "kept"),
        (claim_of(), Verdict("it", "", Outcome.UNPROVABLE, is_here=True), "not kept"),
        (claim_of(**PROVEN), Verdict("it", "", Outcome.UNPROVABLE, model="the bytes"), "not kept"),
        (claim_of(**PROVEN), Verdict("it", "", Outcome.UNPROVABLE, model="other bytes"), "kept"),
        (SimpleNamespace(run_id="", version=None), Verdict("it", "", Outcome.DIFFERS), "not kept"),
        (SimpleNamespace(run_id="1", version=None), Verdict("it", "", Outcome.DIFFERS), "kept"),
    ],
)
def test_a_verdict_is_kept_that_says_something_of_the_version(claim, verdict, is_kept: str):
    assert keeping.is_worth_keeping(claim, verdict) == (is_kept == "kept")


def test_one_of_all_versions_is_chosen(monkeypatch: pytest.MonkeyPatch):
    numbers: list[int] = []

    @contextmanager
    def looked_at(_: str):
        yield SimpleNamespace(versions=lambda: numbers)

    monkeypatch.setattr(registry, "looked_at", looked_at)
    with pytest.raises(StageError, match=r"churn: must have a version to be proven \(got none\)"):
        target.any_version("churn")
    numbers += [3, 5]
    assert {target.any_version("churn") for _ in range(64)} == {"churn/3", "churn/5"}


def test_a_verdict_says_that_only_the_record_has_the_parameters(capsys):
    note = "commit 1: parameter depth is 4 at that commit, and was 3"
    verdict = Verdict("it", "1", Outcome.REPRODUCED, notes=(note,))
    assert (verdict.status, verdict.state) == (0, "Reproduced")
    report.show(verdict)
    assert report.told(verdict).endswith(note)
    out = capsys.readouterr().out
    assert "what only the record says\n  commit 1: parameter depth is 4" in out
    assert "it: reproduced, by parameters that only the record has (nothing was rebuilt)" in out
    differing = dataclasses.replace(verdict, outcome=Outcome.DIFFERS)
    assert differing.summary == "it: differs"
