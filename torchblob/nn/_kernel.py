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


class _Layer(NamedTuple):
    """Buffers of one layer for a block, each (K, units, n_samples)."""

    z: torch.Tensor
    """Before the activation; the same tensor as `h` if that needs only its output."""
    h: torch.Tensor
    """After the activation."""
    dropped: torch.Tensor
    """After dropout; the same tensor as `h` if there is none."""
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
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over all classes.
    dropout : bool, default=False
        Whether :meth:`accumulate` gets masks.

    Attributes
    ----------
    weight_grads, bias_grads : list of torch.Tensor
        Gradients, like `weights` and `biases`, which :meth:`accumulate` writes.
    n_weights : int
        Number of weights of one network, which is that of the multiplications a row.
    """

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        activation: str = "relu",
        *,
        label_smoothing: float = 0.0,
        dropout: bool = False,
    ) -> None:
        self.weights = [weight.detach() for weight in weights]
        self.biases = [bias.detach().unsqueeze(-1) for bias in biases]
        self.weight_grads = [torch.zeros_like(weight) for weight in self.weights]
        self.bias_grads = [torch.zeros_like(bias.detach()) for bias in biases]
        self.activation = ACTIVATIONS[activation]
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.n_weights = sum(w.shape[-1] * w.shape[-2] for w in self.weights)
        stacked = self.weights[0].ndim == 3
        self._affine = torch.baddbmm if stacked else torch.addmm
        self._matmul = torch.bmm if stacked else torch.mm
        self._layers_of: dict[int, list[_Layer]] = {}

    @property
    def gradients(self) -> list[torch.Tensor]:
        """The gradients of weights and biases, layer by layer."""
        pairs = zip(self.weight_grads, self.bias_grads, strict=True)
        return [gradient for pair in pairs for gradient in pair]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of a block, (K, n_classes, n); valid until the next call.

        Parameters
        ----------
        x : torch.Tensor of shape (K, n, n_features), or (n, n_features) for K = 1
            The block's rows.
        """
        return self._forward(x, None)[-1].z

    def evaluate(
        self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return sums over a block: of weight times loss, of the weight of hits.

        Parameters
        ----------
        x, y, w : torch.Tensor
            As in :meth:`accumulate`.

        Returns
        -------
        list of two torch.Tensor of shape (K,), or () for K = 1
            A hit is a row whose largest logit, the first of equals, is its class.
        """
        logits = self.logits(x)
        hits = self._hits(logits, y, w)
        log_p = torch.log_softmax(logits, -2, out=logits)
        return [self._loss(log_p, y.unsqueeze(-2), w), hits]

    def accumulate(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
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
        y : torch.Tensor of shape (K, n), or (n,), int64
            Class indices.
        w : torch.Tensor of shape (K, n), or (n,)
            Weight of each row's loss.
        first : bool, default=True
            Whether this is the first block of a batch, which overwrites the gradients.
        masks : sequence of torch.Tensor, default=None
            For each hidden layer, (K, units, n), what its units are multiplied by: 0
            for a dropped one, 1 / (1 - dropout) for another.
        with_hits : bool, default=False
            Whether to return the second sum too.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            As of :meth:`evaluate`, with the masks and the weights as they are.
        """
        layers = self._forward(x, masks)
        logits = layers[-1].z
        hits = [self._hits(logits, y, w)] if with_hits else []
        at = y.unsqueeze(-2)
        # Faster than exp of the logarithm, which slows down where results underflow.
        p = torch.softmax(logits, -2, out=layers[-1].delta)
        loss = self._loss(torch.log_softmax(logits, -2, out=logits), at, w)
        self._backward(layers, x, self._gradient(p, at, w), masks, first)
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
                below = layer.h
                if masks is not None:
                    below = torch.mul(layer.h, masks[i], out=layer.dropped)
        return layers

    def _hits(
        self, logits: torch.Tensor, y: torch.Tensor, w: torch.Tensor
    ) -> torch.Tensor:
        """Return the weight of the rows whose largest logit is their class."""
        return ((logits.argmax(-2) == y) * w).sum(-1)

    def _loss(
        self, log_p: torch.Tensor, at: torch.Tensor, w: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum of the cross-entropies, with smoothed targets."""
        loss = self._weighted_sum(log_p.gather(-2, at).squeeze(-2), w)
        if self.label_smoothing:
            even = self._weighted_sum(log_p.mean(-2), w)
            loss = torch.lerp(loss, even, self.label_smoothing)
        return -loss

    def _weighted_sum(self, values: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.dot(values, w) if w.ndim == 1 else (values * w).sum(-1)

    def _gradient(
        self, p: torch.Tensor, at: torch.Tensor, w: torch.Tensor
    ) -> torch.Tensor:
        """Turn probabilities into the gradient with respect to the logits.

        It is w * (p - target), where the target has 1 - s on the class and s / C on
        each class besides, for a smoothing of s.
        """
        s = self.label_smoothing
        if s:
            p -= s / p.shape[-2]
        p.scatter_add_(-2, at, p.new_tensor(s - 1).expand(at.shape))
        return p.mul_(w.unsqueeze(-2))

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
                below = (layer.h if masks is None else layer.dropped).mT
            gradient = self.weight_grads[i]
            if first:
                self._matmul(delta, below, out=gradient)
                torch.sum(delta, -1, out=self.bias_grads[i])
            else:
                self._affine(gradient, delta, below, out=gradient)
                self.bias_grads[i] += delta.sum(-1)
            if i:
                delta = self._matmul(self.weights[i].mT, delta, out=layer.delta)
                if masks is not None:
                    delta *= masks[i - 1]
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
        return _Layer(z, h, buffer() if self.dropout else h, buffer())
