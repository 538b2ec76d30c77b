"""The validation scores of trials, as they are kept from one command of a sweep to the next."""

from pathlib import Path

import numpy as np

from flows.sweep.scores import Scores

X = {"x": 1.5}


def test_they_are_read_back_as_they_were_kept(tmp_path: Path):
    scores = np.array([0.1, 0.5, 1.0], np.float32)
    Scores("a-study", tmp_path).keep(3, X, scores)
    found = Scores("a-study", tmp_path).of(3, X)
    assert found is not None
    assert found.dtype == np.float64
    assert np.array_equal(found, scores)
    (file,) = (tmp_path / "a-study").iterdir()
    assert file.suffix == ".safetensors"


def test_what_is_not_here_is_none(tmp_path: Path):
    Scores("a-study", tmp_path).keep(3, X, np.array([0.5], np.float32))
    assert Scores("a-study", tmp_path).of(4, X) is None
    assert Scores("a-study", tmp_path).of(3, {"x": 2}) is None, "another storage's trial"
    assert Scores("another", tmp_path).of(3, X) is None


def test_the_last_ones_count(tmp_path: Path):
    kept = Scores("a-study", tmp_path)
    for value in (0.25, 0.5):
        kept.keep(0, X, np.array([value], np.float32))
    assert np.array_equal(kept.of(0, X), [0.5])
