"""What a run records besides its outputs is held against what the rebuild recorded of itself."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from flows.proof import recorded
from tasks import claim as claims
from tasks import inventory, tracking
from tasks.claim import Claim
from tasks.inventory import Content

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]


@pytest.fixture
def anew(here: Path) -> Path:
    """The store of a rebuild that recorded the very same."""
    return shutil.copy(here / "mlflow.db", here / "anew.db")


@pytest.fixture
def claim(anew: Path) -> Claim:
    return claims.of_version(MODEL, 1)


def tagged(claim: Claim, name: str, value: str) -> Claim:
    return replace(claim, tags={**claim.tags, name: value})


CHANGES: dict[str, tuple[Callable[[Claim], Claim], str]] = {
    "parameter": (
        lambda it: replace(it, values={**it.values, "learner.rounds": "999"}),
        "run: parameter learner.rounds: must be",
    ),
    "parameter made up": (
        lambda it: replace(it, values={**it.values, "data.more": "1"}),
        "run: parameter data.more: must be absent (got 1)",
    ),
    "baseline": (
        lambda it: replace(it, scores={**it.scores, "baseline/base_rate/test/roc_auc": 0.1}),
        "run: metric baseline/base_rate/test/roc_auc: must be 0.5 (got 0.1)",
    ),
    "library": (lambda it: tagged(it, "library.numpy", "1.0"), "run: tag library.numpy: must be"),
    "library made up": (
        lambda it: tagged(it, "library.magic", "1.0"),
        "run: tag library.magic: must be absent (got 1.0)",
    ),
    "sight": (
        lambda it: tagged(it, "content.9", f"{'0' * 16} data ingest data/lake/secret.csv"),
        "data/lake/secret.csv was seen by no rebuilt stage",
    ),
    "forgotten sight": (lambda it: tagged(it, "content.0", ""), "must have the line"),
}


def test_what_came_out_anew_as_recorded_is_no_fault(claim: Claim, anew: Path):
    its = tagged(tagged(claim, "author", "another"), "note", "of people")
    its = replace(
        its,
        scores={**its.scores, "cost/train/wall_seconds": 9.0, "history/refit_train_log_loss": 0.4},
    )
    assert recorded.unlike(its, anew) == []


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_named(claim: Claim, anew: Path, name: str):
    change, said = CHANGES[name]
    assert said in "\n".join(recorded.unlike(change(claim), anew))


def test_a_point_of_a_curve_that_was_added_is_named(claim: Claim, anew: Path):
    client = tracking.connect().MlflowClient()
    name = next(name for name in claim.scores if name.startswith("history/"))
    client.log_metric(claim.run_id, name, 0.0, step=77)
    said = f"run: metric {name} at step 77: must be absent (got 0.0)"
    assert recorded.unlike(claim, anew) == [said]


def test_of_texts_commit_machine_and_name_are_passed_by(claim: Claim):
    texts = [
        f"# {intent}-trees-{claim.lineage.short}\n\n- commit `{sha * 40}`{dirt}\n"
        f"git checkout {sha * 40}\ncommit {sha * 12}<br/>"
        for intent, sha, dirt in (("baseline", "a", ""), ("ablation", "b", ", with changes"))
    ]
    one, other = (recorded._plain(text, claim) for text in texts)
    assert one == other
    assert list(recorded._text("it", one, other)) == []
    (said,) = recorded._text("it", f"{one}\nA", f"{other}\nB")
    assert said == "run: artifact it: must be 'A' (got 'B')"
    (said,) = recorded._text("it", one, None)
    assert said == "run: artifact it is missing"


def test_files_inside_a_folder_may_be_missing_together_and_not_one_by_one():
    anew = inventory.parsed(
        "a source train code\nb source train code/1.py\nc source train code/2.py"
    )
    assert list(recorded._contents("it", anew, anew[:1])) == []
    (said,) = recorded._contents("it", anew, anew[:2])
    assert said.endswith(str(Content("code/2.py", "source", ("train",), ("c",))))
