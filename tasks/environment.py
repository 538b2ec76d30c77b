"""What a result was computed on, as short texts for the record; never part of an output."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path("requirements.lock")
NONE = "none"
CPU_FACTS = Path("/proc/cpuinfo")

VARIABLES = (
    *("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("RAYON_NUM_THREADS", "PYTHONHASHSEED", "TZ", "LC_ALL", "GLIBC_TUNABLES", "DNNL_MAX_CPU_ISA"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
)
"""Variables that a careless computation depends on, beside those that `pins` of params.yaml set."""

INSTRUCTIONS = re.compile(r"avx\w*|fma|f16c|amx\w*|sve\w*|asimd\w*|bf16")
"""Sets of instructions that numeric libraries choose by, as Linux spells them."""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


def describe(lock: Path = LOCK) -> dict[str, str]:
    """Name CPU, GPU and its driver, Python, image tag, variables and the lock's SHA-256.

    "none" where there is no GPU, no image, no variable; `VERBATIM_IMAGE` is set inside an image.
    """
    gpu, driver = gpu_and_driver()
    return {
        "cpu": cpu(),
        "cpu_count": str(os.cpu_count()),
        "cpu_features": cpu_features(),
        "usable_cpus": str(usable_cpus()),
        "variables": variables(),
        "gpu": gpu,
        "gpu_driver": driver,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "image": os.environ.get("VERBATIM_IMAGE") or NONE,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
    }


def git_commit() -> str:
    """Give the commit that the image was built from; "" outside an image, or if none was told."""
    told = os.environ.get("VERBATIM_GIT_COMMIT", "")
    return "" if told == "unknown" else told


def cpu(facts: Path = CPU_FACTS) -> str:
    """Give the CPU's model name, or its architecture where Linux does not tell."""
    named = re.search(r"^model name\s*:\s*(.+)$", facts.read_text(), re.MULTILINE)
    return named[1] if named else platform.machine()


def cpu_features(facts: Path = CPU_FACTS) -> str:
    """Give the sets of instructions that libraries choose by; "none" if Linux tells none."""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", facts.read_text(), re.MULTILINE)
    known = sorted(filter(INSTRUCTIONS.fullmatch, flags[1].split())) if flags else []
    return " ".join(known) or NONE


def usable_cpus() -> int:
    """Give how many processors this process may use: by so many threads libraries compute."""
    return len(os.sched_getaffinity(0))


def variables() -> str:
    """Give those of `VARIABLES` that are set, as `name=value`; "none" if none is."""
    return (
        " ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ) or NONE
    )


def gpu_and_driver() -> tuple[str, str]:
    """Ask the NVIDIA driver for the GPUs' names, each once with its number, and its own version."""
    if shutil.which("nvidia-smi") is None:
        return NONE, NONE
    answer = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    found = [line.rsplit(", ", 1) for line in answer.stdout.splitlines() if ", " in line]
    if answer.returncode != 0 or not found:
        return NONE, NONE
    counts = Counter(name for name, _ in found)
    gpus = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
    return ", ".join(gpus), found[0][1]


def installed() -> dict[str, str]:
    """Give the version of every installed package, by name."""
    found = {each.metadata["Name"].lower(): each.version for each in distributions()}
    return dict(sorted(found.items()))


def pins(lock: Path = LOCK) -> dict[str, str]:
    """Give the version that the lock pins for each package, by normalised name."""
    return {normal(name): version for name, version in _PIN.findall(lock.read_text("utf-8"))}


def normal(name: str) -> str:
    """Spell a package name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()
