"""What each trial says of each validation row: how sure an improvement is follows from these.

They are a convenience: what is missing, as after a sweep that went on elsewhere, is computed anew
where it is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(".verbatim/sweeps")


class Scores:
    """The validation scores of the trials of one study."""

    def __init__(self, study: str, folder: Path = FOLDER) -> None:
        self._folder = folder / study

    def keep(self, number: int, params: Mapping[str, Any], scores: NDArray[np.float32]) -> None:
        """Keep those of a trial with these parameters, [rows]."""
        from safetensors.numpy import save

        path = self._path(number, params)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(save({"score": scores}))
        partial.replace(path)

    def of(self, number: int, params: Mapping[str, Any]) -> NDArray[np.float64] | None:
        """Give those of a trial, [rows], if they are here."""
        from safetensors.numpy import load

        path = self._path(number, params)
        if not path.exists():
            return None
        return load(path.read_bytes())["score"].astype(np.float64)

    def _path(self, number: int, params: Mapping[str, Any]) -> Path:
        """Name the file by the parameters too: in another storage a number is another trial's."""
        content = json.dumps(dict(params), sort_keys=True).encode()
        return self._folder / f"{number}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
