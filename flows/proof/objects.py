"""What the checkout's DVC cache and remote hold, by hash; nothing is written there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from tasks import content


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
        """Lay out an output as its hash says, from cache or remote; tell whether all was there."""
        if not md5.endswith(content.FOLDER):
            return self._bring(md5, target)
        listed = target.with_name(f"{target.name}.list")
        if not self._bring(md5, listed):
            return False
        names = content.listed(listed.read_bytes())
        listed.unlink()
        found = [self._bring(each, target / name) for name, each in names.items()]
        return all(found)

    def _bring(self, md5: str, target: Path) -> bool:
        target.parent.mkdir(parents=True, exist_ok=True)
        if (place := self.place(md5)).exists() and not _damaged(place, md5):
            shutil.copyfile(place, target)
            return True
        if (remote := self._remote()) is not None:
            try:
                remote.fs.get_file(remote.oid_to_path(md5), str(target))
            except Exception:  # noqa: BLE001 - each kind of remote has kinds of its own
                return False
            return not _damaged(target, md5)
        return False

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
