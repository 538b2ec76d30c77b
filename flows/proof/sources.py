"""Bring the source data of a model into a clean tree: what no stage makes, and git does not hold.

Only the files that the manifest names are brought, so a lake that has grown since is as good as the
one of then. What is gone, or is other than it was, is named; nothing is proven then.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from flows.proof.objects import Objects
from flows.proof.tree import git, leading_out
from tasks import content
from tasks.claim import Claim
from tasks.lake import unreachable


def outside(tree: Path, claim: Claim) -> list[str]:
    """Give the sources that are data of their own: the lake, and what git is told to leave out."""
    lake = str(claim.manifest.get("source", ""))
    return [
        path
        for path in claim.lineage.sources
        if "://" not in path
        and (
            (path == lake and Path(lake).is_absolute())
            or (not (tree / path).exists() and _is_data(tree, path, lake))
        )
    ]


def _is_data(tree: Path, path: str, lake: str) -> bool:
    return path == lake or _is_tracked(tree, path) or _is_ignored(tree, path)


def _is_tracked(tree: Path, path: str) -> bool:
    return _dvc_file(tree, path) is not None


def _dvc_file(tree: Path, path: str) -> Path | None:
    """Give the .dvc file of a commit that names this path, or a folder it lies in."""
    places = () if Path(path).is_absolute() else (Path(path), *Path(path).parents)
    files = (tree / f"{each}.dvc" for each in places if each.name)
    return next((file for file in files if file.is_file()), None)


def _is_ignored(tree: Path, path: str) -> bool:
    return git("check-ignore", "--quiet", path, cwd=tree).returncode == 0


def bring(tree: Path, claim: Claim, root: Path, objects: Objects) -> list[str]:
    """Bring each source into the tree; give what is gone, one thing a line.

    Raises TemporaryError if a store of files does not answer.
    """
    faults = []
    for path in outside(tree, claim):
        if Path(path).is_absolute():
            continue  # read in place
        if out := leading_out(tree.parent, [f"{tree.name}/{path}"]):
            faults += out
        elif _is_tracked(tree, path):
            faults += _pull(tree, path, objects)
        elif path == claim.manifest.get("source"):
            faults += list(_copy_lake(root, tree, path, claim.manifest))
        elif not _copy(root / path, tree / path, claim.lineage.sources[path]):
            faults.append(f"{path}: must be here as it was (MD5 {claim.lineage.sources[path]})")
    lake = str(claim.manifest.get("source", ""))
    if "://" in lake:
        faults += list(changed_remotely(lake, claim.manifest))
    elif Path(lake).is_absolute():
        faults += list(changed(Path(lake), lake, claim.manifest))
    return faults


def _pull(tree: Path, path: str, objects: Objects) -> list[str]:
    """Bring what a .dvc file names, from where the checkout's settings say."""
    try:
        file, outs = _named(tree, path)
    except DvcException as error:
        return [f"{path}: its .dvc file must be readable (got {error})"]
    for out in outs:
        if faults := leading_out(tree, [out.fs_path]):
            return faults
        if not (out.hash_info and objects.bring(out.hash_info.value, Path(out.fs_path))):
            return [f"{file}: neither the cache nor DVC's remote has what it names"]
    return []


def _named(tree: Path, path: str) -> tuple[str, list[Any]]:
    """Read what the .dvc file of a path names; raises DvcException."""
    file = _dvc_file(tree, path)
    if file is None:
        return "", []
    return str(file.relative_to(tree)), list(Repo(str(tree)).stage.load_one(str(file)).outs)


def unlike_commit(tree: Path, claim: Claim) -> list[str]:
    """Name the sources of which a .dvc file of the commit names other bytes than the record."""
    faults = []
    for path in outside(tree, claim):
        try:
            file, outs = _named(tree, path)
        except DvcException as error:
            faults.append(f"{path}: its .dvc file must be readable (got {error})")
            continue
        wanted = claim.lineage.sources[path]
        got = next(
            (out.hash_info.value for out in outs if Path(out.fs_path) == tree / path), wanted
        )
        if got != wanted:
            faults.append(f"{file} names {path} with the MD5 {got}, and it was {wanted}")
    return faults


def unlike_read(tree: Path, claim: Claim, read: Mapping[str, str]) -> list[str]:
    """Name the sources that stages have read with other bytes than they are recorded to have.

    read  hash of each path as the rebuild has recorded it

    Of a lake that DVC does not track only the files of its manifest were brought, and compared.
    """
    lake = str(claim.manifest.get("source", ""))
    return [
        f"{path} was read with the hash {read[path]}, and must have {md5}"
        for path, md5 in claim.lineage.sources.items()
        if read.get(path, md5) != md5
        and "://" not in path
        and (path != lake or _is_tracked(tree, path))
    ]


def _copy_lake(root: Path, tree: Path, source: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    is_one, names = (root / source).is_file(), [name for name, _ in _files(manifest)]
    faults = [] if is_one else leading_out(tree / source, names)
    faults = faults or list(changed(root / source, source, manifest))
    yield from faults
    if not faults:
        for name in names:
            target = _file(tree / source, name, is_one=is_one)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_file(root / source, name), target)


def _file(place: Path, name: str, *, is_one: bool = False) -> Path:
    return place if is_one or place.is_file() else place / name


def _files(manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(each["path"]), each) for each in manifest.get("files", [])]


def changed(place: Path, source: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Name the files of a manifest that are not in a folder as they were."""
    for name, known in _files(manifest):
        file, wanted = _file(place, name), known.get("sha256")
        if not file.is_file():
            yield f"{source}/{name}: is gone (SHA-256 {wanted})"
        elif (got := content.digest(file, "sha256")) != wanted:
            yield f"{source}/{name}: must have the SHA-256 {wanted} (got {got})"


def changed_remotely(source: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Name the files of a manifest that are not at an address as they were, by their ETags."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(source)
        there = system.find(root, detail=True)
    except FileNotFoundError:
        there, root = {}, ""
    except Exception as error:
        raise unreachable(source, error) from error
    for name, known in _files(manifest):
        info = there.get(f"{root}/{name}") or there.get(root)
        etag = str((info or {}).get("ETag", "")).strip('"')
        if info is None:
            yield f"{source}/{name}: is gone (ETag {known.get('etag')})"
        elif etag != known.get("etag"):
            yield f"{source}/{name}: must have the ETag {known.get('etag')} (got {etag})"


def _copy(found: Path, target: Path, md5: str) -> bool:
    if not found.exists() or content.of(found) != md5:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if found.is_dir() else shutil.copyfile)(found, target)
    return True


def damage(root: Path, claim: Claim, lock: Mapping[str, Any]) -> list[str]:
    """Name the files of the checkout's lake that were changed since a stage has made it.

    lock  of the checkout: it tells whether the lake that stands there is that of the claim
    """
    lake = str(claim.manifest.get("source", ""))
    outs = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])]
    here = next((out.get("md5") for out in outs if out["path"] == lake), None)
    if here is None or here != claim.lineage.outputs.get(lake) or not (root / lake).exists():
        return []
    return list(changed(root / lake, lake, claim.manifest))
