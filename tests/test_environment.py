from pathlib import Path

import pytest
from left_behind import ROOT

from tasks import environment
from tasks.differences import machines


@pytest.mark.parametrize(("told", "known"), [("verbatim:01ab", "verbatim:01ab"), ("", "none")])
def test_image_is_named_as_it_was_built(
    monkeypatch: pytest.MonkeyPatch, told: str, known: str
) -> None:
    monkeypatch.setenv("VERBATIM_IMAGE", told)
    assert environment.describe(ROOT / "requirements.lock")["image"] == known


def test_pins_are_found_by_normal_names(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("Ruamel.YAML==0.18.1 ; python_version > '3'\n    # via dvc\nnumpy==2.4.0 \\\n")
    assert environment.pins(lock) == {"ruamel-yaml": "0.18.1", "numpy": "2.4.0"}


def test_processor_without_a_name_is_known_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "named").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")
    (tmp_path / "nameless").write_text("processor\t: 0\n")
    assert environment.cpu(tmp_path / "named") == "Some CPU @ 3 GHz"
    assert environment.cpu(tmp_path / "nameless")


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        ("flags\t\t: fpu sse2 fma avx2 avx avx512f\n", "avx avx2 avx512f fma"),
        ("Features\t: fp asimd sve bf16 aes\n", "asimd bf16 sve"),
        ("processor\t: 0\nflags\t: fpu\n", "none"),
        ("", "none"),
    ],
)
def test_instructions_are_those_that_libraries_choose_by(
    tmp_path: Path, facts: str, known: str
) -> None:
    (tmp_path / "cpuinfo").write_text(facts)
    assert environment.cpu_features(tmp_path / "cpuinfo") == known


def test_variables_that_results_may_depend_on_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert environment.variables() == "none"
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert environment.variables() == "OMP_NUM_THREADS=4 TZ=UTC"


def test_what_is_described_is_what_causes_are_told_by() -> None:
    described = environment.describe(ROOT / "requirements.lock").keys()
    assert described == {*machines.BEFORE_LIBRARIES, *machines.AFTER_LIBRARIES}


SMI = """#!/bin/sh
[ "$*" = "--query-gpu=name,driver_version --format=csv,noheader" ] || exit 2
echo '{answer}'
exit {status}
"""


@pytest.mark.parametrize(
    ("answer", "status", "known"),
    [
        ("NVIDIA H100, 570.86.15", 0, ("NVIDIA H100", "570.86.15")),
        ("A, 1\nB, 1\nA, 1", 0, ("2 x A, B", "1")),
        ("A, of its kind, 1", 0, ("A, of its kind", "1")),
        ("No devices were found", 6, ("none", "none")),
        ("", 0, ("none", "none")),
    ],
)
def test_gpus_are_named_as_the_driver_names_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, status: int, known: object
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI.format(answer=answer, status=status))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.gpu_and_driver() == known
