"""Activations and their derivatives, written into given tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

aten = torch.ops.aten


class Activation(NamedTuple):
    """An activation and its derivative, written into given tensors.

    Parameters
    ----------
    forward : callable (z, out) -> None
        Writes f(z) to `out`, which is another tensor than `z` if `saves_input`, and
        `z` itself if not.
    backward : callable (delta, saved) -> None
        Multiplies `delta` by f'(z) in place. `saved` is what `forward` left in `z`.
    saves_input : bool, default=False
        Whether that is z; else it is f(z).
    """

    forward: Callable[[torch.Tensor, torch.Tensor], object]
    backward: Callable[[torch.Tensor, torch.Tensor], object]
    saves_input: bool = False


# The constants are the defaults of the modules in torch.nn: slope 0.01 of LeakyReLU,
# alpha 1 of ELU, the exact form of GELU.
ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        lambda z, out: torch.relu_(z),
        lambda d, h: aten.threshold_backward.grad_input(d, h, 0, grad_input=d),
    ),
    "tanh": Activation(
        lambda z, out: torch.tanh_(z),
        lambda d, h: aten.tanh_backward.grad_input(d, h, grad_input=d),
    ),
    "logistic": Activation(
        lambda z, out: torch.sigmoid_(z),
        lambda d, h: aten.sigmoid_backward.grad_input(d, h, grad_input=d),
    ),
    "identity": Activation(lambda z, out: None, lambda d, h: None),
    "leaky_relu": Activation(
        lambda z, out: aten.leaky_relu_(z, 0.01),
        lambda d, h: aten.leaky_relu_backward.grad_input(
            d, h, 0.01, True, grad_input=d
        ),
    ),
    "elu": Activation(
        lambda z, out: aten.elu_(z),
        lambda d, h: aten.elu_backward.grad_input(d, 1, 1, 1, True, h, grad_input=d),
    ),
    "gelu": Activation(
        lambda z, out: aten.gelu.out(z, out=out),
        lambda d, z: aten.gelu_backward.grad_input(d, z, grad_input=d),
        saves_input=True,
    ),
    "silu": Activation(
        lambda z, out: aten.silu.out(z, out=out),
        lambda d, z: aten.silu_backward.grad_input(d, z, grad_input=d),
        saves_input=True,
    ),
}
