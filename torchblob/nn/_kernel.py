"""Logits, and loss and gradient, of K stacked multilayer perceptrons.

The gradient of softmax cross-entropy through an MLP, written out. Activations are
feature-major, (K, units, samples): units are few and samples many, so that each
matrix product and each pass runs along the long, contiguous axis. Samples come in
blocks, whose activations stay in the processor's cache, into buffers that are made
once; the gradients of the blocks add up.

What is to be computed is written down as a list of calls, each of which reads and
writes tensors that are there already. For a batch that comes again and again, from the
same tensors, the list is made once: a network of the size of a tutorial's spends more
time in Python between the operations than in them.

For K = 1 the leading axis is left out everywhere, which spares the batched products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch

from torchblob.nn._activations import ACTIVATIONS
from torchblob.nn._targets import Targets

Call = Callable[[], object]

WIDE = 64
"""Units from which a layer of a single network lies row by row in memory."""

TALL = 32
"""Units from which the gradient of a layer's weights is tall, if inputs are few: a CPU
computes it up to ten times faster transposed, where there are enough rows."""


class Step:
    """Calls that compute the same from the same tensors each time.

    Parameters
    ----------
    calls : iterable of callables without arguments
        In their order.
    results : list of torch.Tensor
        What they have written when they are through.
    """

    def __init__(self, calls: Iterable[Call], results: list[torch.Tensor]) -> None:
        self._calls, self._results = list(calls), results

    def __call__(self) -> list[torch.Tensor]:
        """Return the results, which the next call overwrites."""
        for call in self._calls:
            call()
        return self._results


class _Layer(NamedTuple):
    """A layer: its parameters, their gradients, and buffers for blocks of n rows."""

    weight: torch.Tensor
    """(K, units, inputs)."""
    bias: torch.Tensor
    """(K, units, 1)."""
    weight_grad: torch.Tensor
    bias_grad: torch.Tensor
    """(K, units)."""
    z: torch.Tensor
    """Before the activation, (K, units, n); the same tensor as `h` if the activation's
    derivative needs only its output."""
    h: torch.Tensor
    """After the activation."""
    out: torch.Tensor
    """After dropout, what the next layer gets; the same tensor as `h` without it."""
    delta: torch.Tensor
    """The gradient with respect to one of these, on the way down."""


class _Stage(NamedTuple):
    """What blocks of n rows have in common, whatever their rows are."""

    layers: list[_Layer]
    up: list[Call]
    """From the first layer to the logits."""
    down: dict[bool, list[Call]]
    """From the delta of the logits to the gradients, of a first block or another."""


class Kernel:
    """Logits, and loss and gradient, of K networks of one shape.

    A kernel belongs to one training or one prediction: its buffers are reused by each
    step, so it must not be shared between threads.

    Parameters
    ----------
    weights : sequence of torch.Tensor
        Of each layer, (K, units, inputs), or (units, inputs) for K = 1; they are used
        where they are, not copied.
    biases : sequence of torch.Tensor
        Of each layer, (K, units), or (units,) for K = 1.
    activation : str, default="relu"
        A key of `ACTIVATIONS`.
    gradients : sequence of torch.Tensor, default=()
        Where the gradients are written: of the first layer's weights and biases, of the
        second's, and so on. Without them there are only logits and evaluations.
    dropout : bool, default=False
        Whether there are masks.
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
        self.gradients = gradients
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout
        self.stacked = self.weights[0].ndim == 3
        self._affine = torch.baddbmm if self.stacked else torch.addmm
        self._matmul = torch.bmm if self.stacked else torch.mm
        self._stages: dict[int, _Stage] = {}

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of a block, (K, n_classes, n); valid until the next step.

        Parameters
        ----------
        x : torch.Tensor of shape (K, n, n_features), or (n, n_features) for K = 1
            The block's rows.
        """
        stage = self._stage(x.shape[-2])
        self._enter(stage, x)()
        for call in stage.up:
            call()
        return stage.layers[-1].z

    def evaluation(self, x: torch.Tensor, targets: Targets) -> Step:
        """Return a step that computes sums over a block: of losses and of hits.

        Parameters
        ----------
        x : torch.Tensor
            As in :meth:`descent`.
        targets : Targets
            Likewise.

        Returns
        -------
        Step
            Its results are two tensors of shape (K,), or () for K = 1, the weighted sum
            of the losses and the weight of the hits. A hit is a row whose largest
            logit, the first of equals, is its class.
        """
        stage = self._stage(x.shape[-2])
        logits, sums = stage.layers[-1].z, [self._sum(x), self._sum(x)]
        return Step(
            [
                self._enter(stage, x),
                *stage.up,
                *self._hits(logits, targets, sums[1]),
                *self._loss(logits, targets, sums[0]),
            ],
            sums,
        )

    def descent(
        self,
        x: torch.Tensor,
        targets: Targets,
        *,
        first: bool = True,
        masks: Sequence[torch.Tensor] | None = None,
        with_hits: bool = False,
    ) -> Step:
        """Return a step that adds the gradient of a block to those before.

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
            Whether there is a second result.

        Returns
        -------
        Step
            Its results are those of :meth:`evaluation`, with the masks and before the
            gradient is used.
        """
        stage = self._stage(x.shape[-2])
        layers, up, down = stage.layers, stage.up, stage.down[first]
        if masks is not None:
            up, down = self._up(layers, masks), self._down(layers, masks, first)
        logits, delta = layers[-1].z, layers[-1].delta
        sums = [self._sum(x) for _ in range(1 + with_hits)]
        return Step(
            [
                self._enter(stage, x),
                *up,
                *(self._hits(logits, targets, sums[1]) if with_hits else ()),
                # The gradient with respect to the logits is weight * (probability -
                # target). Faster than exp of the logarithm, which slows down where
                # results underflow.
                partial(torch.softmax, logits, -2, out=delta),
                *self._loss(logits, targets, sums[0]),
                partial(delta.mul_, targets.weight),
                partial(delta.add_, targets.negated),
                *down,
                self._add_product(layers[0], x, first),
            ],
            sums,
        )

    def forget(self) -> None:
        """Drop the buffers; steps made before must not be taken any more."""
        self._stages.clear()

    def add_gradients(self, other: Kernel) -> None:
        """Add the gradients that another kernel has computed to this one's."""
        for mine, its in zip(self.gradients, other.gradients, strict=True):
            mine.add_(its)

    def _sum(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor for one number of each network."""
        return self.biases[0].new_empty(x.shape[:-2])

    def _enter(self, stage: _Stage, x: torch.Tensor) -> Call:
        """Return the call that brings rows into the first layer."""
        layer = stage.layers[0]
        return partial(self._affine, layer.bias, layer.weight, x.mT, out=layer.z)

    def _up(
        self, layers: list[_Layer], masks: Sequence[torch.Tensor] | None
    ) -> list[Call]:
        """Return the calls from the first layer to the logits."""
        calls: list[Call] = []
        for i, (layer, above) in enumerate(pairwise(layers)):
            calls.append(partial(self.activation.forward, layer.z, layer.h))
            below = layer.h
            if masks is not None:
                calls.append(partial(torch.mul, layer.h, masks[i], out=layer.out))
                below = layer.out
            calls.append(
                partial(self._affine, above.bias, above.weight, below, out=above.z)
            )
        return calls

    def _hits(
        self, logits: torch.Tensor, targets: Targets, out: torch.Tensor
    ) -> Iterator[Call]:
        """Sum the weight of the rows whose largest logit is their class."""
        y, weight = targets.y, targets.weight.squeeze(-2)
        largest, predicted = torch.empty_like(weight), torch.empty_like(y)
        # Many times faster than argmax along a dimension that is not the last.
        yield partial(torch.max, logits, -2, out=(largest, predicted))
        is_hit = largest  # 1 or 0, where the maximum is no longer needed
        yield partial(torch.eq, predicted, y, out=is_hit)
        if self.stacked:
            yield partial(is_hit.mul_, weight)
            yield partial(torch.sum, is_hit, -1, out=out)
        else:
            yield partial(torch.dot, is_hit, weight, out=out)

    def _loss(
        self, logits: torch.Tensor, targets: Targets, out: torch.Tensor
    ) -> Iterator[Call]:
        """Sum the weighted cross-entropies; overwrites the logits."""
        yield partial(torch.log_softmax, logits, -2, out=logits)
        if self.stacked:
            yield partial(logits.mul_, targets.negated)
            yield partial(torch.sum, logits, (-2, -1), out=out)
        else:
            flat = logits.view(-1), targets.negated.view(-1)
            yield partial(torch.dot, *flat, out=out)

    def _down(
        self,
        layers: list[_Layer],
        masks: Sequence[torch.Tensor] | None,
        first: bool,
    ) -> list[Call]:
        """Return the calls from the delta of the logits to all gradients.

        That of the first layer's weights, which needs the rows, is left out.
        """
        calls: list[Call] = []
        for i in reversed(range(len(layers))):
            layer = layers[i]
            calls.append(self._add_sum(layer, first))
            if not i:
                break
            down = layers[i - 1]
            below = down.h if masks is None else down.out
            calls.append(self._add_product(layer, below.mT, first))
            calls.append(
                partial(self._matmul, layer.weight.mT, layer.delta, out=down.delta)
            )
            if masks is not None:
                calls.append(partial(down.delta.mul_, masks[i - 1]))
            calls.append(partial(self.activation.backward, down.delta, down.z))
        return calls

    def _add_product(self, layer: _Layer, below: torch.Tensor, first: bool) -> Call:
        """Return the call that adds to the gradient of a layer's weights."""
        gradient = layer.weight_grad
        if self._is_tall(gradient, below.shape[-2]):
            transposed = gradient.new_empty(gradient.mT.shape)
            product = partial(self._matmul, below.mT, layer.delta.mT, out=transposed)
            take = gradient.copy_ if first else gradient.add_
            return lambda: (product(), take(transposed.mT))
        if first:
            return partial(self._matmul, layer.delta, below, out=gradient)
        return partial(self._affine, gradient, layer.delta, below, out=gradient)

    def _is_tall(self, gradient: torch.Tensor, rows: int) -> bool:
        """Return whether a product over some rows is faster computed transposed.

        The limits are measured, on one core with MKL.
        """
        units, inputs = gradient.shape[-2:]
        return (
            gradient.device.type == "cpu"
            and units >= (TALL if self.stacked else WIDE)
            and inputs <= 24
            and rows >= (128 if inputs < 16 else 512)
        )

    def _add_sum(self, layer: _Layer, first: bool) -> Call:
        """Return the call that adds to the gradient of a layer's biases."""
        delta, gradient = layer.delta, layer.bias_grad
        if self.stacked:
            if first:
                return partial(torch.sum, delta, -1, out=gradient)
            return lambda: gradient.add_(delta.sum(-1))
        # A product with ones takes two thirds of the time of a sum.
        ones = delta.new_ones(delta.shape[-1])
        if first:
            return partial(torch.mv, delta, ones, out=gradient)
        return partial(torch.addmv, gradient, delta, ones, out=gradient)

    def _stage(self, n: int) -> _Stage:
        """Return what there is for blocks of `n` rows."""
        if n not in self._stages:
            layers = [self._layer(i, n) for i in range(len(self.weights))]
            down = {}
            if self.gradients:
                down = {
                    first: self._down(layers, None, first) for first in (True, False)
                }
            self._stages[n] = _Stage(layers, self._up(layers, None), down)
        return self._stages[n]

    def _layer(self, i: int, n: int) -> _Layer:
        weight = self.weights[i]

        units = weight.shape[-2]
        by_row = not self.stacked and units >= WIDE and i < len(self.weights) - 1

        def buffer() -> torch.Tensor:
            if by_row:
                return weight.new_empty((n, units)).mT
            return weight.new_empty((*weight.shape[:-1], n))

        z = buffer()
        h = buffer() if self.activation.saves_input else z
        out = buffer() if self.dropout else h
        # Without gradients nothing goes down.
        delta, weight_grad, bias_grad = z, z, z
        if self.gradients:
            delta = buffer()
            weight_grad, bias_grad = self.gradients[2 * i : 2 * i + 2]
        return _Layer(weight, self.biases[i], weight_grad, bias_grad, z, h, out, delta)
