"""What the checkout's DVC cache and remote hold, by hash; nothing is written there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from flows import remote_errors
from flows.proof.tree import leading_out
from tasks import content
from tasks.errors import TemporaryError


class Objects:
    """The cache and the default remote of the checkout in `root`.

    site  where DVC may keep what it would keep elsewhere
    """

    def __init__(self, root: Path, site: Path) -> None:
        self.repo = Repo(str(root), config={"core": {"site_cache_dir": str(site)}})

    def place(self, md5: str) -> Path:
        """Say where the cache has an object, if it has it."""
        return Path(self.repo.cache.local.oid_to_path(md5))

    def damage(self, outputs: Mapping[str, str]) -> list[str]:
        """Name the objects of these outputs whose bytes in the cache are not what their name says.

        What the cache lacks is no damage: it can be made again.
        """
        faults = []
        for path, md5 in outputs.items():
            wanted = {path: md5, **{f"{path}/{name}": each for name, each in self._list(md5)}}
            for name, each in wanted.items():
                if (found := _damaged(self.place(each), each)) is not None:
                    faults.append(f"DVC's cache: {name}: {found}")
        return faults

    def listing(self, md5: str) -> dict[str, str] | None:
        """Give the hashes of a folder's files by name, from the cache; None if it has no list."""
        place = self.place(md5)
        if not md5.endswith(content.FOLDER) or not place.exists() or _damaged(place, md5):
            return None
        return content.listed(place.read_bytes())

    def bring(self, md5: str, target: Path) -> bool:
        """Lay out an output as its hash says, from cache or remote; tell whether all was there.

        Raises TemporaryError if the remote does not answer.
        """
        if not md5.endswith(content.FOLDER):
            return self._bring(md5, target)
        listed = target.with_name(f"{target.name}.list")
        if not self._bring(md5, listed):
            return False
        names = content.listed(listed.read_bytes())
        listed.unlink()
        if leading_out(target, names):
            return False
        found = [self._bring(each, target / name) for name, each in names.items()]
        return all(found)

    def _bring(self, md5: str, target: Path) -> bool:
        target.parent.mkdir(parents=True, exist_ok=True)
        if (place := self.place(md5)).exists() and not _damaged(place, md5):
            shutil.copyfile(place, target)
            return True
        try:
            if (remote := self._remote()) is None:
                return False
            remote.fs.get_file(remote.oid_to_path(md5), str(target))
        except FileNotFoundError:
            return False
        except Exception as error:  # each kind of remote has kinds of its own
            raise self._away(error) from error
        return not _damaged(target, md5)

    def _away(self, error: Exception) -> TemporaryError:
        """Tell that the remote cannot be asked, which says nothing of what it holds."""
        name = self.repo.config["core"].get("remote", "")
        message = f"DVC's remote {name}: must answer (got {type(error).__name__}: {error})"
        settings = self.repo.config["remote"].get(name, {})
        _, next_step = remote_errors.advice(error)
        return TemporaryError(f"{remote_errors.discreet(message, settings)}\nnext: {next_step}")

    def _list(self, md5: str) -> list[tuple[str, str]]:
        return list((self.listing(md5) or {}).items())

    def _remote(self) -> Any:
        """Give the default remote's store; None if there is none."""
        return self.repo.cloud.get_remote_odb() if self.repo.config["core"].get("remote") else None


def _damaged(place: Path, md5: str) -> str | None:
    """Say how a file differs from the hash it goes by; None if it does not, or is not there."""
    if not place.exists():
        return None
    found = content.of(place)
    wanted = md5.removesuffix(content.FOLDER)
    return None if found == wanted else f"{place} must have the MD5 {wanted} (got {found})"
