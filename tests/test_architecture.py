"""What is computed in another way than it is described comes to the same."""

import torch
from torch.nn import functional

from tasks.neural.architecture import Network, PiecewiseLinearEmbeddings, Shape

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


def test_members_score_as_if_each_scaled_its_input() -> None:
    torch.manual_seed(1)
    network, embedded = Network(SHAPE), torch.randn(6, sum(SHAPE.sizes))
    inside = embedded.unsqueeze(1) * network.scale
    for layer in network.hidden:
        inside = functional.relu(layer(inside))
    expected = (inside * network.output).sum(-1) + network.bias
    torch.testing.assert_close(network.score(embedded), expected)


def test_a_missing_number_passes_no_piece() -> None:
    numbers = PiecewiseLinearEmbeddings((2, 0), 3)
    numbers.start[:] = torch.tensor([[0.0, 1.0], [torch.inf, torch.inf]])
    missing, least = numbers(torch.tensor([[torch.nan, torch.nan], [-9.0, 5.0]])).unbind()
    torch.testing.assert_close(missing, functional.relu(numbers.missing + numbers.bias))
    torch.testing.assert_close(least, functional.relu(numbers.bias))
