"""What stays of an earlier proof where a version has lost its record."""

import shutil
from pathlib import Path

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from flows import prove
from flows.proof import keeping
from flows.proof.verdict import Outcome, Verdict
from tasks import claim as claims
from tasks import proof, registry

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]


def tags() -> dict[str, str]:
    with registry.looked_at(MODEL) as models:
        return dict(models.version(1).tags)


@pytest.fixture
def run_id(here: Path) -> str:
    """The run of a version that was proven once."""
    claim = claims.of_version(MODEL, 1)
    verdict = Verdict(claim.title, claim.commit, Outcome.REPRODUCED, model="0" * 64)
    with registry.opened(MODEL) as models:
        keeping.keep(claim, verdict, models)
    assert tags()["reproduced"] == "true"
    assert proof.read(tags()).commit == claim.tags["git_commit"]
    return claim.run_id


@pytest.mark.parametrize("target", [f"{MODEL}/1", f"{MODEL}@staging", "the run"])
def test_a_record_that_is_gone_leaves_no_proof(here: Path, run_id: str, target: str):
    shutil.rmtree(here / "mlartifacts" / run_id)
    meant = run_id if target == "the run" else target
    verdict = prove._proven(meant, lambda _: None, make_env=False, keep=False)
    assert (verdict.outcome, verdict.what) == (Outcome.UNPROVABLE, "record gone")
    assert (tags()["reproduced"], tags()["proof"]) == ("unknown", "none")


def test_a_record_that_nobody_can_read_leaves_no_proof(here: Path, run_id: str):
    (here / "mlartifacts" / run_id / "artifacts/ingest/manifest.json").write_text("[]")
    with registry.opened(MODEL) as models:
        verdict = prove.of_version(models, 1, lambda _: None)
    assert verdict.outcome is Outcome.DIFFERS
    assert "manifest" in verdict.why[0]
    assert (tags()["reproduced"], tags()["proof"]) == ("false", "none")
