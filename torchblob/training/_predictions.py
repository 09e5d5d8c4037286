"""What a network says of rows, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from torchblob.nn import BlobModel, Kernel
from torchblob.training._blocks import Blocks
from torchblob.training._layout import Shape
from torchblob.training._samples import dense_rows, pieces
from torchblob.training._threads import Crew, Threads

FEW_FLOATS = 10_000
"""Size of activations up to which buffers cost more than they bring."""


class NotFiniteError(Exception):
    """What a network says of some rows is infinite or NaN."""


def _check(values: torch.Tensor) -> None:
    # A finite sum proves finite values in one pass and without a temporary.
    if not math.isfinite(values.sum().item()) and not torch.isfinite(values).all():
        raise NotFiniteError


def _transpose(logits: torch.Tensor, out: torch.Tensor) -> None:
    if out.device.type == "cpu":  # numpy takes half of torch's time for this
        np.copyto(out.numpy(), logits.numpy().T)
    else:
        out.copy_(logits.mT)


def softmax(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the probability of each class, (n, n_classes)."""
    _check(torch.softmax(logits, 0, out=logits))
    _transpose(logits, out)


def log_softmax(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the logarithm of the probability of each class, (n, n_classes)."""
    _check(torch.log_softmax(logits, 0, out=logits))
    _transpose(logits, out)


def identity(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the logits, (n, n_classes)."""
    _check(logits)
    _transpose(logits, out)


def argmax(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the index of the largest logit, the first of equals, (n,)."""
    # Many times faster than argmax along a dimension that is not the last.
    largest = logits.max(0)
    _check(largest.values)
    out.copy_(largest.indices)


def predict(
    module: BlobModel,
    X: Any,
    write: Callable[[torch.Tensor, torch.Tensor], None] = identity,
) -> torch.Tensor:
    """Return what `write` makes of the logits of each row.

    Parameters
    ----------
    module : BlobModel
        The network.
    X : torch.Tensor or CSR matrix of shape (n_samples, n_features)
        Rows, which may lie on another device; memory beside the result is that of a
        block for each thread.
    write : callable (logits, out) -> None, default=identity
        One of this module. It gets the logits of a block, (n_classes, n), which it may
        overwrite, and the result's rows of that block.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes), or (n_samples,) int64 for `argmax`
        On the module's device.

    Raises
    ------
    NotFiniteError
        If what is to be written, or the largest logit for `argmax`, is not finite.
    """
    n, shape = X.shape[0], Shape.of(module)
    weight = module.linear_layers[-1].weight
    if write is argmax:
        out = weight.new_empty(n, dtype=torch.int64)
    else:
        out = weight.new_empty((n, weight.shape[0]))

    if n * shape.floats < FEW_FLOATS and not module.training:
        with torch.no_grad():
            x = dense_rows(X, slice(0, n)).to(weight.device, weight.dtype)
            write(_logits(module, x), out)
        return out

    size = Blocks(shape.block_rows(weight.device))

    def work(mine: slice) -> None:
        for at, logits in walk(module, X, mine, size):
            write(logits, out[at])

    threads = Threads.of(n * shape.work, weight.device, splits=shape.splits)
    with Crew(threads) as crew:
        share = math.ceil(n / threads.crew)
        crew.run([partial(work, mine) for mine in pieces(slice(0, n), share)])
    return out


def walk(
    module: BlobModel, X: Any, rows: slice, size: Blocks | None = None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield the logits of rows block by block, (n_classes, n), and where they are.

    They are valid until the next are asked for.

    Parameters
    ----------
    module : BlobModel
        The network.
    X : torch.Tensor, ndarray or CSR matrix of shape (n_samples, n_features)
        Data.
    rows : slice
        Which of them.
    size : Blocks, default=None
        Their size, for those who walk other rows at the same time.
    """
    layers = module.linear_layers
    dtype, device = layers[0].weight.dtype, layers[0].weight.device
    size = size or Blocks(Shape.of(module).block_rows(device))
    logits_of: Callable[[torch.Tensor], torch.Tensor] = partial(_logits, module)
    forget = None
    if module.is_as_made:
        weights, biases = zip(*((la.weight, la.bias) for la in layers), strict=True)
        kernel = Kernel(weights, biases, module.activation)
        logits_of, forget = kernel.logits, kernel.forget
    start = rows.start
    while start < rows.stop:

        def block(start: int = start) -> tuple[slice, torch.Tensor]:
            at = slice(start, min(start + size.rows, rows.stop))
            return at, logits_of(dense_rows(X, at).to(device, dtype))

        # Within the loop, or else the caller would find gradients turned off.
        with torch.no_grad():
            at, logits = size.compute(block, rows.stop - start, forget)
        yield at, logits
        start = at.stop


def _logits(module: BlobModel, x: torch.Tensor) -> torch.Tensor:
    """Return what a module itself says of rows, (n_classes, n)."""
    logits: torch.Tensor = module(x).mT.contiguous()
    return logits
