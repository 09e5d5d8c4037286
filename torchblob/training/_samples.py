"""Rows of data on the device that trains on them, and their batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from scipy import sparse

from torchblob.nn import Targets, make_targets

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


def dense_rows(
    X: Any, index: slice | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return rows of a tensor or a CSR matrix as a tensor on `device`.

    Parameters
    ----------
    X : torch.Tensor or CSR matrix of shape (n_samples, n_features)
        Data.
    index : slice, or torch.Tensor of shape (...), int64
        Which rows; those of a slice of a tensor on the device are a view.
    device : torch.device
        Where they are wanted.

    Returns
    -------
    torch.Tensor of shape (..., n_features)
    """
    if isinstance(index, slice):
        rows = X[index] if isinstance(X, torch.Tensor) else _to_dense(X[index])
        return rows.to(device)
    flat = index.reshape(-1)
    if isinstance(X, torch.Tensor):
        rows = X.index_select(0, flat)
    else:
        rows = _to_dense(X[flat.cpu().numpy()])
    return rows.view(*index.shape, X.shape[1]).to(device)


def _to_dense(X: Any) -> torch.Tensor:
    return torch.from_numpy(X.toarray())


def blocks(n: int) -> Iterator[slice]:
    """Cut `n` rows into pieces of at most BLOCK rows."""
    for start in range(0, n, BLOCK):
        yield slice(start, min(start + BLOCK, n))


class Rows:
    """The rows of K networks, each with its own.

    Parameters
    ----------
    samples : sequence of Samples
        Of each network. One network's are used where they are; those of several are
        put together, and one of weight zero, for a network that has fewer than others.
    n_classes : int
        Number of classes.
    label_smoothing : float
        Share of each target that is spread evenly over all classes.
    """

    def __init__(
        self, samples: Sequence[Samples], n_classes: int, label_smoothing: float
    ) -> None:
        self.n_classes, self.label_smoothing = n_classes, label_smoothing
        self.counts = [len(of_one) for of_one in samples]
        self.X, self.y, self.weight = samples[0].X, samples[0].y, samples[0].weight
        self.device = self.weight.device
        if len(samples) > 1:
            self.X = _concatenate([of_one.X for of_one in samples])
            self.y = torch.cat([*(of_one.y for of_one in samples), self.y.new_zeros(1)])
            self.weight = torch.cat(
                [*(of_one.weight for of_one in samples), self.weight.new_zeros(1)]
            )

    def in_order(self) -> Batch:
        """Return all rows as one batch."""
        if len(self.counts) == 1:
            return Batch(self, slice(0, self.counts[0]), self.counts)
        return Batch(
            self, self._side_by_side(map(torch.arange, self.counts)), self.counts
        )

    def shuffled(
        self, size: int, generators: Sequence[torch.Generator]
    ) -> Iterator[Batch]:
        """Yield batches of `size` rows, of each network in an order of its own."""
        orders = [
            torch.randperm(count, generator=generator)
            for count, generator in zip(self.counts, generators, strict=True)
        ]
        order = orders[0].to(self.device)
        if len(orders) > 1:
            order = self._side_by_side(orders)
        for i, index in enumerate(torch.split(order, size, -1)):
            yield Batch(self, index, [min(n - i * size, size) for n in self.counts])

    def _side_by_side(self, orders: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return where the rows in these orders are, (K, n); -1, the last, pads."""
        index = torch.full((len(self.counts), max(self.counts)), len(self.y) - 1)
        start = 0
        for k, order in enumerate(orders):
            torch.add(order, start, out=index[k, : len(order)])
            start += len(order)
        return index.to(self.device)


def _concatenate(Xs: Sequence[Any]) -> Any:
    """Return the rows of all matrices, and one of zeros."""
    shape = (1, Xs[0].shape[1])
    if isinstance(Xs[0], torch.Tensor):
        return torch.cat([*Xs, Xs[0].new_zeros(shape)])
    zeros = sparse.csr_array(shape, dtype=Xs[0].dtype)
    return sparse.vstack([*Xs, zeros], format="csr")


class Block(NamedTuple):
    """A part of a batch that passes through the networks at once."""

    x: torch.Tensor
    """Features, (K, n, n_features) or (n, n_features) for K = 1."""
    targets: Targets
    """Classes, with each row's share of the weight of the network's batch."""
    counts: list[int]
    """How many of the n rows each network has; the others have weight zero."""


class Batch:
    """The rows of one step.

    Parameters
    ----------
    rows : Rows
        Where they come from.
    index : slice from 0 for K = 1, or torch.Tensor of shape (K, n), or (n,) for K = 1
        Which of them.
    counts : list of int
        How many of the n rows each network has; the others have weight zero.

    Attributes
    ----------
    total : torch.Tensor of shape (K,), or () for K = 1
        The sum of the weights of each network's rows.
    """

    def __init__(
        self, rows: Rows, index: slice | torch.Tensor, counts: list[int]
    ) -> None:
        self.rows, self.index, self.counts = rows, index, counts
        w = rows.weight[index]
        # Rows that all have a class of weight zero have no gradient.
        total = w.sum(-1, keepdim=True).clamp_min_(torch.finfo(w.dtype).tiny)
        self.shares, self.total = w / total, total.squeeze(-1)
        self._whole: Block | None = None

    def blocks(self) -> Iterable[Block]:
        """Return the rows block by block."""
        n = self.shares.shape[-1]
        if n > BLOCK:
            return map(self._block, blocks(n))
        if self._whole is None:
            self._whole = self._block(slice(0, n))
        return [self._whole]

    def features_and_classes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return X and y of all rows, for K = 1."""
        return dense_rows(self.rows.X, self.index, self.rows.device), self.rows.y[
            self.index
        ]

    def _block(self, at: slice) -> Block:
        rows = self.rows
        index = at if isinstance(self.index, slice) else self.index[..., at]
        targets = make_targets(
            rows.y[index], self.shares[..., at], rows.n_classes, rows.label_smoothing
        )
        counts = [max(0, min(n, at.stop) - at.start) for n in self.counts]
        return Block(dense_rows(rows.X, index, rows.device), targets, counts)
