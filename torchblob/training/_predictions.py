"""What a network says of rows, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from torchblob.nn import BlobModel, Kernel
from torchblob.training._layout import Shape
from torchblob.training._samples import dense_rows, pieces
from torchblob.training._threads import Crew, Threads

UNDIVIDED_FLOATS = 32_768
"""Numbers up to which torch does an element-wise operation with one thread anyway."""


def softmax(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the probability of each class, (n, n_classes)."""
    out.copy_(torch.softmax(logits, 0, out=logits).mT)


def log_softmax(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the logarithm of the probability of each class, (n, n_classes)."""
    out.copy_(torch.log_softmax(logits, 0, out=logits).mT)


def identity(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the logits, (n, n_classes)."""
    out.copy_(logits.mT)


def argmax(logits: torch.Tensor, out: torch.Tensor) -> None:
    """Write the index of the largest logit, the first of equals, (n,)."""
    # Many times faster than argmax along a dimension that is not the last.
    out.copy_(logits.max(0).indices)


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
    """
    n = X.shape[0]
    weight = module.linear_layers[-1].weight
    if write is argmax:
        out = weight.new_empty(n, dtype=torch.int64)
    else:
        out = weight.new_empty((n, weight.shape[0]))
    shape = Shape.of(module)

    def work(mine: slice) -> None:
        for at, logits in walk(module, X, mine):
            write(logits, out[at])

    if n * shape.floats < UNDIVIDED_FLOATS:
        work(slice(0, n))
        return out
    threads = Threads.of(n * shape.work, weight.device)
    with Crew(threads) as crew:
        size = math.ceil(n / threads.crew)
        crew.run([partial(work, mine) for mine in pieces(slice(0, n), size)])
    return out


def walk(
    module: BlobModel, X: Any, rows: slice
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield the logits of rows block by block, (n_classes, n), and where they are.

    They are valid until the next are asked for.
    """
    layers = module.linear_layers
    kernel = Kernel(
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        module.activation,
    )
    dtype, device = layers[0].weight.dtype, layers[0].weight.device
    for at in pieces(rows, Shape.of(module).block_rows(device)):
        # Within the loop, or else the caller would find gradients turned off.
        with torch.no_grad():
            logits = kernel.logits(dense_rows(X, at).to(dtype).to(device))
        yield at, logits
