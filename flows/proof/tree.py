"""A clean tree of a commit, elsewhere; and whether it is what a model says it was made of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage

from flows import clones
from flows.proof.verdict import UnprovableError
from tasks import content, files, lineage, params
from tasks.claim import Claim
from tasks.errors import ParamsError, TemporaryError
from tasks.faults import COMMIT

ABSENT = "absent"
ORIGIN = "origin"
GONE = re.compile(r"not our ref|unadvertised object|couldn't find remote ref|does not appear to be")
"""What git says of a commit, or an origin, that is not there; all else may pass."""

ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
"""Variables by which git, in a hook, means another repository than that of the folder."""

CORE = {"check_update": "false", "autostage": "true", "remote": ""}
"""DVC's settings of a tree, besides a cache of its own, so that nothing can be restored."""

WRITTEN = (str(params.FILE), "dvc.lock", ".dvc", ".dvc/config.local", ".dvc/tmp")
"""What is written in a tree besides the outputs."""


def lay_out(folder: Path, commit: str, root: Path) -> None:
    """Check out a commit, from the checkout in `root`, else from where that was cloned.

    Raises UnprovableError if it is nowhere, TemporaryError if the origin does not answer.
    """
    if not COMMIT.fullmatch(commit):
        raise UnprovableError("commit gone", [f"the record names no commit (got {commit!r})"])
    folder.mkdir(parents=True)
    git("init", "--quiet", cwd=folder)
    said = ""
    for place in filter(None, (str(root), _origin(root))):
        done = git("fetch", "--quiet", "--depth", "1", place, commit, cwd=folder)
        if done.returncode == 0:
            git("checkout", "--quiet", "--force", "FETCH_HEAD", cwd=folder)
            return
        said = done.stderr.strip()
    if not GONE.search(said):
        raise TemporaryError(
            f"git: commit {commit} must be fetched from {ORIGIN} (got {said})\n"
            "next: see `git remote -v`, and try again"
        )
    fault = f"commit {commit} is neither in this clone nor in its {ORIGIN}: it was dropped"
    raise UnprovableError("commit gone", [fault])


def _origin(root: Path) -> str:
    """Give the address that the checkout was cloned from; empty if it has none."""
    address = git("remote", "get-url", ORIGIN, cwd=root).stdout.strip()
    is_relative = address and ":" not in address and not Path(address).is_absolute()
    return str((root / address).resolve()) if is_relative else address


def git(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run git in the repository of a folder, in English and without questions."""
    settings = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    settings |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return subprocess.run(
        ["git", *words], cwd=cwd, env=settings, capture_output=True, text=True, check=False
    )


def is_dropped(commit: str, root: Path) -> bool:
    """Tell whether nothing leads to a commit, in a clone or where that was cloned from.

    False if that cannot be told: the commit is in neither, or the origin does not answer.
    """
    if git("cat-file", "-e", f"{commit}^{{commit}}", cwd=root).returncode:
        return _is_dropped_there(commit, _origin(root))
    known = git("for-each-ref", "--format=%(objectname)", cwd=root).stdout.split()
    tips = ["HEAD", *known]
    if _leads(tips, commit, root):
        return False
    if not (origin := _origin(root)):
        return True
    there = git("ls-remote", "--quiet", origin, cwd=root)
    tips = [line.split()[0] for line in there.stdout.splitlines()]
    return there.returncode == 0 and commit not in tips and not _leads(tips, commit, root)


def _is_dropped_there(commit: str, origin: str) -> bool:
    """Tell whether an origin still gives a commit that none of its branches and tags leads to."""
    fetch = ("fetch", "--quiet", "--filter=tree:0", origin)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        git("init", "--quiet", "--bare", cwd=place)
        for wanted in ("+refs/*:refs/there/*", commit):
            if not origin or git(*fetch, wanted, cwd=place).returncode:
                return False
        words = ("for-each-ref", "--count=1", f"--contains={commit}")
        return not git(*words, cwd=place).stdout.strip()


def _leads(tips: Sequence[str], commit: str, root: Path) -> bool:
    """Tell whether a commit is among the ancestors of others, as far as these are known here."""
    words = ("rev-list", "--ignore-missing", "--max-count=1", commit, "--not", *tips)
    found = git(*words, cwd=root)
    return found.returncode == 0 and not found.stdout.strip()


def made(claim: Claim) -> list[str]:
    """Give the paths of all outputs that the recorded dvc.lock knows."""
    stages = claim.lock.get("stages", {}).values()
    return [str(out["path"]) for stage in stages for out in stage.get("outs", [])]


def leading_out(folder: Path, paths: Iterable[str]) -> list[str]:
    """Name the paths that do not lie below a folder, by dots, symlinks, or as they are."""
    return [
        f"{path} must lie in the checkout: it leads out of it, and nothing is touched there"
        for path in paths
        if "://" in path or not _is_below(folder, path)
    ]


def _is_below(folder: Path, path: str) -> bool:
    try:
        return folder.resolve() in (folder / path).resolve().parents
    except (OSError, RuntimeError, ValueError):  # symlinks that lead in a circle
        return False


def other_parameters(folder: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Name the parameters in use that the params.yaml of a tree, not yet settled, has otherwise."""
    file = folder / params.FILE
    try:
        found = files.read_yaml(file) if file.is_file() else {}
    except ValueError as error:
        return [f"params.yaml must be readable at that commit (got {error})"]
    branches = found.items() if isinstance(found, dict) else ()
    own = {key: value for name, each in branches for key, value in lineage.flat(name, each)}
    return [
        f"parameter {key} is {own.get(key, ABSENT)!r} at that commit, and was {value!r}"
        for key, value in parameters.items()
        if own.get(key, ABSENT) != value
    ]


def settle(folder: Path, claim: Claim, place: Path) -> None:
    """Write the recorded params.yaml into a tree, and leave nothing that a stage has made.

    The commit of an experiment holds what DVC plots; were it tracked, no stage could make it.

    place  for the cache and all that DVC keeps elsewhere by default

    Nothing may lead out of the tree: see `leading_out`.
    """
    (folder / params.FILE).write_text(claim.params, encoding="utf-8")
    outputs = made(claim)
    git("rm", "-r", "--quiet", "--cached", "--ignore-unmatch", "--", *outputs, cwd=folder)
    for path in ("dvc.lock", *outputs):
        output = folder / path
        shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
    (folder / ".dvc").mkdir(exist_ok=True)
    local = folder / ".dvc/config.local"
    clones.configure(local, cache=place / "cache", site=place / "dvc/site", **CORE)


def causes(folder: Path) -> dict[str, dict[str, Any]]:
    """Give what the stages of a tree come from, as `tasks.lineage` does; what is not there, too.

    Raises ParamsError if DVC cannot read them, or would write out of the tree.
    """
    try:
        planned = plan_repro(Repo(str(folder)).index.graph)
    except DvcException as error:
        raise ParamsError(
            f"dvc.yaml must be readable with the recorded params.yaml ({error})"
        ) from error
    stages = [stage for stage in planned if isinstance(stage, PipelineStage)]
    outs = {out.def_path: out for stage in stages for out in stage.outs}
    places = (str(out) if "://" in str(out) else out.fs_path for out in outs.values())
    if faults := leading_out(folder, places):
        raise ParamsError(f"dvc.yaml: {'; '.join(faults)}")
    return {stage.name: _cause(stage, outs) for stage in stages if stage.name != lineage.LAST}


def _cause(stage: PipelineStage, made: Container[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            values |= dep.get_hash().value
        elif "://" not in dep.def_path and dep.def_path not in made:
            hashes[dep.def_path] = str(dep.get_hash().value) if dep.exists else ABSENT
    return lineage.cause(stage.cmd, values, hashes, made)


def unlike(
    recorded: Mapping[str, Any], found: Mapping[str, Any], data: Sequence[str] = ()
) -> dict[str, str]:
    """Name what a tree has otherwise than recorded, by the path or stage it is about.

    data  paths that are no part of a commit
    """
    said = {name: f"stage {name} is not in dvc.yaml" for name in recorded if name not in found}
    said |= {name: f"stage {name} is recorded by no run" for name in found if name not in recorded}
    for name in (name for name in recorded if name in found):
        before, after = recorded[name], found[name]
        if before["cmd"] != after["cmd"]:
            said[f"{name}: cmd"] = (
                f"the command of stage {name} is {after['cmd']!r}, and was {before['cmd']!r}"
            )
        for key in sorted(before["params"].keys() | after["params"].keys()):
            was, now = (each["params"].get(key, ABSENT) for each in (before, after))
            if was != now:
                said[key] = f"parameter {key} is {now!r}, and was {was!r}"
        for path in sorted(before["deps"].keys() | after["deps"].keys()):
            was, now = (each["deps"].get(path, ABSENT) for each in (before, after))
            if was != now and path not in data and "://" not in path:
                said[path] = f"{path} is not as it was when the model was made"
                if now == ABSENT:
                    said[path] = f"{path} is not there"
    return said


def inside(path: str, md5: str, tree: Path, witness: Path) -> list[str]:
    """Name the files of a folder that differ in the tree, if another folder has it as recorded."""
    files = code(witness / path)
    if not files or md5 not in {content.of_listing(files), files.get("")}:
        return []
    there = code(tree / path)
    names = sorted(name for name in files | there if files.get(name) != there.get(name))
    return [f"{path}/{name}".rstrip("/") for name in names]


def code(path: Path) -> dict[str, str]:
    """Hash the files below a folder, or the file, without what Python has compiled of them."""
    if path.is_file():
        return {"": content.of(path)}
    return content.code(path) if path.is_dir() else {}
