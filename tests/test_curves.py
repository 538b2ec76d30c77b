import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import curves, metrics


def tally(rows: int) -> metrics.Tally:
    generator = np.random.default_rng(0)
    score = generator.random(rows)
    return metrics.tally((generator.random(rows) < score).astype(np.int8), score)


@given(st.integers(0, 3000), st.integers(1, 300))
def test_positions_are_few_ascending_and_include_both_ends(rows: int, wanted: int) -> None:
    kept = curves.spaced(rows, wanted)
    assert len(kept) == min(rows, wanted)
    assert (np.diff(kept) > 0).all()
    if rows and wanted > 1:
        assert (kept[0], kept[-1]) == (0, rows - 1)


def test_a_long_curve_keeps_its_ends_and_200_points() -> None:
    points = curves.roc(tally(5000))
    assert len(points) == curves.MOST_POINTS
    assert points[0] == {"false_positive_rate": 0, "true_positive_rate": 0}
    assert points[-1] == {"false_positive_rate": 1, "true_positive_rate": 1}


def test_a_short_curve_is_kept_whole() -> None:
    assert len(curves.precision_recall(tally(20))) == 20
    assert curves.calibration(tally(20), 4)[0].keys() == {"score", "observed", "rows"}


@pytest.mark.parametrize("rows", [7, 1000, 4321])
def test_confusion_points_stand_for_the_rows_in_proportion(rows: int) -> None:
    points = curves.confusion(tally(rows), 0.5, "churned")
    assert len(points) == min(rows, curves.MOST_ROWS)
    matrix = metrics.confusion(tally(rows), 0.5)
    names = ["not churned", "churned"]
    for (actual, predicted), count in np.ndenumerate(matrix):
        cell = {"actual": names[actual], "predicted": names[predicted]}
        assert points.count(cell) == pytest.approx(count * len(points) / rows, abs=1)
