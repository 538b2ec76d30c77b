"""A real version is rebuilt on another clone; what was changed afterwards is caught and named."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from left_behind import MLFLOW_WARNS

from flows import prove
from flows.proof import examine
from flows.proof.verdict import Outcome, Verdict
from tasks import claim as claims
from tasks import content, proof, registry, tracking

pytestmark = [pytest.mark.xdist_group("trained"), *MLFLOW_WARNS]
MODEL = "churn-predictor"
FAKED = 2
"""The tree that is changed where weights are made up."""

Examine = Callable[..., Verdict]


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    done = subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def flip(file: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def hashes(checkout: Path) -> dict[str, str]:
    """Hash all that a proof must not touch: everything but MLflow's database."""
    return {
        str(path.relative_to(checkout)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in checkout.rglob("*")
        if path.is_file() and not path.name.startswith("mlflow.db")
    }


def version_tags() -> dict[str, str]:
    with registry.looked_at(MODEL) as models:
        return dict(models.version(1).tags)


@pytest.fixture
def moved(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The trained checkout, to be worked in."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained}/mlflow.db")
    tracking.connect_to_write()
    yield trained
    for name in (name for name in os.environ if name.startswith("MLFLOW_")):
        monkeypatch.delenv(name)


@pytest.fixture
def faked(trained: Path, environment: dict[str, str]) -> Path:
    """The trained checkout with one leaf changed, and all the rest evaluated and recorded of that.

    Hashes, cache, metrics, tags, artifacts, version: all is as if it had been computed so.
    """
    from xgboost import Booster

    (trained / "mlflow.db").unlink()
    shutil.rmtree(trained / "mlartifacts")
    weights = trained / "data/train/model.ubj"
    model = json.loads(Booster(model_file=weights).save_raw("json"))
    tree = model["learner"]["gradient_booster"]["model"]["trees"][FAKED]
    leaf = tree["left_children"].index(-1)
    tree["split_conditions"][leaf] += 0.01
    weights.unlink()
    Booster(model_file=bytearray(json.dumps(model).encode())).save_model(weights)
    for words in ("commit --force train", "repro --single-item evaluate register"):
        subprocess.run(
            ["python", "-m", "dvc", *words.split()],
            cwd=trained,
            env=environment,
            capture_output=True,
            check=True,
        )
    return trained


@pytest.fixture
def examined(moved: Path, tmp_path: Path) -> Examine:
    """Examine version 1 in the checkout, or from another clone."""

    def look(root: Path = moved) -> Verdict:
        claim = claims.of_version(MODEL, 1)
        return examine.examine(claim, root, tmp_path / "proof", lambda _: None)

    return look


def test_it_is_proven_on_another_clone_with_other_threads_and_another_time(
    moved: Path, prefect, tmp_path: Path
):
    clone = tmp_path / "elsewhere"
    git(moved, "clone", "--quiet", str(moved), str(clone))
    before, head = hashes(moved), git(clone, "rev-parse", "HEAD")
    done = subprocess.run(
        ["python", "-m", "flows", "prove", f"{MODEL}@staging"],
        cwd=clone,
        env={
            **prefect,
            "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
            "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "3",
            "PYTHONHASHSEED": "7",
            "TZ": "Pacific/Kiritimati",
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == [
        *("data/lake", "data/ingest", "data/validate", "data/featurize", "data/train"),
        *("data/evaluate", "model in MLflow"),
    ]
    assert all(row[3].split() == [row[2].strip(), "same"] for row in rows)
    assert f"{MODEL} version 1: reproduced (rebuilt in" in done.stdout
    assert hashes(moved) == before
    assert not git(clone, "status", "--porcelain")
    assert git(clone, "rev-parse", "HEAD") == head
    assert not list(tmp_path.glob("verbatim-prove-*"))

    tags = version_tags()
    assert tags["reproduced"] == "true"
    lock = hashlib.sha256((moved / "requirements.lock").read_bytes()).hexdigest()
    assert tags["reproduced_lock"] == lock
    with registry.looked_at(MODEL) as models:
        proof.demand(MODEL, models.version(1))


def test_all_that_was_changed_is_named_at_once_and_nothing_is_rebuilt(
    moved: Path, examined: Examine
):
    claim = claims.of_version(MODEL, 1)
    client = tracking.connect().MlflowClient()
    client.set_model_version_tag(MODEL, "1", "output.data/train", "0" * 32)
    client.set_tag(claim.run_id, "environment.cpu", "8086")
    model, run = one(moved, "mlartifacts/models/*/artifacts"), moved / "mlartifacts" / claim.run_id
    flip(model / "artifacts/train/model.ubj")
    flip(model / "artifacts/encoder.json")
    flip(model / "code/tasks/encoder.py")
    flip(run / "artifacts/evaluate/predictions.parquet")
    cache = moved / ".dvc/cache/files/md5"
    kept = content.of(moved / "data/featurize/val.parquet")
    flip(cache / kept[:2] / kept[2:])
    flip(moved / "data/lake/month=1997-03/purchases.parquet")

    verdict = examined()
    assert verdict.outcome is Outcome.DIFFERS
    assert verdict.seconds is None
    assert verdict.status == 1
    why, damage = "\n".join(verdict.why), "\n".join(verdict.damage)
    for words in (
        "version: tag output.data/train: must be",
        "run: tag environment.cpu: must be",
        "stored model: artifacts/train/model.ubj: must have the MD5",
        "stored model: artifacts/encoder.json: must have the MD5",
        "stored model: code/tasks/encoder.py is not tasks/encoder.py of that commit",
        "run: artifact evaluate/predictions.parquet: must have the MD5",
    ):
        assert words in why
    assert len(verdict.why) == 6
    assert "DVC's cache: data/featurize/val.parquet: " in damage
    assert "data/lake/month=1997-03/purchases.parquet: must have the SHA-256" in damage
    assert len(verdict.damage) == 2


def test_code_that_is_not_in_the_commit_is_named(moved: Path, examined: Examine):
    claim = claims.of_version(MODEL, 1)
    shutil.copytree(moved / "tasks", moved / "kept")
    for name in ("tasks/train.py", "tasks/recipes/table.py"):
        with (moved / name).open("a") as file:
            file.write("# another\n")
    (moved / "tasks/seeds.py").unlink()
    git(moved, "commit", "--quiet", "--amend", "--all", "--message=another")
    amended = git(moved, "rev-parse", "HEAD")
    shutil.rmtree(moved / "tasks")
    (moved / "kept").rename(moved / "tasks")

    client = tracking.connect().MlflowClient()
    client.set_tag(claim.run_id, "environment.cpu", "8086")  # so that nothing is rebuilt
    verdict = examined()
    assert len(verdict.why) == 1
    assert "it was amended or dropped, and git will forget it" in verdict.damage[0]

    client.set_tag(claim.run_id, "git_commit", amended)
    client.set_model_version_tag(MODEL, "1", "git_commit", amended)
    shutil.rmtree(moved.parent / "proof")
    verdict = examined()
    assert verdict.outcome is Outcome.DIFFERS
    why = "\n".join(verdict.why)
    assert "tasks/seeds.py is not there" in why
    assert "tasks/train.py is not as it was when the model was made; this checkout has it" in why
    assert "tasks/recipes is not as it was when the model was made: tasks/recipes/table.py;" in why


def test_weights_that_were_not_computed_are_caught_by_the_rebuild_alone(faked: Path, moved: Path):
    verdict = prove._proven(f"{MODEL}/1", lambda _: None, make_env=False, keep=False)
    assert (verdict.outcome, verdict.status, verdict.state) == (Outcome.DIFFERS, 1, "Differs")
    assert verdict.seconds is not None, "nothing else could see it"
    assert verdict.damage == ()
    others = [row.stage for row in verdict.rows if row.is_other]
    assert others == ["train", "evaluate", "register"]
    said = (
        f"train is the first stage that comes out otherwise: data/train: model.ubj: tree {FAKED},"
    )
    assert verdict.why[0].startswith(said)
    assert any("stored model: artifacts/train/model.ubj differs: " in line for line in verdict.why)
    tags = version_tags()
    assert (tags["reproduced"], tags["proof"]) == ("false", "none")
    with registry.looked_at(MODEL) as models:
        assert "was not reproduced" in str(proof.lacking(MODEL, models.version(1)))


def test_a_commit_that_is_gone_proves_nothing(moved: Path, examined: Examine):
    git(moved, "commit", "--quiet", "--amend", "--all", "--message=another")
    git(moved, "reflog", "expire", "--expire=now", "--all")
    git(moved, "gc", "--quiet", "--prune=now")
    verdict = examined()
    assert (verdict.outcome, verdict.what) == (Outcome.UNPROVABLE, "commit gone")
    assert "is neither in this clone nor in its origin" in verdict.why[0]
    assert verdict.status == 3


def test_a_run_made_by_hand_is_named(moved: Path):
    client = tracking.connect().MlflowClient()
    made = client.create_run("1", run_name="too-good", tags={"lineage_key": "0" * 64})
    client.log_metric(made.info.run_id, "test/roc_auc", 0.99)
    client.set_terminated(made.info.run_id)
    source = one(moved, "mlartifacts/models/*/artifacts")
    number = client.create_model_version(MODEL, str(source), made.info.run_id).version
    for target in (f"{MODEL}/{number}", "too-good"):
        verdict = prove._proven(target, lambda _: None, make_env=False, keep=False)
        assert (verdict.outcome, verdict.what) == (Outcome.UNPROVABLE, "record gone")
        assert "made by hand and not by this pipeline" in verdict.why[0]


def test_a_revision_is_held_against_its_own_lock(moved: Path):
    """What is committed is the claim: here a parameter that nothing was computed with."""
    params = moved / "params.yaml"
    params.write_text(params.read_text().replace("max_depth: 3", "max_depth: 4"))
    git(moved, "commit", "--quiet", "--all", "--message=another depth")
    verdict = prove._proven("HEAD", lambda _: None, make_env=False, keep=False)
    assert verdict.outcome is Outcome.DIFFERS
    (said,) = verdict.why
    assert said.endswith(": parameter models.trees.max_depth is 4 at that commit, and was 3")
    assert "reproduced" not in version_tags()


def test_a_revision_and_the_run_of_its_content_are_both_held_against_what_is_made(moved: Path):
    """The weights that another commit's lock tells are not those that the version stores."""
    recorded = claims.of_version(MODEL, 1)
    lock, weights = moved / "dvc.lock", recorded.lineage.outputs["data/train"]
    lock.write_text(lock.read_text().replace(weights, f"{'0' * 32}.dir"))
    git(moved, "commit", "--quiet", "--all", "--message=other weights")
    found = prove.target.find("HEAD", MODEL)
    assert (found.claim.lock, found.claim.params) == (recorded.lock, recorded.params)
    assert found.claim.commit == git(moved, "rev-parse", "HEAD")
    (said,) = found.contradicted
    assert said.endswith(
        f"data/train must be {weights} as {MODEL} version 1 recorded it (got {'0' * 32}.dir)"
    )
