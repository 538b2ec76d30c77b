"""Compare what was recorded and stored with what came out anew, by bytes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import md5
from pathlib import Path
from typing import Any

from flows.proof.objects import Objects
from flows.proof.verdict import NOT_MADE, NOT_REBUILT, Row
from tasks import content, differences, files, proof, tracking
from tasks.claim import Claim
from tasks.differences import documents
from tasks.errors import StageError, TemporaryError

COPIES = {
    "validate": "data/validate",
    "train": "data/train",
    "evaluate": "data/evaluate",
    "featurize/encoder.json": "data/featurize",
    "featurize/examples.json": "data/featurize",
    "ingest/manifest.json": "data/ingest",
}
"""Artifacts of a run that are copies of outputs, or of files in them."""

PACKED = {"train": "data/train", "encoder.json": "data/featurize"}
"""What a stored model holds of outputs."""

PASSING = (
    *("artifact_path", "model_id", "model_uuid", "run_id", "utc_time_created"),
    *("model_size_bytes", "python_version", "mlflow_version"),
)
"""Keys of the file MLmodel that tell where and when it was logged, not what it is."""

CODE = "model_code_path"

STATED = re.compile(r"(python|pip|setuptools|wheel)([=<>~!]=?=?[\d.*]+)?")
"""Packages that MLflow notes as they happen to be installed, beside those of the lock."""


def rows(claim: Claim, rebuilt: Mapping[str, str] | None) -> list[Row]:
    """Set each output's hash against the one that came out; None if nothing was rebuilt."""
    found = []
    for name in claim.lineage.causes:
        for out in claim.lock["stages"][name].get("outs", []):
            got = NOT_REBUILT if rebuilt is None else rebuilt.get(out["path"], NOT_MADE)
            found.append(Row(name, out["path"], claim.lineage.outputs[out["path"]], got))
    return found


def copies(claim: Claim, folder: Path) -> list[str]:
    """Fetch the copies that the run keeps of outputs; name the one that cannot be had."""
    faults = []
    for name in COPIES:
        try:
            tracking.fetch(claim.run_id, [name], folder)
        except tracking.AbsentError as error:
            faults.append(str(error))
    return faults


def unlike_lock(
    claim: Claim, run: Path, model: Path | None, objects: Objects, place: Path
) -> Iterator[str]:
    """Name what the run or the stored model has otherwise than dvc.lock says.

    place  where to lay out what was recorded
    """
    copied = [("run: artifact ", run, name, output) for name, output in COPIES.items()]
    if model is not None:
        artifacts = model / "artifacts"
        copied += [("stored model: artifacts/", artifacts, *each) for each in PACKED.items()]
    for where, folder, name, output in copied:
        if (folder / name).exists():
            wanted = claim.lineage.outputs.get(output, "")
            for fault in _against_lock(folder / name, output, wanted, objects, place):
                yield f"{where}{fault}"
        elif folder != run:
            yield f"{where}{name} is missing"


def _against_lock(
    copy: Path, output: str, md5: str, objects: Objects, place: Path
) -> Iterator[str]:
    """Hold a copy of an output, or of one of its files, against the output's hash."""
    listed = objects.listing(md5)
    if copy.is_dir():
        found, prefix = content.listing(copy), f"{copy.name}/"
        if content.of_listing(found) == md5:
            return
        if listed is None:
            yield f"{copy.name}: must have the hash {md5} of {output} (got {content.of(copy)})"
            return
    else:
        found, prefix = {copy.name: content.of(copy)}, ""
        listed = {name: each for name, each in (listed or found).items() if name == copy.name}
    for name in sorted(found | listed):
        wanted, got = listed.get(name, "none"), found.get(name, "none")
        if wanted != got:
            said = f"{prefix}{name}: must have the MD5 {wanted} of {output} (got {got})"
            file = copy / name if copy.is_dir() else copy
            yield said + _where(file, wanted, objects, place / output / name)


def _where(file: Path, md5: str, objects: Objects, expected: Path) -> str:
    """Say what differs first in a file, if its bytes of then can be had."""
    if not file.is_file() or md5 == "none" or not _brought(objects, md5, expected):
        return ""
    return f": {differences.first(expected, file)}"


def _brought(objects: Objects, md5: str, expected: Path) -> bool:
    """Lay out what was recorded, to say what differs; a remote that is away spoils no verdict."""
    try:
        return objects.bring(md5, expected)
    except TemporaryError:
        return False


def unlike_code(model: Path, tree: Path) -> list[str]:
    """Name the files of code in a stored model that the commit has otherwise."""
    packed = proof.files(model)
    places = [(packed[name], name.removeprefix("code/")) for name in packed if name[:5] == "code/"]
    places += [(packed[name], f"tasks/{name}") for name in packed if name == "serving.py"]
    return [
        f"stored model: {stored.relative_to(model)} is not {ours} of that commit"
        if (tree / ours).is_file()
        else f"stored model: {stored.relative_to(model)} is not in that commit"
        for stored, ours in places
        if not (tree / ours).is_file() or stored.read_bytes() != (tree / ours).read_bytes()
    ]


def unlike_model(stored: Path, rebuilt: Path) -> list[str]:
    """Name each file of a stored model that is not as it was logged anew."""
    found = []
    for name in sorted(proof.files(stored) | proof.files(rebuilt)):
        if not (stored / name).is_file():
            found.append(f"stored model: {name} is missing")
        elif not (rebuilt / name).is_file():
            found.append(f"stored model: {name} is in no rebuilt model")
        elif (wanted := _meant(rebuilt / name)) != (got := _meant(stored / name)):
            where = differences.first(rebuilt / name, stored / name) or "other content"
            if not isinstance(wanted, bytes) and not isinstance(got, bytes):
                where = documents.compare(wanted, got)
            found.append(f"stored model: {name} differs: {where}")
    return found


def _meant(file: Path) -> Any:
    """Give what a file of a logged model says, without where and when."""
    with suppress(ValueError):  # no YAML any more
        if file.name == "MLmodel":
            return _without(files.read_yaml(file))
        if file.name in {"conda.yaml", "python_env.yaml"}:
            return _stated(files.read_yaml(file))
    return file.read_bytes()


def _without(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {name: _without(each) for name, each in value.items() if name not in PASSING}
    if isinstance(code := value.get(CODE), str):  # a path on the machine that logged it
        kept[CODE] = Path(code).name
    return kept


def _stated(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: None if name == "python" else _stated(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_stated(each) for each in value]
    found = STATED.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else found[1]


def fingerprint(model: Path) -> str:
    """Give one hash of what a logged model is, for the table: MD5 of what is compared of it."""
    total = md5(usedforsecurity=False)
    for name, path in proof.files(model).items():
        said = _meant(path)
        total.update(name.encode())
        total.update(said if isinstance(said, bytes) else repr(said).encode())
    return total.hexdigest()


def unlike_copies(run: Path, tree: Path) -> list[str]:
    """Name the artifacts of the run that are not as they came out anew."""
    found = []
    for name, output in COPIES.items():
        ours = tree / output if (tree / output).name == name else tree / output / Path(name).name
        if not (run / name).exists() or not ours.exists():
            continue
        if (where := differences.first(run / name, ours)) is not None:
            found.append(f"run: artifact {name} differs: {where}")
    return found


def not_made(rows: list[Row]) -> list[str]:
    """Name the outputs that were to come out, and did not."""
    return [f"{row.stage} has not made {row.output}" for row in rows if row.got == NOT_MADE]


def first_difference(
    rows: list[Row], run: Path, tree: Path, objects: Objects, place: Path
) -> list[str]:
    """Say in which stage it parts, and what differs there first.

    run    copies of outputs that the run keeps, where the cache has lost them
    place  where to lay out what was recorded
    """
    row = next((each for each in rows if each.is_other), None)
    if row is None or row.got == NOT_MADE:
        return []
    said = f"{row.stage} is the first stage that comes out otherwise: {row.output}"
    expected = place / row.output
    if not _brought(objects, row.expected, expected):
        shutil.rmtree(expected, ignore_errors=True)
        expected = run / row.stage
        if not expected.exists() or content.of(expected) != row.expected:
            return [f"{said}; the bytes of then are nowhere any more"]
    try:
        where = differences.first(expected, tree / row.output)
    except StageError as error:
        where = str(error)
    return [f"{said}: {where}"]
