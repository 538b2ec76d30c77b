"""Prove one claim: what is cheap to see comes first, and is told together; then all is rebuilt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from flows.process import HERE
from flows.proof import comparing, locked, rebuild, recorded, sources, tree
from flows.proof.objects import Objects
from flows.proof.rebuild import Rebuilt
from flows.proof.verdict import Outcome, Row, UnprovableError, Verdict
from tasks import (
    compiled,
    content,
    devices,
    differences,
    environment,
    faults,
    files,
    proof,
    store,
    tracking,
)
from tasks.claim import EXPERIMENT_COMMIT, Claim
from tasks.errors import VerbatimError
from tasks.faults import COMMIT

Emit = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A claim, the checkout whose lake and cache are looked at, and a folder to work in."""

    claim: Claim
    root: Path
    place: Path
    emit: Emit
    make_env: bool

    @property
    def tree(self) -> Path:
        """The clean tree."""
        return self.place / "checkout"

    @property
    def run(self) -> Path:
        """What the run keeps of outputs."""
        return self.place / "run"

    @property
    def stored(self) -> Path:
        """The model as MLflow stores it."""
        return self.place / "stored"


@dataclass(frozen=True)
class Seen:
    """What has been found so far: lines of a verdict, and the stored model's SHA-256."""

    why: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model: str | None = None


def examine(
    claim: Claim,
    root: Path,
    place: Path,
    emit: Emit,
    *,
    make_env: bool = False,
    contradicted: Sequence[str] = (),
) -> Verdict:
    """Come to a verdict; what is written lies below `place`.

    make_env      make the environment that the commit's lock names, if this is another one
    contradicted  what is known to contradict the claim

    Raises TemporaryError or StageError if nothing can be said, as when a store does not answer.
    """
    objects = Objects(root, place / "dvc/site")
    case = Case(_with_manifest(claim, objects), root, place, emit, make_env)
    damage = tuple(_damage(case, objects))
    model, against = _stored(case, objects)
    seen = Seen((*contradicted, *against), damage, model=model)
    try:
        seen = _of_commit(case, seen)
        return _judged(case, objects, seen)
    except UnprovableError as error:
        outcome = Outcome.DIFFERS if seen.why else Outcome.UNPROVABLE
        what = "" if seen.why else error.what
        seen = replace(seen, why=(*seen.why, *error.faults))
        return _verdict(case, outcome, seen, what=what, is_here=error.is_here)


def _with_manifest(claim: Claim, objects: Objects) -> Claim:
    """Give a claim of a commit, that no run has recorded, the manifest that DVC keeps of it."""
    listed = objects.listing(claim.lineage.outputs.get("data/ingest", "")) or {}
    place = objects.place(listed.get("manifest.json", "none"))
    if claim.manifest or not place.exists():
        return claim
    return replace(claim, manifest=files.read_json(place))


def _verdict(case: Case, outcome: Outcome, seen: Seen, **known: object) -> Verdict:
    known.setdefault("rows", tuple(comparing.rows(case.claim, None)))
    known |= {each.name: getattr(seen, each.name) for each in fields(seen)}
    return Verdict(case.claim.title, case.claim.commit, outcome, **known)  # type: ignore[arg-type]


def _damage(case: Case, objects: Objects) -> Iterator[str]:
    """Look at what the checkout keeps of the claim: lake, cache, and the commit."""
    case.emit("looking at the lake and the DVC cache of this checkout")
    commit = case.claim.commit
    if COMMIT.fullmatch(commit) and tree.is_dropped(commit, case.root):
        yield (
            f"git: no branch, tag or experiment leads to commit {commit} any more: it was amended "
            "or dropped, and git will forget it"
        )
    lock = case.root / "dvc.lock"
    here = files.read_yaml(lock) if lock.exists() else {}
    yield from sources.damage(case.root, case.claim, here or {})
    known = case.claim.lineage
    files_here = {path: md5 for path, md5 in known.sources.items() if "://" not in path}
    yield from objects.damage(known.outputs | files_here)


def _stored(case: Case, objects: Objects) -> tuple[str | None, list[str]]:
    """Fetch what MLflow stores; give the model's SHA-256, and all that contradicts the claim."""
    claim = case.claim
    case.emit("holding what MLflow stores against what the run recorded")
    against = faults.of(claim)
    if not claim.run_id:
        return None, against
    model = None
    with store.reachable():
        against += comparing.copies(claim, case.run)
        uri = claim.model_uri
        if claim.version is not None:
            uri = f"models:/{claim.model_name}/{claim.version.number}"
        if uri is None:
            against.append("run: must have logged a model (got none)")
        else:
            try:
                tracking.fetch_model(uri, case.stored)
                model = proof.digest(case.stored)
                against += [f"stored model: {each}" for each in compiled.faults(case.stored)]
            except tracking.AbsentError as error:
                against.append(f"stored model: is gone: {error}")
    stored = None if model is None else case.stored
    return model, [
        *against,
        *comparing.unlike_lock(claim, case.run, stored, objects, case.place / "recorded"),
    ]


def _judged(case: Case, objects: Objects, seen: Seen) -> Verdict:
    """Hold the claim against what is made of its commit, if nothing speaks against it by now."""
    if seen.why:
        return _verdict(case, Outcome.DIFFERS, seen)
    case.emit("bringing the source data")
    if gone := sources.bring(case.tree, case.claim, case.root, objects):
        raise UnprovableError("source gone", gone)
    python = _python(case)
    case.emit("rebuilding all stages; the last one records into a registry of its own")
    started = time.monotonic()
    made = rebuild.run(case.tree, case.claim, case.emit, python=python, place=case.place)
    seconds = time.monotonic() - started
    why, rows = _compared(case, objects, made)
    if why and (others := _other_sources(case, made)):
        raise UnprovableError("source changed", others)
    here = made.environment or environment.describe() | environment.installed()
    return _verdict(
        case,
        Outcome.DIFFERS if why else Outcome.REPRODUCED,
        replace(seen, why=tuple(why)),
        rows=tuple(rows),
        causes=tuple(differences.causes(case.claim.environment, here)) if why else (),
        lock=content.digest(case.tree / environment.LOCK, "sha256"),
        seconds=seconds,
    )


def _of_commit(case: Case, seen: Seen) -> Seen:
    """Check out the commit; name what is not there as it was when the model was made."""
    claim, commit = case.claim, case.claim.commit
    case.emit(f"checking out commit {commit[:12]}, elsewhere")
    tree.lay_out(case.tree, commit, case.root)
    why, notes = _of_tree(case, case.tree, is_dirty=claim.is_dirty)
    if seen.model is not None:
        why += comparing.unlike_code(case.stored, case.tree)
    if why and claim.is_dirty:
        why.append("it is not all that the model was made of: git_dirty says so")
    why, notes = ([f"commit {commit[:12]}: {each}" for each in lines] for lines in (why, notes))
    file = case.tree / environment.LOCK
    lock = content.digest(file, "sha256") if file.is_file() else environment.NONE
    if claim.environment.get("lock_sha256", lock) != lock:
        got = claim.environment["lock_sha256"]
        must = f"must be {lock} as of commit {commit[:12]}"
        why.append(f"environment.json: lock_sha256 {must} (got {got})")
    others, lost = _of_others(case)
    return replace(
        seen,
        why=(*seen.why, *why, *others),
        damage=(*seen.damage, *lost),
        notes=(*seen.notes, *notes),
    )


def _of_others(case: Case) -> tuple[list[str], list[str]]:
    """Hold the other commits that run and version name against the claim; name those that are gone.

    A commit of a tree that was dirty then need not have the parameters; an experiment has.
    """
    claim, why, lost = case.claim, list[str](), list[str]()
    named = [("run", claim.tags, name) for name in ("git_commit", EXPERIMENT_COMMIT)]
    if claim.version is not None:
        named.append(("version", claim.version.tags, "git_commit"))
    for whose, tags, name in named:
        commit, where = tags.get(name, ""), f"{whose}: tag {name}"
        other = case.place / commit
        if commit in {"", claim.commit} or not COMMIT.fullmatch(commit) or other.exists():
            continue
        try:
            tree.lay_out(other, commit, case.root)
        except UnprovableError as error:
            lost.append(f"{where}: {'; '.join(error.faults)}")
            continue
        is_dirty = name == "git_commit" and tags.get("git_dirty") == "true"
        unlike, _ = _of_tree(case, other, is_dirty=is_dirty)
        why += [f"{where} {commit[:12]}: {each}" for each in unlike]
    return why, lost


def _of_tree(case: Case, folder: Path, *, is_dirty: bool) -> tuple[list[str], list[str]]:
    """Settle a tree; give what it has otherwise, and what only the record has, if it was dirty."""
    claim = case.claim
    if faults := tree.leading_out(folder, [*tree.WRITTEN, *tree.made(claim)]):
        return faults, []
    own = tree.other_parameters(folder, claim.lineage.parameters)
    tree.settle(folder, claim, case.place)
    why = [*_of_causes(case, folder), *sources.unlike_commit(folder, claim)]
    return (why, own) if is_dirty else (own + why, [])


def _of_causes(case: Case, folder: Path) -> list[str]:
    """Name what a settled tree has otherwise than recorded."""
    claim = case.claim
    try:
        found = tree.causes(folder)
    except VerbatimError as error:
        return [str(error)]
    unlike = tree.unlike(claim.lineage.causes, found, sources.outside(folder, claim))
    said = []
    for path, words in unlike.items():
        md5 = claim.lineage.sources.get(path, "")
        inside = tree.inside(path, md5, folder, case.root)
        named = "" if inside in ([], [path]) else f": {', '.join(inside)}"
        said.append(words + named + ("; this checkout has it as it was" if inside else ""))
    return said


def _python(case: Case) -> Path:
    """Give the Python of the environment that the commit's lock names.

    Raises UnprovableError if it is not this one, and none is to be made, or a GPU is missing.
    """
    claim, lock = case.claim, case.tree / environment.LOCK
    if claim.tags.get("device", "").startswith("cuda") and not devices.gpus():
        gpu = claim.environment.get("gpu", "a GPU")
        why = f"it was trained on {gpu}: prove it where there is one"
        raise UnprovableError("no GPU", [why], is_here=True)
    unlike = locked.unlike(lock.read_text(encoding="utf-8"), locked.installed())
    if not unlike:
        return HERE
    if not case.make_env:
        advice = "--make-env makes the environment that requirements.lock of that commit names"
        raise UnprovableError("other packages", [*locked.few(unlike), advice], is_here=True)
    case.emit(f"making the environment of that commit: {len(unlike)} packages are others here")
    return locked.make(case.place / "environment", lock)


def _compared(case: Case, objects: Objects, made: Rebuilt) -> tuple[list[str], list[Row]]:
    """Set what came out against what was recorded; name all that differs, the first stage first."""
    claim = case.claim
    case.emit("comparing every output and the stored model")
    rows = comparing.rows(claim, made.hashes)
    why = comparing.first_difference(rows, case.run, case.tree, objects, case.place / "expected")
    why += comparing.not_made(rows) + sources.unlike_read(case.tree, claim, made.read)
    if made.failure:
        why.append(f"a stage did not run to its end: {made.failure}")
    if not claim.run_id:
        return why, rows
    why += comparing.unlike_copies(case.run, case.tree)
    if made.model is None:
        return why or ["no model was logged by the rebuild"], rows
    why += comparing.unlike_model(case.stored, made.model)
    why += recorded.unlike(claim, made.registry / Path(rebuild.SCRATCH).name)
    prints = (comparing.fingerprint(each) for each in (case.stored, made.model))
    return why, [*rows, Row("register", "model in MLflow", *prints)]


def _other_sources(case: Case, made: Rebuilt) -> list[str]:
    """Name the files of a remote lake that were not there, or were others, when it was made.

    A lake on this machine was copied file by file, so that it cannot be the reason.
    """
    source = str(case.claim.manifest.get("source", ""))
    file = made.tree / "data/ingest/manifest.json"
    if not ("://" in source or Path(source).is_absolute()) or not file.is_file():
        return []
    both = case.claim.manifest, files.read_json(file)
    then, now = ({each["path"]: each for each in manifest["files"]} for manifest in both)
    return [
        f"{source}/{name}: has come since, with events from before"
        if name not in then
        else f"{source}/{name}: is not what it was"
        for name in sorted(then | now)
        if then.get(name) != now.get(name)
    ]
