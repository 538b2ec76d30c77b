"""What determines a training, in one hash: what was kept of it is of use to no other."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import environment, processes

CODE = Path(__file__).parent

PINS = ("MKL_CBWR", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
"""Variables by which libraries choose instructions, and so the last bits of results."""


def of(featurize_folder: Path, params: Mapping[str, Any], circumstances: Mapping[str, str]) -> str:
    """Hash data, parameters, code, the environment's lock and the circumstances, in hex.

    It is the same wherever the folder and the code lie.
    """
    found = hashlib.sha256(json.dumps([params, circumstances], sort_keys=True).encode())
    data = [path for path in featurize_folder.rglob("*") if path.is_file()]
    for root, paths in ((featurize_folder, data), (CODE, CODE.rglob("*.py"))):
        for path in sorted(paths):
            found.update(f"\n{path.relative_to(root)} {_digest(path)}".encode())
    found.update(_digest(CODE.parent / "requirements.lock").encode())
    return found.hexdigest()


def circumstances(device: str, *, deterministic: bool) -> dict[str, str]:
    """Tell what the bits depend on beside the inputs: where, and by how many processes.

    Of a GPU that is the card and its driver, unless the learner promises nothing there.
    """
    promised = device == "cuda" and deterministic
    card, driver = environment.gpu_and_driver() if promised else ("", "")
    return {
        "device": device,
        "card": card,
        "driver": driver,
        "processes": str(processes.count()),
        "python": platform.python_version(),
        **{name: os.environ.get(name, "") for name in PINS},
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
