"""A proof counts as long as MLflow stores the bytes that it was made of."""

import shutil
from pathlib import Path

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from tasks import proof, registry
from tasks.errors import GateError
from tasks.proof import Proof
from tasks.registry import Version

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]


def version() -> Version:
    with registry.looked_at(MODEL) as models:
        return models.version(1)


def prove(**tags: str) -> None:
    """Tag the version as `prove` does, but for what is given."""
    known = version()
    made = Proof(proof.stored_digest(MODEL, known), known.lineage_key)
    kept = {proof.REPRODUCED: proof.YES, proof.PROOF: made.to_json(), **tags}
    with registry.opened(MODEL) as models:
        for name, value in kept.items():
            models.tag(1, name, value)


def test_a_version_is_proven_until_its_model_is_changed(here: Path):
    assert proof.lacking(MODEL, version()) == "nobody has proven it"
    prove()
    assert proof.lacking(MODEL, version()) is None
    proof.demand(MODEL, version())
    (weights,) = here.glob("mlartifacts/models/*/artifacts/artifacts/train/model.ubj")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert proof.lacking(MODEL, version()) == "its model was changed after it was proven"


def test_a_tag_set_by_hand_is_no_proof(here: Path):
    prove(proof="none")
    assert proof.lacking(MODEL, version()).endswith("it was set by hand")
    prove(proof=Proof(proof.stored_digest(MODEL, version()), "another").to_json())
    assert proof.lacking(MODEL, version()) == "its proof is that of another lineage"
    prove(reproduced=proof.NO, reproduced_at="Monday")
    with pytest.raises(GateError, match=r"on Monday it was not reproduced\)\nnext: python -m flow"):
        proof.demand(MODEL, version())


def test_what_mlflow_writes_about_the_version_is_no_part_of_the_model(here: Path):
    (model,) = here.glob("mlartifacts/models/*/artifacts")
    before = proof.digest(model)
    (model / proof.ABOUT_VERSION).write_text("another")
    assert proof.digest(model) == before
    (model / "more").write_text("")
    assert proof.digest(model) != before


def test_a_model_that_is_gone_is_told(here: Path):
    prove()
    shutil.rmtree(here / "mlartifacts/models")
    assert f"models:/{MODEL}/1 must be in sqlite" in proof.lacking(MODEL, version())
