"""Rows of data on the device that trains on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

BLOCK = 4096
"""Rows that pass through a network at once: memory is O(BLOCK), not O(n_samples)."""


@dataclass(frozen=True)
class Samples:
    """Validated rows, their classes and their weights.

    Parameters
    ----------
    X : torch.Tensor or scipy CSR matrix of shape (n_samples, n_features)
        Features. A tensor lies on the device already; CSR stays on the host and
        only the rows in use are made dense.
    y : torch.Tensor of shape (n_samples,), int64
        Class indices, 0 to n_classes - 1.
    weight : torch.Tensor of shape (n_samples,)
        Weight of each row in the loss and the accuracy, >= 0.
    """

    X: Any
    y: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: slice | torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return features, classes and weights of rows; of a slice, views."""
        X = dense_rows(self.X, index, self.weight.device)
        return X, self.y[index], self.weight[index]


def dense_rows(
    X: Any, index: slice | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return the rows `index` of a tensor or a CSR matrix as a tensor on `device`."""
    if isinstance(X, torch.Tensor):
        return X[index].to(device)
    at = index.cpu().numpy() if isinstance(index, torch.Tensor) else index
    return torch.from_numpy(X[at].toarray()).to(device)


def blocks(index: slice | torch.Tensor) -> Iterator[slice | torch.Tensor]:
    """Cut row indices into pieces of at most BLOCK rows."""
    if isinstance(index, torch.Tensor):
        yield from torch.split(index, BLOCK)
        return
    for start in range(index.start, index.stop, BLOCK):
        yield slice(start, min(start + BLOCK, index.stop))


class Batch:
    """The rows of one step.

    Parameters
    ----------
    samples : Samples
        All rows.
    index : slice from 0, or torch.Tensor of shape (n,)
        Which of them.

    Attributes
    ----------
    weight : torch.Tensor of shape ()
        The sum of their weights.
    """

    def __init__(self, samples: Samples, index: slice | torch.Tensor) -> None:
        self.samples, self.index = samples, index
        w = samples.weight[index]
        # Rows that all have a class of weight zero have no gradient.
        self.weight = w.sum().clamp_min_(torch.finfo(w.dtype).tiny)
        self.w = w / self.weight
        self._views: list[tuple[torch.Tensor, ...]] | None = None
        if isinstance(index, slice) and isinstance(samples.X, torch.Tensor):
            self._views = list(self._parts())

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and classes of all rows."""
        X, y, _ = self.samples.take(self.index)
        return X, y

    def parts(self) -> Iterable[tuple[torch.Tensor, ...]]:
        """Return features, classes and shares of the total weight, block by block."""
        return self._parts() if self._views is None else self._views

    def _parts(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for block, at in zip(
            blocks(self.index), blocks(slice(0, len(self.w))), strict=True
        ):
            X, y, _ = self.samples.take(block)
            yield X, y, self.w[at]
