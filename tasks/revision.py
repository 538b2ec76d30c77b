"""The claim of what `dvc.lock` of a checkout, or of a git revision, describes; recorded or not."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tasks import claim, files, lineage, store, tracking
from tasks.claim import Claim
from tasks.errors import StageError

NEXT = "next: git log --oneline, or python -m flows ledger, to see what there is"


COMMITTED = ("params.yaml", "dvc.yaml", "dvc.lock")


def of_checkout(**names: str) -> Claim:
    """Give the claim of this checkout's `dvc.lock`: of the run that recorded it, if one has.

    names  where it is looked up: `experiment`, `model_name`, `alias`
    """
    if not Path("dvc.lock").exists():
        raise StageError(
            "dvc.lock: must say what was made here (got no such file)\nnext: python -m flows train"
        )
    texts = {name: Path(name).read_text("utf-8") for name in COMMITTED}
    own = _own(texts, lineage.commit().sha, "")
    return recorded(own, **names) or own


def of_git(revision: str, **names: str) -> Claim:
    """Give the claim of the `dvc.lock` of a revision, as `of_checkout` does."""
    own = read(revision)
    return recorded(own, **names) or own


def read(revision: str) -> Claim:
    """Read what a revision says of itself, whatever is recorded of it.

    Raises StageError if it is none, or has no `dvc.lock` that knows all stages.
    """
    sha = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    texts = {name: _git("show", f"{sha.strip()}:./{name}") for name in COMMITTED}
    if not (sha and all(texts.values())):
        if (meant := claim.version_meant(revision)) is not None:
            raise StageError(
                f"{revision}: must be a version of a registered model, or a revision of git "
                f"(got neither: {store.shown()} has no model {meant[0]!r})\n{NEXT}"
            )
        raise StageError(
            f"{revision}: must be MODEL@ALIAS, MODEL/VERSION, the name or id of a finished run, or "
            f"a revision of git with a dvc.lock (got none of these)\n{NEXT}"
        )
    return _own(texts, sha.strip(), revision)


def recorded(own: Claim, **names: str) -> Claim | None:
    """Give the claim of the newest run that has recorded the same content; None if none has."""
    record = tracking.find(own.lineage.key, **names)
    return None if record is None else claim.of_id(record.run_id, names["model_name"])


def _git(*words: str) -> str:
    asked = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return asked.stdout if asked.returncode == 0 else ""


def _own(texts: dict[str, str], commit: str, title: str) -> Claim:
    try:
        lock, graph, settings = (files.parsed_yaml(texts[name]) for name in reversed(COMMITTED))
        _ = settings["register"]["experiment"]
        absent = sorted(set(graph["stages"]) - set(lock["stages"]) - {lineage.LAST})
        read = {} if absent else claim.read_artifacts(texts)
    except claim.UNREADABLE as error:
        said = f"{type(error).__name__}: {str(error)[: claim.LONGEST_REASON]}"
        raise StageError(
            f"{title or 'this checkout'}: {', '.join(COMMITTED)} must be readable, with a section "
            f"register (got {said})\n{NEXT}"
        ) from error
    if absent:
        raise StageError(
            f"{title or 'dvc.lock'}: must know every stage (got none of {', '.join(absent)})\n"
            "next: dvc repro, git commit -a"
        )
    return Claim(
        run_id="",
        run_name=title,
        version=None,
        model_name=None,
        commit=commit,
        is_dirty=False,
        **read,
        tags={},
        values={},
        scores={},
        model_uri=None,
    )
