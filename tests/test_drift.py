import math

import numpy as np
import pytest

from tasks import drift
from tasks.encoder import Dataset


def normal(seed: int, rows: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, rows)


def test_the_same_distribution_does_not_drift_and_a_shifted_one_does() -> None:
    assert drift.psi_of_numbers(normal(0, 5000), normal(1, 5000)) < 0.02
    assert drift.psi_of_numbers(normal(0, 5000), normal(1, 5000, 0.5)) > 0.15
    assert drift.psi_of_numbers(normal(0, 5000), normal(1, 5000, 1)) > 0.7


def test_two_bins_by_hand() -> None:
    expected, actual = np.repeat([0.0, 1.0], 1000), np.repeat([0.0, 1.0], [1500, 500])
    first, second = 1000.5 / 2001, 1500.5 / 2001
    by_hand = (first - second) * math.log(first / second) + (second - first) * math.log(
        (1 - first) / (1 - second)
    )
    assert drift.psi_of_numbers(expected, actual) == pytest.approx(by_hand)
    assert drift.psi(np.array([1000, 1000]), np.array([1500, 500])) == pytest.approx(by_hand)


def test_a_bin_without_rows_tells_nothing() -> None:
    assert drift.psi(np.array([500, 500, 0]), np.array([2, 2, 0])) == 0
    assert drift.psi(np.array([500, 500, 0]), np.array([200, 200, 4])) > 0.03


def test_values_that_go_missing_are_drift() -> None:
    whole = normal(0, 2000)
    holed = np.where(np.arange(2000) % 2, np.nan, whole)
    assert drift.psi_of_numbers(whole, holed) > 1
    assert drift.psi_of_numbers(holed, holed) == 0


def test_a_changed_unit_is_drift() -> None:
    cents = np.exp(normal(0, 2000, 7))
    assert drift.psi_of_numbers(cents, cents / 100) > 1


@pytest.mark.parametrize("values", [np.zeros(100), np.full(100, np.nan)])
def test_a_constant_does_not_drift(values: np.ndarray) -> None:
    assert drift.psi_of_numbers(values, values[:60]) == pytest.approx(0, abs=0.01)


def test_a_small_sample_of_the_same_distribution_stays_under_the_usual_bound() -> None:
    found = [
        drift.psi_of_numbers(normal(seed, 340), normal(1000 + seed, 110)) for seed in range(50)
    ]
    assert max(found) < 0.25


def test_categories_that_swap_or_appear_drift() -> None:
    codes = np.repeat([2, 3, 4], [500, 300, 200])
    assert drift.psi_of_codes(codes, codes[::-1]) == 0
    assert drift.psi_of_codes(codes, np.repeat([2, 3, 4], [200, 300, 500])) > 0.25
    assert drift.psi_of_codes(codes, np.repeat([2, 3, 4, 1], [350, 210, 140, 300])) > 0.25


def test_many_rare_categories_are_not_drift_by_chance() -> None:
    first, second = (np.random.default_rng(seed).integers(2, 900, 1000) for seed in (0, 1))
    assert drift.psi_of_codes(first, second) < 0.1


def test_every_feature_is_named_in_order() -> None:
    def part(shift: float) -> Dataset:
        numeric = np.column_stack([normal(0, 500), normal(1, 500) + shift]).astype(np.float32)
        codes = np.full((500, 1), 2, np.int32)
        return Dataset(numeric, codes, None, ("still", "moved", "kind"), (3,))

    found = drift.of_features(part(0), part(3))
    assert list(found) == ["still", "moved", "kind"]
    assert found["still"] == found["kind"] == 0
    assert found["moved"] > 1
