"""Share results through DVC's default remote, `core.remote`: what was made here is found there.

It lays out the remote as `dvc push --run-cache` does, so that each finds what the other left. What
differs: only the stage at hand is looked up, and not a run cache of thousands; what arrives counts
only if its hash is right; and a transfer that fails is an error, where DVC logs a traceback, may
leave a torn file in the cache, and computes anew. Without a default remote nothing is touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile

from flows.remote_errors import DamageError, RemoteError, advice, discreet, reasons

SHARED = Path(".verbatim/shared")
"""Per stage, a mark of the result that the remote is known to hold: it needs no question."""


class Remote:
    """The default remote of a repository; if it has none, nothing is found, and nothing is kept."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.name: str | None = repo.config["core"].get("remote") or None

    def fetch(self, stage: PipelineStage) -> bool:
        """Bring the result of a stage into the local cache; tell whether it came.

        It does not if the local cache has it already, or the remote has never seen it. `stage` is
        changed. Raises RemoteError if the remote cannot be asked, or what it holds is damaged.
        """
        if self.name is None:
            return False
        made = self._recorded(stage)
        if made is None or made.outs_cached():
            return False
        with self._asking(stage, "its result must be fetched from"):
            return self._fetch_objects(made)

    def brings(self, stage: PipelineStage) -> bool:
        """Tell whether the result of a stage is in the local cache, fetched if it was not."""
        made = self._recorded(stage)
        return made is not None and (made.outs_cached() or self.fetch(stage))

    def push(self, stage: PipelineStage) -> None:
        """Make sure that the remote holds the result of a stage that is up to date.

        First the files, then the line of the run cache that names them. Raises RemoteError if the
        remote cannot be written.
        """
        if self.name is None:
            return
        mark = SHARED / stage.addressing
        known = self._digest(stage)
        if mark.exists() and mark.read_text(encoding="utf-8") == known:
            return
        with self._asking(stage, "its result must be pushed to"):
            self._push_objects(stage)
            self._push_entry(stage)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(known, encoding="utf-8")

    def _recorded(self, stage: PipelineStage) -> PipelineStage | None:
        """Give the stage with the outputs that `dvc.lock` or a run cache knows for its inputs."""
        if is_locked(stage):
            return stage
        if not _can_hash(stage):
            return None
        stage.save_deps()
        with self._asking(stage, "earlier results must be looked up at"):
            self._fetch_entries(_get_stage_hash(stage))
        cache = self.repo.stage_cache
        entry = cache._load(stage)  # noqa: SLF001 - DVC's only way to one entry
        return entry and cache._create_stage(entry, wdir=stage.wdir)  # noqa: SLF001

    def _fetch_entries(self, key: str) -> None:
        """Copy the run cache's lines for one key, unless this one has any."""
        from dvc_objects.fs import generic
        from dvc_objects.fs.local import localfs

        folder = self._entries(key)
        if folder.is_dir() and any(folder.iterdir()):
            return
        place = self._opened.legacy_odb
        for line in place.fs.find(place.fs.join(place.path, *_parts(key))):
            generic.copy(place.fs, line, localfs, str(folder / place.fs.name(line)))

    def _push_entry(self, stage: PipelineStage) -> None:
        from dvc_objects.fs import generic
        from dvc_objects.fs.local import localfs

        self.repo.stage_cache.save(stage)  # a result of `dvc.lock` alone has no line yet
        if not _can_hash(stage):
            return
        key, place = _get_stage_hash(stage), self._opened.legacy_odb
        line = _get_cache_hash(to_single_stage_lockfile(stage))
        target = place.fs.join(place.path, *_parts(key), line)
        generic.copy(localfs, str(self._entries(key) / line), place.fs, target)

    def _fetch_objects(self, made: PipelineStage) -> bool:
        from dvc_data.hashfile.status import status
        from dvc_objects.errors import ObjectFormatError

        source, cache = self._opened.odb, self.repo.cache.local
        try:
            absent = self._transfer(source, cache, made, cache_odb=source)
        except FileNotFoundError:  # the list of a folder
            return False
        except ObjectFormatError as error:
            raise DamageError(str(error)) from error
        refused = status(cache, _hashes(made), shallow=False).missing - absent
        if refused:
            places = [source.oid_to_path(each.value) for each in refused]
            raise DamageError(", ".join(sorted(places)))
        return not absent

    def _push_objects(self, stage: PipelineStage) -> None:
        from dvc_data.hashfile.db import get_index

        cache, target = self.repo.cache.local, self._opened.odb
        options = {"cache_odb": cache, "dest_index": get_index(target)}
        if absent := self._transfer(cache, target, stage, **options):
            raise OSError(f"{len(absent)} files are neither in the cache nor there")

    def _transfer(self, source: Any, target: Any, stage: PipelineStage, **options: Any) -> set[Any]:
        """Copy a stage's outputs, folders and their files; give what is absent on both sides."""
        wanted, absent = _hashes(stage), set[Any]()

        def see(status: Any) -> None:
            absent.update(status.missing)

        options |= {"shallow": False, "verify": target is self.repo.cache.local}
        with reasons() as found:
            done = self.repo.cloud.transfer(source, target, wanted, validate_status=see, **options)
        if done.failed:
            raise found[0] if found else OSError(f"{len(done.failed)} files did not arrive")
        return absent

    def _entries(self, key: str) -> Path:
        return Path(self.repo.cache.legacy.path, *_parts(key))

    def _digest(self, stage: PipelineStage) -> str:
        """Name a result at a place, without saying which."""
        made = _get_cache_hash(to_single_stage_lockfile(stage))
        return hashlib.sha256(f"{self._url} {made}".encode()).hexdigest()

    @property
    def _url(self) -> str:
        return str(self.repo.config["remote"].get(self.name, {}).get("url", self.name))

    @cached_property
    def _opened(self) -> Any:
        """Connect; what DVC would make by itself, an S3 bucket with a mistyped name, must exist."""
        remote = self.repo.cloud.get_remote(self.name)
        if remote.fs.protocol == "s3":
            bucket = remote.path.split("/")[0]
            remote.fs.fs.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
        return remote

    @contextmanager
    def _asking(self, stage: PipelineStage, purpose: str) -> Iterator[None]:
        """Raise RemoteError for whatever the remote raises."""
        try:
            if "_opened" in self.__dict__:
                self._opened.fs.fs.invalidate_cache()  # others write there, too
            yield
        except Exception as error:  # noqa: BLE001 - each kind of remote has kinds of its own
            where = f"{stage.addressing}: {purpose} {self._url}, the remote {self.name!r}"
            reason = f"{type(error).__name__}: {error}"
            may_pass, todo = advice(error)
            settings = self.repo.config["remote"].get(self.name, {})
            message = discreet(f"{where} (got {reason})\nnext: {todo}", settings)
            # not from its cause, which may say what must not be logged
            raise RemoteError(message, may_pass=may_pass) from None


def is_locked(stage: PipelineStage) -> bool:
    """Tell whether `dvc.lock` knows the outputs that follow from what the stage reads now."""
    known = all(bool(out.hash_info) for out in stage.outs)
    return known and not stage.changed_stage() and stage.deps_cached()


def _parts(key: str) -> tuple[str, str, str]:
    return "runs", key[:2], key


def _hashes(stage: PipelineStage) -> set[Any]:
    return {out.hash_info for out in stage.outs if out.use_cache}
