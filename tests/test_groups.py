"""Tests that share a server, a model or a port are those of one worker."""

import re
import subprocess
from pathlib import Path

GROUPED = """
import pytest

@pytest.mark.xdist_group("shared")
@pytest.mark.parametrize("number", range(6))
def test_one_of_some(number):
    assert number < 6
"""


def test_a_group_is_run_by_one_worker(tmp_path: Path) -> None:
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    command = ["python", "-m", "pytest", "-v", "--numprocesses=2", "--dist=loadgroup"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    workers = re.findall(r"\[(gw\d)\].* PASSED", done.stdout)
    assert len(workers) == 6
    assert len(set(workers)) == 1
