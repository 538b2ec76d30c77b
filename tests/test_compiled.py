"""Compiled modules beside stored code are those of their sources, or named."""

import importlib.util
import py_compile
from pathlib import Path

from tasks import compiled

SOURCE = "def found():\n    return 1.0, -0.0, {'a', 'b'}\n"


def compile_as(source: Path, text: str, **how: object) -> Path:
    """Compile another text to where Python looks for what it has compiled of a source."""
    other = source.with_name("other.py")
    other.write_text(text)
    target = py_compile.compile(str(other), importlib.util.cache_from_source(str(source)), **how)
    other.unlink()
    return Path(target)


def test_what_python_has_compiled_is_no_fault(tmp_path: Path):
    source = tmp_path / "it.py"
    source.write_text(SOURCE)
    for level in (0, 1, 2):
        py_compile.compile(str(source), optimize=level)
    assert list(compiled.faults(tmp_path)) == []
    assert len([*filter(compiled.is_compiled, tmp_path.rglob("*"))]) == 3


def test_what_is_not_compiled_of_its_source_is_named(tmp_path: Path):
    source = tmp_path / "it.py"
    source.write_text(SOURCE)
    place = compile_as(source, SOURCE.replace("1.0", "2.0"))
    (said,) = compiled.faults(tmp_path)
    assert said.endswith("is not what it.py compiles to")
    place.write_bytes(place.read_bytes()[:20])
    assert [*compiled.faults(tmp_path)] == [said]
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compile_as(source, SOURCE, invalidation_mode=mode)
    assert "it is marked as not to be checked" in next(compiled.faults(tmp_path))
    source.unlink()
    assert "there is no it.py" in next(compiled.faults(tmp_path))


def test_only_what_python_puts_there_is_taken_for_compiled(tmp_path: Path):
    assert not compiled.is_compiled(tmp_path / "it.pyc")
    assert not compiled.is_compiled(tmp_path / "__pycache__/it.py")
    assert not compiled.is_compiled(tmp_path / "__pycache__/it.pyc")
