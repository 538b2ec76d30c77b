import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn.isotonic import IsotonicRegression

from tasks import baselines, metrics
from tasks.encoder import Dataset


def dataset(target: ArrayLike, **numbers: ArrayLike) -> Dataset:
    labels = np.array(target, np.float32)
    numeric = np.array(list(numbers.values()), np.float32).reshape(len(numbers), len(labels)).T
    codes = np.empty((len(labels), 0), np.int32)
    return Dataset(numeric, codes, labels, tuple(numbers), ())


def test_the_base_rate_is_the_share_of_positives() -> None:
    assert baselines.base_rate(dataset([1, 1, 1, 0], a=[0, 0, 0, 0])) == 0.75


def test_the_best_number_is_chosen_whichever_way_it_points() -> None:
    target = [0, 0, 0, 1, 1, 1]
    fitted = baselines.fit_one_feature(
        dataset(target, noise=[1, 5, 2, 1, 4, 3], falling=[9, 8, 7, 3, 2, 1], flat=[1] * 6)
    )
    assert fitted is not None
    assert (fitted.name, fitted.sign) == ("falling", -1)
    # three positives and one example of the base rate: (3 + 0.5) / 4
    scores = fitted.predict(dataset([0, 0], noise=[0, 0], falling=[100, 0], flat=[0, 0]))
    assert scores.tolist() == [0.125, 0.875]


def test_a_missing_value_has_a_rate_of_its_own() -> None:
    nan = float("nan")
    train = dataset([0, 0, 1, 1, 1, 1], a=[1, 2, 3, 4, nan, nan])
    fitted = baselines.fit_one_feature(train)
    assert fitted is not None
    assert fitted.predict(train)[4] == pytest.approx((2 + 4 / 6) / 3)


def test_nothing_to_go_by_is_no_model() -> None:
    assert baselines.fit_one_feature(dataset([0, 1])) is None
    assert baselines.fit_one_feature(dataset([0, 1], flat=[3, 3])) is None
    assert baselines.fit_one_feature(dataset([0, 1], empty=[np.nan, np.nan])) is None


@given(st.integers(0, 2**32 - 1))
def test_the_steps_are_those_of_isotonic_regression(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 12, 80).astype(np.float64)
    target = (generator.random(80) < values / 15).astype(np.int64)
    starts, positives, rows = baselines._isotonic(target, values)
    mine = (positives / rows)[np.searchsorted(starts, values, side="right") - 1]
    assert mine == pytest.approx(IsotonicRegression().fit_transform(values, target))
    assert rows.sum() == 80


@given(st.integers(0, 2**32 - 1))
def test_row_order_does_not_change_a_bit(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=50)
    target = (generator.random(50) < 0.5).astype(np.int64)
    order = generator.permutation(50)
    first = baselines.fit_one_feature(dataset(target, a=values))
    second = baselines.fit_one_feature(dataset(target[order], a=values[order]))
    assert repr(first) == repr(second)


def test_the_model_ranks_unseen_rows_as_well_as_its_feature() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2, 4000))
    target = (generator.random((2, 4000)) < 1 / (1 + np.exp(-values))).astype(np.int64)
    fitted = baselines.fit_one_feature(dataset(target[0], a=values[0]))
    assert fitted is not None
    unseen = dataset(target[1], a=values[1])
    auc = metrics.roc_auc(metrics.tally(target[1], fitted.predict(unseen)))
    assert auc == pytest.approx(metrics.roc_auc(metrics.tally(target[1], values[1])), abs=0.01)
