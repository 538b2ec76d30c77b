"""What the network is made of: its pieces, its loss, its calibration, and its state."""

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_network import NETWORK, SETTINGS, weights
from test_trees import TRAIN, VAL

from tasks.checkpoints import Checkpoints, Stop
from tasks.errors import Interrupted
from tasks.models.network import FittedNetwork, Network
from tasks.neural import architecture, calibration, computing
from tasks.neural.architecture import CategoricalEmbeddings, PiecewiseLinearEmbeddings, together
from tasks.neural.loss import ClassWeights
from tasks.neural.training import learning_rate


class TestPieces:
    def test_edges_are_values_that_occur(self) -> None:
        column = np.array([5, 1, 2, np.nan, 3, 4, 1], np.float32)
        (found,) = architecture.edges(column[:, None], 2)
        assert found.tolist() == [1, 2, 5]

    @pytest.mark.parametrize("column", [[7, 7, 7], [np.nan] * 3, [np.nan, 2, 2]])
    def test_a_column_that_never_varies_has_no_piece(self, column: list[float]) -> None:
        (found,) = architecture.edges(np.array(column, np.float32)[:, None], 4)
        assert len(found) < 2

    def test_a_number_passes_pieces_one_after_the_other_and_no_further(self) -> None:
        numbers = PiecewiseLinearEmbeddings((2,), 1)
        numbers.set_edges([np.array([0, 1, 3], np.float32)])
        with torch.no_grad():
            numbers.weight.copy_(torch.tensor([[[1.0], [10.0]]]))
            numbers.missing.fill_(100)
        values = torch.tensor([[-9.0], [0.0], [0.5], [1.0], [2.0], [3.0], [9.0], [math.nan]])
        expected = [0, 0, 0.5, 1, 6, 11, 11, 100]
        assert numbers(values).flatten().tolist() == pytest.approx(expected)

    def test_columns_have_rows_of_their_own(self) -> None:
        categories = CategoricalEmbeddings((3, 4), 2)
        codes = torch.tensor([[2, 3]], dtype=torch.int32)
        expected = torch.stack([categories.table[2], categories.table[3 + 3]])
        assert torch.equal(categories(codes)[0], expected)

    def test_codes_without_rows_become_the_mean_of_their_own_column(self) -> None:
        categories = CategoricalEmbeddings((3, 2), 1)
        with torch.no_grad():
            categories.table.copy_(torch.tensor([[1.0], [50.0], [4.0], [8.0], [60.0]]))
        categories.fill_untrained(torch.tensor([[0, 0], [2, 0], [2, 0]], dtype=torch.int32))
        assert categories.table.flatten().tolist() == [1, 3, 4, 8, 8]

    def test_members_are_averaged_as_probabilities(self) -> None:
        log_odds = torch.tensor([[-2.0, 1.0, 4.0], [80.0, 90.0, 100.0], [-100.0, -90.0, -95.0]])
        mean = torch.sigmoid(log_odds[0].double()).mean()
        found = together(log_odds)
        assert float(found[0]) == pytest.approx(float(torch.logit(mean)), abs=1e-5)
        assert torch.isfinite(found).all()


class TestLoss:
    def test_balanced_classes_weigh_the_same_in_sum(self) -> None:
        weights = ClassWeights.of(np.array([1, 0, 0, 0, 0], np.float32), "balanced")
        assert weights.positive * 1 == pytest.approx(weights.negative * 4)
        assert weights.shift == pytest.approx(math.log(4))

    @pytest.mark.parametrize("target", [[0, 0], [1, 1]])
    def test_one_class_alone_is_not_weighed(self, target: list[int]) -> None:
        assert ClassWeights.of(np.array(target, np.float32), "balanced") == ClassWeights()

    def test_it_is_least_at_the_weighted_prior(self) -> None:
        target = np.array([1] * 30 + [0] * 70, np.float32)
        for rule in ("none", "balanced"):
            weights = ClassWeights.of(target, rule)
            prior = weights.prior(target)
            losses = [
                float(weights.loss(torch.full((100, 2), prior + off), torch.from_numpy(target)))
                for off in (-0.1, 0.0, 0.1)
            ]
            assert losses[1] < min(losses[0], losses[2]), rule


class TestCalibration:
    def test_it_finds_a_line_that_was_bent(self) -> None:
        draw = np.random.default_rng(3)
        true = draw.normal(size=200_000)
        target = (draw.random(200_000) < calibration.probability(true)).astype(np.float32)
        slope, intercept = calibration.fit(true / 2 - 1, target)
        assert (slope, intercept) == (pytest.approx(2, abs=0.05), pytest.approx(2, abs=0.05))

    @pytest.mark.parametrize("target", [[0, 0, 0], [1, 1, 1]])
    def test_one_class_alone_leaves_scores_as_they_are(self, target: list[int]) -> None:
        assert calibration.fit(np.array([1.0, 2, 3]), np.array(target, np.float32)) == (1, 0)

    @pytest.mark.parametrize("scores", [[-1, -2, 1, 2], [0, 0, 0, 0], [-900, -800, 800, 900]])
    def test_it_stays_finite(self, scores: list[float]) -> None:
        found = calibration.fit(np.array(scores, float), np.array([0, 0, 1, 1], np.float32))
        assert np.isfinite(found).all()


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [learning_rate(NETWORK, share) for share in np.linspace(0, NETWORK.max_epochs, 241)]
    highest = int(np.argmax(rates))
    assert 0 < rates[0] < 0.01 * NETWORK.learning_rate
    assert rates[highest] == pytest.approx(NETWORK.learning_rate, rel=0.05)
    assert np.all(np.diff(rates[:highest]) > 0)
    assert np.all(np.diff(rates[highest:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [("cpu", "auto", torch.float32), ("cpu", "bfloat16", torch.bfloat16)],
)
def test_precision_is_chosen(device: str, precision: Any, expected: torch.dtype) -> None:
    chosen = computing.choose(device, precision)
    assert (chosen.dtype, chosen.mixed) == (expected, expected != torch.float32)
    assert not chosen.scaler().is_enabled()


class Cut:
    """A clock that asks for a stop when it is read for the given time."""

    def __init__(self, stop: Stop, at: int) -> None:
        self.stop, self.at, self.reads = stop, at, 0

    def __call__(self) -> float:
        self.reads += 1
        if self.reads == self.at:
            self.stop.signal = signal.SIGTERM
        return 0.0


def train(folder: Path, cuts: list[int], **settings: Any) -> tuple[FittedNetwork, list[Any]]:
    """Train on, cut off again and again after some steps, until it ends by itself."""
    learner = Network.model_validate(SETTINGS | settings)
    for cut in [*cuts, 0]:
        stop, history = Stop(), []
        checkpoints = Checkpoints(
            folder / "one.checkpoint",
            "identity",
            seconds=math.inf,
            stop=stop,
            history=history,
            clock=Cut(stop, cut),
        )

        def report(step: int, scores: dict[str, float], to: list[Any] = history) -> None:
            to.append({"step": step, **scores})

        try:
            fitted = learner.fit(
                learner.prepare(TRAIN, VAL), seed=5, report=report, checkpoints=checkpoints
            )
        except Interrupted:
            assert cut > 0
        else:
            assert cut == 0
            return fitted, history
    raise AssertionError


@pytest.mark.parametrize(
    ("cuts", "settings"),
    [
        ([2], {}),
        ([40, 7, 3], {"micro_batch_size": 17}),
        ([13, 13, 13], {"dropout": 0.5, "class_weight": "balanced"}),
        ([30, 5], {"precision": "float16"}),
        ([60], {"early_stopping_epochs": 1}),
    ],
)
def test_one_that_was_cut_off_ends_with_the_same_weights(
    tmp_path: Path, cuts: list[int], settings: dict[str, Any]
) -> None:
    whole, history = train(tmp_path / "whole", [], **settings)
    resumed, told = train(tmp_path / "resumed", cuts, **settings)
    assert weights(resumed) == weights(whole)
    assert told == history
    assert (resumed.slope, resumed.epochs) == (whole.slope, whole.epochs)


def test_an_ended_training_is_not_done_again(tmp_path: Path) -> None:
    whole, _ = train(tmp_path, [])
    assert (tmp_path / "one.checkpoint").exists()
    again = NETWORK.fit(
        NETWORK.prepare(TRAIN, VAL),
        seed=5,
        report=lambda *_: pytest.fail("no epoch should be trained again"),
        checkpoints=Checkpoints(
            tmp_path / "one.checkpoint", "identity", seconds=math.inf, stop=Stop(), history=[]
        ),
    )
    assert weights(again) == weights(whole)
