"""What is computed in another way than it is described comes to the same."""

import pytest
import torch
from torch.nn import functional

from tasks.neural.architecture import Dropout, Network, Numbers, Shape

SHAPE = Shape(
    bins=(3, 0, 2),
    cardinalities=(5,),
    number_embedding=4,
    category_embedding=3,
    members=4,
    width=8,
    depth=2,
    dropout=0.0,
)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.75])
def test_dropout_leaves_out_its_share_and_scales_up_the_rest(share: float) -> None:
    torch.manual_seed(1)
    left = Dropout(share)(torch.ones(2001, 5, 63))
    assert float((left == 0).float().mean()) == pytest.approx(share, abs=0.002)
    assert float(left.max()) == pytest.approx(1 / (1 - share))
    assert float((left[:, 0, 0] == 0).float().mean()) == pytest.approx(share, abs=0.05)


def test_dropout_follows_the_seed_and_rests_outside_of_training() -> None:
    dropout, ones = Dropout(0.5), torch.ones(7, 11)
    drawn = [(torch.manual_seed(seed), dropout(ones))[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert dropout(ones.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(dropout.eval()(ones), ones)


def test_members_score_as_if_each_scaled_its_input() -> None:
    torch.manual_seed(1)
    network, embedded = Network(SHAPE), torch.randn(6, sum(SHAPE.sizes))
    inside = embedded.unsqueeze(1) * network.scale
    for layer in network.hidden:
        inside = functional.relu(layer(inside))
    expected = (inside * network.output).sum(-1) + network.bias
    torch.testing.assert_close(network.score(embedded), expected)


def test_a_missing_number_passes_no_piece() -> None:
    numbers = Numbers((2, 0), 3)
    numbers.start[:] = torch.tensor([[0.0, 1.0], [torch.inf, torch.inf]])
    missing, least = numbers(torch.tensor([[torch.nan, torch.nan], [-9.0, 5.0]])).unbind()
    torch.testing.assert_close(missing, functional.relu(numbers.weight[:, -1] + numbers.bias))
    torch.testing.assert_close(least, functional.relu(numbers.bias))
