from pathlib import Path

import pytest
from left_behind import ROOT

from tasks import environment


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
