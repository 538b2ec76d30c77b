"""A proof counts as long as MLflow stores the bytes that it was made of."""

import py_compile
import shutil
from pathlib import Path

import pytest
from left_behind import ASKED, MLFLOW_WARNS

from tasks import claim as claims
from tasks import proof, registry, tracking
from tasks.errors import GateError
from tasks.proof import Proof
from tasks.registry import Version

pytestmark = MLFLOW_WARNS
MODEL = ASKED["model_name"]
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
CHECKED = py_compile.PycInvalidationMode.CHECKED_HASH


def version() -> Version:
    with registry.looked_at(MODEL) as models:
        return models.version(1)


def stored_digest() -> str:
    with proof.stored(MODEL, 1) as folder:
        return proof.digest(folder)


def prove(**tags: str) -> None:
    """Tag the version as `prove` does, but for what is given."""
    known = version()
    made = Proof(stored_digest(), known.lineage_key, claims.of_version(MODEL, 1).tags["git_commit"])
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
    prove(proof=Proof(stored_digest(), "another", "").to_json())
    assert proof.lacking(MODEL, version()) == "its proof is that of another lineage"
    prove(reproduced=proof.NO, reproduced_at="Monday")
    with pytest.raises(GateError, match=r"on Monday it was not reproduced\)\nnext: python -m flow"):
        proof.demand(MODEL, version())


def test_what_mlflow_writes_about_the_version_is_no_part_of_the_model(here: Path):
    (model,) = here.glob("mlartifacts/models/*/artifacts")
    before = proof.digest(model)
    (model / proof.ABOUT_VERSION).write_text("another")
    assert proof.digest(model) == before
    (model / "code" / proof.ABOUT_VERSION).write_text("")
    assert proof.digest(model) != before


def test_a_model_that_is_gone_is_told(here: Path):
    prove()
    shutil.rmtree(here / "mlartifacts/models")
    assert f"models:/{MODEL}/1 must be in sqlite" in proof.lacking(MODEL, version())


@pytest.mark.parametrize(
    ("of", "name", "value", "said"),
    [
        ("run", "gate", "failed", "run: tag gate: must be passed as in evaluate/gate.json"),
        ("run", "output.data/train", "0", "run: tag output.data/train: must be"),
        ("version", "snapshot_md5", "0", "version: tag snapshot_md5: must be"),
        ("run", "git_commit", "0" * 40, "its commit is not the one that it was proven from"),
    ],
)
def test_a_record_that_was_changed_after_the_proof_is_told(
    here: Path, of: str, name: str, value: str, said: str
):
    prove()
    client = tracking.connect().MlflowClient()
    if of == "run":
        client.set_tag(version().run_id, name, value)
    else:
        client.set_model_version_tag(MODEL, "1", name, value)
    assert said in proof.lacking(MODEL, version())


def test_compiled_code_that_is_not_that_of_its_source_is_told(here: Path):
    prove()
    (code,) = here.glob("mlartifacts/models/*/artifacts/code/tasks")
    source = code / "seeds.py" if (code / "seeds.py").exists() else next(code.glob("*.py"))
    py_compile.compile(str(source), invalidation_mode=CHECKED)
    assert proof.lacking(MODEL, version()) is None
    py_compile.compile(str(source), invalidation_mode=UNCHECKED)
    assert "it is marked as not to be checked" in proof.lacking(MODEL, version())
