"""The tree that a model is rebuilt in: nothing leads out of it, and it is what the commit holds."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flows.proof import examine, tree
from flows.proof.examine import Case, Seen
from tasks import claim as claims
from tasks.claim import Claim
from tasks.errors import ParamsError

GRAPH = {"stages": {"make": {"cmd": "true", "params": ["depth", "model.rate"], "outs": ["made"]}}}
LOCKED = {
    "cmd": "true",
    "params": {"params.yaml": {"depth": 3, "model.rate": 0.5}},
    "outs": [{"path": "made", "md5": "0" * 32}],
}


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    done = subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def settings(depth: int = 3) -> str:
    return yaml.safe_dump({"depth": depth, "model": {"rate": 0.5}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small checkout with one stage."""
    folder = tmp_path / "root"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("")
    (folder / "params.yaml").write_text(settings())
    (folder / "requirements.lock").write_text("")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def commit(root: Path) -> str:
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--message=a state", "--allow-empty")
    return git(root, "rev-parse", "HEAD")


def claim_of(root: Path, *, outs: str = "made", is_dirty: bool = False, **tags: str) -> Claim:
    """What a run of one stage says, made with `depth` 3, of the newest commit."""
    locked = {**LOCKED, "outs": [{"path": outs, "md5": "0" * 32}]}
    texts = {
        "params.yaml": settings(),
        "dvc.yaml": yaml.safe_dump(GRAPH),
        "dvc.lock": yaml.safe_dump({"schema": "2.0", "stages": {"make": locked}}),
    }
    return Claim(
        run_id="1",
        run_name="a run",
        version=None,
        model_name=None,
        commit=git(root, "rev-parse", "HEAD"),
        is_dirty=is_dirty,
        **claims.read_artifacts(texts),
        tags=tags,
        values={},
        scores={},
        model_uri=None,
    )


@pytest.fixture
def seen(root: Path, tmp_path: Path):
    """Looks at the commit of a claim, as a proof does before anything runs."""

    def look(claim: Claim) -> Seen:
        case = Case(claim, root, tmp_path / "proof", lambda _: None, make_env=False)
        return examine._of_commit(case, Seen())

    return look


@pytest.mark.parametrize("kind", ["absolute", "dots", "symlink", "folder"])
def test_an_output_that_leads_out_of_the_tree_is_refused_and_nothing_removed(
    root: Path, seen, tmp_path: Path, kind: str
):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "kept").write_text("kept")
    outs = {"absolute": str(precious), "dots": "../../precious", "symlink": "made"}.get(kind, "a/b")
    if kind == "symlink":
        (root / "made").symlink_to(precious)
    if kind == "folder":
        (root / "a").symlink_to(precious)
        (precious / "b").write_text("kept")
    commit(root)
    found = seen(claim_of(root, outs=outs))
    assert len(found.why) == 1
    assert f": {outs} must lie in the checkout: it leads out of it" in found.why[0]
    assert (precious / "kept").read_text() == "kept"
    assert (tmp_path / "proof/checkout/params.yaml").exists()


@pytest.mark.parametrize("name", ["params.yaml", ".dvc/config.local"])
def test_settings_are_not_written_through_a_symlink(root: Path, seen, tmp_path: Path, name: str):
    claim, mine = claim_of(root), tmp_path / "mine"
    mine.write_text("mine")
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(mine)
    found = seen(replace(claim, commit=commit(root)))
    assert f": {name} must lie in the checkout" in found.why[0]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("out", ["../elsewhere", "/elsewhere", "s3://elsewhere/made"])
def test_a_graph_that_would_write_elsewhere_is_refused(root: Path, out: str):
    graph = {"stages": {"make": {"cmd": "true", "outs": [{out: {"cache": False}}]}}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    with pytest.raises(ParamsError, match=r"elsewhere.* must lie in the checkout"):
        tree.causes(root)


def test_what_leads_in_a_circle_leads_out(tmp_path: Path):
    (tmp_path / "circle").symlink_to("circle")
    assert len(tree.leading_out(tmp_path, ["circle", "fine", ".", "a/../b"])) == 2


def test_parameters_that_the_commit_does_not_hold_are_named(root: Path, seen):
    (root / "params.yaml").write_text(settings(depth=4))
    sha = commit(root)
    found = seen(claim_of(root))
    said = f"commit {sha[:12]}: parameter depth is 4 at that commit, and was 3"
    assert (found.why, found.notes) == ((said,), ())


def test_of_a_tree_that_was_dirty_only_the_record_has_the_parameters(root: Path, seen):
    (root / "params.yaml").write_text(settings(depth=4))
    sha = commit(root)
    found = seen(claim_of(root, is_dirty=True))
    said = f"commit {sha[:12]}: parameter depth is 4 at that commit, and was 3"
    assert (found.why, found.notes) == ((), (said,))


def test_another_commit_that_is_gone_is_damage(root: Path, seen):
    found = seen(claim_of(root, git_commit="1" * 40))
    (said,) = found.damage
    assert found.why == ()
    assert said.startswith(f"run: tag git_commit: commit {'1' * 40} is neither in this clone nor ")


def test_another_commit_must_have_the_parameters_unless_it_was_dirty(root: Path, seen):
    (root / "params.yaml").write_text(settings(depth=4))
    before = commit(root)
    (root / "params.yaml").write_text(settings())
    commit(root)
    claim = claim_of(root, git_commit=before, git_dirty="true")
    assert seen(claim).why == ()


def test_a_clean_commit_must_have_the_parameters(root: Path, seen):
    (root / "params.yaml").write_text(settings(depth=4))
    before = commit(root)
    (root / "params.yaml").write_text(settings())
    commit(root)
    (said,) = seen(claim_of(root, git_commit=before, git_dirty="false")).why
    assert said.endswith(f"{before[:12]}: parameter depth is 4 at that commit, and was 3")


def test_dvc_keeps_nothing_outside_of_the_proof(root: Path, seen, tmp_path: Path):
    seen(claim_of(root))
    local = (tmp_path / "proof/checkout/.dvc/config.local").read_text()
    assert f"site_cache_dir = {tmp_path}/proof/dvc/site" in local
    assert f"dir = {tmp_path}/proof/cache" in local


def test_a_commit_without_a_lock_of_packages_is_told(root: Path, seen):
    claim = replace(claim_of(root), environment={"lock_sha256": "1"})
    (root / "requirements.lock").unlink()
    (said,) = seen(replace(claim, commit=commit(root))).why
    assert said.startswith("environment.json: lock_sha256 must be none as of commit")
