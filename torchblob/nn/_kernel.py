"""Logits, and loss and gradient, of K stacked multilayer perceptrons.

The gradient of softmax cross-entropy through an MLP, written out. Activations are
feature-major, (K, units, samples): units are few and samples many, so that each
matrix product and each pass runs along the long, contiguous axis. Samples come in
blocks, whose activations stay in the processor's cache, into buffers that are made
once; the gradients of the blocks add up.

For K = 1 the leading axis is left out everywhere, which spares the batched products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

aten = torch.ops.aten


class Activation(NamedTuple):
    """An activation and its derivative, written into given tensors.

    Parameters
    ----------
    forward : callable (z, out) -> None
        Writes f(z) to `out`, which may be `z`.
    backward : callable (delta, saved) -> None
        Multiplies `delta` by f'(z) in place.
    saves_input : bool, default=False
        Whether `saved` is z; else it is f(z), and z is not kept.
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


class Targets(NamedTuple):
    """What the rows of a block should be, and how much each counts."""

    y: torch.Tensor
    """Class indices, (K, n) or (n,) for K = 1, int64."""
    weight: torch.Tensor
    """Of each row's loss, (K, 1, n) or (1, n)."""
    weighted: torch.Tensor
    """Target distribution times the weight, (K, n_classes, n) or (n_classes, n)."""


def make_targets(
    y: torch.Tensor, weight: torch.Tensor, n_classes: int, label_smoothing: float = 0.0
) -> Targets:
    """Return the targets of class indices `y`, weighted and smoothed.

    Parameters
    ----------
    y : torch.Tensor of shape (K, n), or (n,) for K = 1, int64
        Class indices.
    weight : torch.Tensor of the same shape
        Weight of each row's loss.
    n_classes : int
        Number of classes.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over all classes.
    """
    weight = weight.unsqueeze(-2)
    shape = (*y.shape[:-1], n_classes, y.shape[-1])
    if label_smoothing:
        weighted = (weight * (label_smoothing / n_classes)).expand(shape).contiguous()
    else:
        weighted = weight.new_zeros(shape)
    on_class = weight * (1 - label_smoothing) if label_smoothing else weight
    weighted.scatter_add_(-2, y.unsqueeze(-2), on_class)
    return Targets(y, weight, weighted)


class _Layer(NamedTuple):
    """Buffers of one layer for a block, each (K, units, n)."""

    z: torch.Tensor
    """Before the activation; the same tensor as `h` if that needs only its output."""
    h: torch.Tensor
    """After the activation."""
    out: torch.Tensor
    """After dropout, what the next layer gets; the same tensor as `h` without it."""
    out_t: torch.Tensor
    """`out` transposed."""
    delta: torch.Tensor
    """The gradient with respect to one of these, on the way down."""


class Kernel:
    """Logits, and loss and gradient, of K networks of one shape.

    A kernel belongs to one training or one prediction: its buffers are reused by each
    call, so it must not be shared between threads.

    Parameters
    ----------
    weights : sequence of torch.Tensor
        Of each layer, (K, units, inputs), or (units, inputs) for K = 1; they are used
        where they are, not copied.
    biases : sequence of torch.Tensor
        Of each layer, (K, units), or (units,) for K = 1.
    activation : str, default="relu"
        A key of `ACTIVATIONS`.
    gradients : sequence of torch.Tensor, default=None
        Where :meth:`accumulate` writes the gradients: of the first layer's weights and
        biases, of the second's, and so on. Needed for that method only.
    dropout : bool, default=False
        Whether :meth:`accumulate` gets masks.

    Attributes
    ----------
    n_weights : int
        Number of weights of all networks, which is that of the multiplications for a
        row of each.
    """

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        activation: str = "relu",
        *,
        gradients: Sequence[torch.Tensor] = (),
        dropout: bool = False,
    ) -> None:
        self.weights = [weight.detach() for weight in weights]
        self.biases = [bias.detach().unsqueeze(-1) for bias in biases]
        self.weight_grads, self.bias_grads = gradients[::2], gradients[1::2]
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout
        self.n_weights = sum(weight.numel() for weight in self.weights)
        self.stacked = self.weights[0].ndim == 3
        self._affine = torch.baddbmm if self.stacked else torch.addmm
        self._matmul = torch.bmm if self.stacked else torch.mm
        self._transposed = [weight.mT for weight in self.weights]
        self._layers_of: dict[int, list[_Layer]] = {}

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of a block, (K, n_classes, n); valid until the next call.

        Parameters
        ----------
        x : torch.Tensor of shape (K, n, n_features), or (n, n_features) for K = 1
            The block's rows.
        """
        return self._forward(x, None)[-1].z

    def evaluate(self, x: torch.Tensor, targets: Targets) -> list[torch.Tensor]:
        """Return sums over a block: of the weighted loss, of the weight of hits.

        Parameters
        ----------
        x : torch.Tensor
            As in :meth:`accumulate`.
        targets : Targets
            Likewise.

        Returns
        -------
        list of two torch.Tensor of shape (K,), or () for K = 1
            A hit is a row whose largest logit, the first of equals, is its class.
        """
        logits = self.logits(x)
        hits = self._hits(logits, targets)
        return [self._loss(logits, targets), hits]

    def accumulate(
        self,
        x: torch.Tensor,
        targets: Targets,
        *,
        first: bool = True,
        masks: Sequence[torch.Tensor] | None = None,
        with_hits: bool = False,
    ) -> list[torch.Tensor]:
        """Add the gradient of a block's weighted loss to that of the blocks before.

        Parameters
        ----------
        x : torch.Tensor of shape (K, n, n_features), or (n, n_features) for K = 1
            The block's rows.
        targets : Targets
            What they should be.
        first : bool, default=True
            Whether this is the first block of a batch, which overwrites the gradients.
        masks : sequence of torch.Tensor, default=None
            With dropout, for each hidden layer, (K, units, n), what its units are
            multiplied by: 0 for a dropped one, 1 / (1 - dropout) for another.
        with_hits : bool, default=False
            Whether to return the second sum too.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            As of :meth:`evaluate`, with the masks and the weights as they are.
        """
        layers = self._forward(x, masks)
        logits, delta = layers[-1].z, layers[-1].delta
        hits = [self._hits(logits, targets)] if with_hits else []
        # Faster than exp of the logarithm, which slows down where results underflow.
        torch.softmax(logits, -2, out=delta)
        loss = self._loss(logits, targets)
        # The gradient with respect to the logits, weight * (probability - target).
        delta.mul_(targets.weight).sub_(targets.weighted)
        self._backward(layers, x, delta, masks, first)
        return [loss, *hits]

    def _forward(
        self, x: torch.Tensor, masks: Sequence[torch.Tensor] | None
    ) -> list[_Layer]:
        """Fill the buffers of all layers."""
        layers = self._layers(x.shape[-2])
        below = x.mT
        for i, layer in enumerate(layers):
            self._affine(self.biases[i], self.weights[i], below, out=layer.z)
            if i < len(layers) - 1:
                self.activation.forward(layer.z, layer.h)
                if masks is not None:
                    torch.mul(layer.h, masks[i], out=layer.out)
                below = layer.h if masks is None else layer.out
        return layers

    def _hits(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the weight of the rows whose largest logit is their class."""
        # Many times faster than argmax along a dimension that is not the last.
        predicted = logits.max(-2).indices
        return ((predicted == targets.y) * targets.weight.squeeze(-2)).sum(-1)

    def _loss(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return the weighted sum of the cross-entropies; overwrites the logits."""
        log_p = torch.log_softmax(logits, -2, out=logits)
        if self.stacked:
            return -log_p.mul_(targets.weighted).sum((-2, -1))
        return -torch.dot(log_p.view(-1), targets.weighted.view(-1))

    def _backward(
        self,
        layers: list[_Layer],
        x: torch.Tensor,
        delta: torch.Tensor,
        masks: Sequence[torch.Tensor] | None,
        first: bool,
    ) -> None:
        """Add to the gradients of all layers, from that of the logits down."""
        for i in reversed(range(len(layers))):
            below = x
            if i:
                layer = layers[i - 1]
                below = layer.out_t
            gradient = self.weight_grads[i]
            if first:
                self._matmul(delta, below, out=gradient)
                torch.sum(delta, -1, out=self.bias_grads[i])
            else:
                self._affine(gradient, delta, below, out=gradient)
                self.bias_grads[i].add_(delta.sum(-1))
            if i:
                delta = self._matmul(self._transposed[i], delta, out=layer.delta)
                if masks is not None:
                    delta.mul_(masks[i - 1])
                saved = layer.z if self.activation.saves_input else layer.h
                self.activation.backward(delta, saved)

    def _layers(self, n: int) -> list[_Layer]:
        """Return the buffers for blocks of `n` rows."""
        if n not in self._layers_of:
            self._layers_of[n] = [self._layer(weight, n) for weight in self.weights]
        return self._layers_of[n]

    def _layer(self, weight: torch.Tensor, n: int) -> _Layer:
        def buffer() -> torch.Tensor:
            return weight.new_empty((*weight.shape[:-1], n))

        z = buffer()
        h = buffer() if self.activation.saves_input else z
        out = buffer() if self.dropout else h
        return _Layer(z, h, out, out.mT, buffer())
