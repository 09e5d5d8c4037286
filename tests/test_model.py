"""The network as a PyTorch module."""

import math

import pytest
import torch
from torch import nn

from torchblob import BlobModel
from torchblob.nn import ACTIVATIONS


def widths(model):
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    return [linears[0].in_features, *(linear.out_features for linear in linears)]


@pytest.mark.parametrize(
    ("hidden_units", "expected"),
    [(8, [2, 8, 8, 4]), ((5, 6, 7), [2, 5, 6, 7, 4]), ([3], [2, 3, 4]), ((), [2, 4])],
)
def test_hidden_units_give_the_widths_of_the_layers(hidden_units, expected):
    model = BlobModel(2, 4, hidden_units, generator=torch.Generator())
    assert widths(model) == expected


def test_a_seeded_generator_gives_the_weights_that_the_global_seed_gives_to_torch():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        plain = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        plain.append(nn.Linear(8, 4))
        torch.manual_seed(7)
        seeded_globally = BlobModel(2, 4)
    generator = torch.Generator().manual_seed(7)
    seeded = BlobModel(2, 4, generator=generator)
    for model in (seeded, seeded_globally):
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_a_generator_keeps_the_global_one_untouched():
    before = torch.get_rng_state()
    BlobModel(2, 4, generator=torch.Generator())
    assert torch.equal(before, torch.get_rng_state())


def test_forward_is_the_chain_of_layers():
    model = BlobModel(3, 2, (4,), activation="tanh", generator=torch.Generator())
    x = torch.linspace(-1, 1, 15).reshape(5, 3)
    first, last = (m for m in model.modules() if isinstance(m, nn.Linear))
    expected = torch.tanh(x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_stands_between_the_linear_layers_only(activation):
    model = BlobModel(2, 3, 4, activation=activation, generator=torch.Generator())
    kinds = [isinstance(layer, nn.Linear) for layer in model.linear_layer_stack]
    linear, other = [True], [] if activation == "identity" else [False]
    assert kinds == linear + other + linear + other + linear


def test_dropout_follows_each_hidden_activation_and_is_off_in_evaluation():
    model = BlobModel(2, 3, 16, dropout=0.5, generator=torch.Generator()).eval()
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropouts] == [0.5, 0.5]
    x = torch.ones(4, 2)
    assert torch.equal(model(x), model(x))


def test_initial_weights_lie_within_the_inverse_root_of_fan_in():
    model = BlobModel(100, 2, (400,), generator=torch.Generator().manual_seed(0))
    first = model.linear_layer_stack[0]
    bound = 1 / math.sqrt(100)
    assert first.weight.abs().max() <= bound
    assert first.weight.abs().max() > 0.99 * bound
    assert abs(first.weight.std().item() - bound / math.sqrt(3)) < 0.01 * bound


def test_an_unknown_activation_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match=r"one of \['elu', 'gelu'.*got 'swish'"):
        BlobModel(2, 3, activation="swish")
