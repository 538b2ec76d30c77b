"""What is kept of a proof with a model version, and whether it holds of the model stored now.

A tag can be written by anybody, and a stored model changed afterwards. So a proof names the bytes
of the model that it was made of: it counts as long as these are the ones that MLflow stores.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import store, tracking
from tasks.content import COMPILED
from tasks.errors import GateError
from tasks.registry import Version
from tasks.store import LINEAGE_KEY
from tasks.tracking import AbsentError

REPRODUCED, PROOF = "reproduced", "proof"
AT, ON, LOCK = "reproduced_at", "reproduced_on", "reproduced_lock"
"""Tags of a version: the verdict, what it was reached of, when, where, and by which lock."""

YES, NO, UNKNOWN = "true", "false", "unknown"

ABOUT_VERSION = "registered_model_meta"
"""The file beside a stored model that tells of its version, which MLflow writes anew."""


@dataclass(frozen=True)
class Proof:
    """A version that was rebuilt to the same bytes.

    model        SHA-256 of the stored model, see `digest`
    lineage_key  what it was rebuilt from
    """

    model: str
    lineage_key: str

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

    Left out are what MLflow writes beside it about its version, and what Python compiles there.
    """
    found = sorted(each for each in folder.rglob("*") if each.is_file())
    return {
        each.relative_to(folder).as_posix(): each
        for each in found
        if each.name != ABOUT_VERSION and each.parent.name != COMPILED
    }


def digest(folder: Path) -> str:
    """Hash the files of a stored model: SHA-256 over their sorted relative paths and bytes."""
    found = hashlib.sha256()
    for name, path in files(folder).items():
        for part in (name.encode(), path.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def stored_digest(model_name: str, version: Version) -> str:
    """Hash what MLflow stores for a version; raises AbsentError if its model is gone."""
    with store.reachable(), tempfile.TemporaryDirectory() as place:
        folder = Path(place) / store.MODEL
        tracking.fetch_model(f"models:/{model_name}/{version.number}", folder)
        return digest(folder)


def lacking(model_name: str, version: Version) -> str | None:
    """Say why a version is not proven; None if it is, and still has the bytes of its proof."""
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
        found = stored_digest(model_name, version)
    except AbsentError as error:
        return str(error)
    return None if found == proof.model else "its model was changed after it was proven"


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
    return {"model": proof.model, "at": version.tags.get(AT, ""), "on": version.tags.get(ON, "")}
