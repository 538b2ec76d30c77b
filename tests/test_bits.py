"""Vary all that must not matter, and compare every output hash, stage by stage."""

import subprocess
from pathlib import Path

import pytest
from conftest import copy_checkout

from tasks import files

ROOT = Path(__file__).parent.parent
VARIATIONS = {
    "one thread": {
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
        "PYTHONHASHSEED": "random",
        "TZ": "Pacific/Kiritimati",
        "LANG": "C",
    },
    "two threads": {
        "OMP_NUM_THREADS": "2",
        "POLARS_MAX_THREADS": "2",
        "PYTHONHASHSEED": "7",
        "TZ": "America/St_Johns",
        "LC_ALL": "C.UTF-8",
    },
    "eight threads": {
        "OMP_NUM_THREADS": "8",
        "POLARS_MAX_THREADS": "8",
        "PYTHONHASHSEED": "random",
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "POSIX",
    },
}
UMASKS = {"one thread": 0o077, "two threads": 0o002, "eight threads": 0o027}


def outputs(lock: Path) -> dict[str, str]:
    stages = files.read_yaml(lock)["stages"]
    return {name: stage["outs"][0]["md5"] for name, stage in stages.items()}


@pytest.mark.parametrize("variation", VARIATIONS)
def test_every_output_is_the_same(variation: str, environment, tmp_path: Path):
    checkout = copy_checkout(tmp_path / variation.replace(" ", "-") / "elsewhere")
    (checkout / "dvc.lock").unlink()
    done = subprocess.run(
        ["dvc", "repro"],
        cwd=checkout,
        env={**environment, **VARIATIONS[variation]},
        umask=UMASKS[variation],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = outputs(ROOT / "dvc.lock")
    found = outputs(checkout / "dvc.lock")
    for stage in expected:
        assert found[stage] == expected[stage], stage
