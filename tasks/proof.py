"""What is kept of a proof with a model version, and whether it holds of the model stored now.

A stored model, or its record, may be changed afterwards. So a proof names the bytes of the model
that it was made of, lineage key and commit: it counts as long as these are the ones that MLflow
stores, and the record does not contradict itself. Whoever can write tags and files can write a
proof, too: it guards against accidents and later changes. Who wants to be certain proves again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import claim as claims
from tasks import compiled, faults, store, tracking
from tasks.claim import UnreadableError
from tasks.errors import GateError
from tasks.registry import Version
from tasks.store import LINEAGE_KEY
from tasks.tracking import AbsentError

REPRODUCED, PROOF = "reproduced", "proof"
AT, ON, LOCK = "reproduced_at", "reproduced_on", "reproduced_lock"
"""Tags of a version: the verdict, what it was reached of, when, where, and by which lock."""

COMMIT = "git_commit"
"""Tag of a run: a deployment keeps a commit of its own besides, anew each time it is asked for."""

YES, NO, UNKNOWN = "true", "false", "unknown"

ABOUT_VERSION = "registered_model_meta"
"""The file beside a stored model that tells of its version, which MLflow writes anew."""


@dataclass(frozen=True)
class Proof:
    """A version that was rebuilt to the same bytes.

    model        SHA-256 of the stored model, see `digest`
    lineage_key  what it was rebuilt from
    commit       that its run was recorded at, and that was found to hold the same content
    """

    model: str
    lineage_key: str
    commit: str

    def to_json(self) -> str:
        """Give the text of the tag."""
        return json.dumps(asdict(self), sort_keys=True)


def read(tags: Mapping[str, str]) -> Proof | None:
    """Read the proof among a version's tags; None if there is none, or the last one failed."""
    if tags.get(REPRODUCED) != YES:
        return None
    with suppress(KeyError, ValueError, TypeError):
        return Proof(**json.loads(tags[PROOF]))
    return None


def files(folder: Path) -> dict[str, Path]:
    """Give the files that a stored model is made of, by their relative paths.

    Left out are what MLflow writes beside it about its version, and what Python compiles there: of
    that `compiled.faults` tells.
    """
    found = sorted(each for each in folder.rglob("*") if each.is_file())
    return {
        each.relative_to(folder).as_posix(): each
        for each in found
        if each != folder / ABOUT_VERSION and not compiled.is_compiled(each)
    }


def digest(folder: Path) -> str:
    """Hash the files of a stored model: SHA-256 over their sorted relative paths and bytes."""
    found = hashlib.sha256()
    for name, path in files(folder).items():
        for part in (name.encode(), path.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


@contextmanager
def stored(model_name: str, number: int) -> Iterator[Path]:
    """Give a copy of what MLflow stores for a version; raises AbsentError if its model is gone."""
    with store.reachable(), tempfile.TemporaryDirectory() as place:
        folder = Path(place) / store.MODEL
        tracking.fetch_model(f"models:/{model_name}/{number}", folder)
        yield folder


def lacking(model_name: str, version: Version) -> str | None:
    """Say why a version is not proven; None if it is, and model and record are still those."""
    verdict, proof = version.tags.get(REPRODUCED), read(version.tags)
    if verdict is None:
        return "nobody has proven it"
    if verdict != YES:
        when = version.tags.get(AT, "an unknown day")
        return f"on {when} it {'was not reproduced' if verdict == NO else 'could not be proven'}"
    if proof is None:
        return f"its tag {REPRODUCED} names no proof: it was set by hand"
    if proof.lineage_key != version.tags.get(LINEAGE_KEY):
        return "its proof is that of another lineage"
    try:
        return _changed(proof, model_name, version.number)
    except (AbsentError, UnreadableError) as error:
        return str(error)


def _changed(proof: Proof, model_name: str, number: int) -> str | None:
    """Say what is not as it was when a version was proven; None if all is."""
    claim = claims.of_version(model_name, number)
    if claim.tags.get(COMMIT, "") != proof.commit:
        return "its commit is not the one that it was proven from"
    with stored(model_name, number) as folder:
        if digest(folder) != proof.model:
            return "its model was changed after it was proven"
        against = [*faults.of(claim), *compiled.faults(folder)]
    return f"it was changed after it was proven: {'; '.join(against)}" if against else None


def demand(model_name: str, version: Version) -> None:
    """Raise GateError unless a version is proven."""
    if (why := lacking(model_name, version)) is not None:
        raise GateError(
            f"{model_name} version {version.number}: must be proven, as register.require_proof of "
            f"params.yaml asks (got: {why})\n"
            f"next: python -m flows prove {model_name}/{version.number}"
        )


def evidence(version: Version) -> dict[str, str]:
    """Give what the ledger keeps of a proof: nothing if there is none."""
    proof = read(version.tags)
    if proof is None:
        return {}
    told = {"at": version.tags.get(AT, ""), "on": version.tags.get(ON, "")}
    return {"model": proof.model, "commit": proof.commit, **told}
