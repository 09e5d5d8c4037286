"""The network: a multilayer perceptron as a plain PyTorch module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module] | None] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": None,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
"""Name of an activation -> the module that computes it; None stands for no module."""


def hidden_widths(hidden_units: int | Sequence[int]) -> tuple[int, ...]:
    """Return the width of each hidden layer that `hidden_units` asks for.

    An int stands for two layers of that width, a sequence for one layer each.
    """
    if isinstance(hidden_units, int | Integral):
        return (int(hidden_units),) * 2
    return tuple(int(width) for width in hidden_units)


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module calls more than its own code when it is called."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


class Linear(nn.Linear):
    """torch's linear layer, with its initial weights drawn from a given generator.

    torch's own draws them from the global generator, which a fit must leave as it
    is. The values are the same: see `torch.nn.Linear.reset_parameters`.
    """

    _generator: torch.Generator | None = None

    def __init__(
        self, in_features: int, out_features: int, generator: torch.Generator | None
    ) -> None:
        self._generator = generator
        super().__init__(in_features, out_features, device="cpu", dtype=torch.float32)
        self._generator = None

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=self._generator)
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.bias, -bound, bound, generator=self._generator)


class BlobModel(nn.Module):
    """Multilayer perceptron that maps features to the logits of the classes.

    Each hidden layer is linear, then the activation, then dropout; the last
    layer is linear alone.

    Parameters
    ----------
    input_features : int
        Number of features.
    output_features : int
        Number of classes.
    hidden_units : int or sequence of int, default=8
        An int stands for two hidden layers of that many units; a sequence gives
        the units of each hidden layer; an empty one leaves a linear model.
    activation : str, default="relu"
        "relu", "tanh", "logistic", "identity", "leaky_relu" (slope 0.01), "elu",
        "gelu" or "silu".
    dropout : float, default=0.0
        Probability with which a hidden unit is dropped in training mode.
    generator : torch.Generator, default=None
        Source of the initial weights. None: torch's global generator. A generator
        seeded with `s` gives the weights that `torch.manual_seed(s)` gives.

    Attributes
    ----------
    linear_layer_stack : torch.nn.Sequential
        The layers in order.
    activation : str
        The name of the activation.
    dropout : float
        The probability of dropout.

    Raises
    ------
    ValueError
        If the activation is none of these.

    Notes
    -----
    Weights and biases start as :class:`torch.nn.Linear` has them: uniform on
    (-1/sqrt(fan_in), 1/sqrt(fan_in)), in float32.

    Examples
    --------
    >>> import torch
    >>> from torchblob import BlobModel
    >>> model = BlobModel(input_features=2, output_features=4, activation="identity")
    >>> model
    BlobModel(
      (linear_layer_stack): Sequential(
        (0): Linear(in_features=2, out_features=8, bias=True)
        (1): Linear(in_features=8, out_features=8, bias=True)
        (2): Linear(in_features=8, out_features=4, bias=True)
      )
    )
    >>> model(torch.zeros(5, 2)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        input_features: int,
        output_features: int,
        hidden_units: int | Sequence[int] = 8,
        activation: str = "relu",
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"BlobModel: activation must be one of {sorted(ACTIVATIONS)}, "
                f"got {activation!r}."
            )
        self.activation, self.dropout = activation, dropout
        make_activation = ACTIVATIONS[activation]
        widths = (input_features, *hidden_widths(hidden_units), output_features)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            if layers and make_activation is not None:
                layers.append(make_activation())
            if layers and dropout > 0:
                layers.append(nn.Dropout(dropout))
            layers.append(Linear(fan_in, fan_out, generator))
        self.linear_layer_stack = nn.Sequential(*layers)
        self._layers_made = tuple(layers)

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The linear layers in order."""
        return [m for m in self.linear_layer_stack if isinstance(m, nn.Linear)]

    @property
    def is_as_made(self) -> bool:
        """Whether weights, biases and the name of the activation say it all.

        They don't where a layer was replaced, is pruned or parametrized, or has hooks.
        """
        stack = self.linear_layer_stack
        layers = tuple(stack)
        return layers == self._layers_made and not any(
            has_hooks(layer)
            or (isinstance(layer, nn.Linear) and "weight" not in layer._parameters)
            for layer in (self, stack, *layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, which a softmax makes probabilities.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, n_features)
            Rows, of the network's precision and on its device.

        Returns
        -------
        logits : torch.Tensor of shape (n_samples, n_classes)
            Of each class.

        Examples
        --------
        >>> import torch
        >>> from torchblob import BlobModel
        >>> BlobModel(2, 4).forward(torch.zeros(5, 2)).shape
        torch.Size([5, 4])
        """
        logits: torch.Tensor = self.linear_layer_stack(x)
        return logits
