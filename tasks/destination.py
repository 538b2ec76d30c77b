"""A folder, here or at an `s3://` address, whose files are written whole, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tasks import lake

KEY = "score.destination"
"""Where params.yaml says where that is."""


@dataclass(frozen=True)
class Destination:
    """Where files go; credentials come from the environment.

    What is done raises StageError if it is out of reach, TemporaryError if that may pass.
    """

    address: str

    def below(self, *names: str) -> Destination:
        """Give a folder below."""
        return Destination("/".join([self.address.rstrip("/"), *names]))

    def read(self) -> dict[str, bytes]:
        """Give the content of each file by its name; none if there is no such folder."""
        with self._opened() as (system, root):
            names = system.find(root)
            return {name.removeprefix(f"{root}/"): system.cat_file(name) for name in names}

    def clear(self) -> None:
        """Remove all there is."""
        with self._opened() as (system, root):
            if system.find(root):
                system.rm(root, recursive=True)

    def write(self, name: str, data: bytes) -> None:
        """Write one file, over one of its name."""
        with self._opened() as (system, root):
            if isinstance(system, LocalFileSystem):  # elsewhere there are no folders to be made
                system.makedirs(root, exist_ok=True)
            system.pipe_file(f"{root}/{name}", data)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, str]]:
        try:
            system, root = fsspec.core.url_to_fs(self.address)
            system.invalidate_cache()  # others may have written since it was listed
            yield system, root
        except Exception as error:  # botocore, fsspec and the operating system each have their own
            raise lake.unreachable(self.address, error, KEY) from error
