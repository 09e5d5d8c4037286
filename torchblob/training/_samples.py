"""Rows of data on the device that trains on them, in the order of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from scipy import sparse

from torchblob.nn import Targets, make_targets, negated_targets

NARROW = 16
"""Features up to which products with rows are slower than a copy by features is."""


@dataclass(frozen=True)
class Samples:
    """Validated rows, their classes and their weights.

    Parameters
    ----------
    X : torch.Tensor, ndarray or CSR matrix of shape (n_samples, n_features)
        Features. A tensor lies on the device already. Arrays and CSR stay on the host,
        from which the rows in use come, made dense.
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


def dense_rows(X: Any, index: slice | torch.Tensor) -> torch.Tensor:
    """Return rows as a tensor where they are.

    Parameters
    ----------
    X : torch.Tensor, ndarray or CSR matrix of shape (n_samples, n_features)
        Data.
    index : slice, or torch.Tensor of shape (...), int64
        Which rows; those of a slice of a tensor are a view.

    Returns
    -------
    torch.Tensor of shape (..., n_features)
    """
    if isinstance(X, np.ndarray):
        X = torch.from_numpy(X)
    if isinstance(index, slice):
        return X[index] if isinstance(X, torch.Tensor) else _to_dense(X[index])
    flat = index.reshape(-1)
    if isinstance(X, torch.Tensor):
        rows = X.index_select(0, flat.to(X.device))
    else:
        rows = _to_dense(X[flat.cpu().numpy()])
    return rows.view(*index.shape, X.shape[1])


def _to_dense(X: Any) -> torch.Tensor:
    return torch.from_numpy(X.toarray())


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the host's on a device, if possible without waiting for it."""
    if device.type == "cuda":  # which reads pinned memory while the host goes on
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def pieces(rows: slice, size: int) -> list[slice]:
    """Cut a range of rows into pieces of `size`, of which the last may be smaller."""
    return [
        slice(start, min(start + size, rows.stop))
        for start in range(rows.start, rows.stop, size)
    ]


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
        self.counts = [len(of_one) for of_one in samples]
        self.X, self.y, self.weight = samples[0].X, samples[0].y, samples[0].weight
        self.device = self.weight.device
        self.table = negated_targets(n_classes, label_smoothing, self.weight)
        if len(samples) > 1:
            self.X = _concatenate([of_one.X for of_one in samples])
            self.y = torch.cat([*(of_one.y for of_one in samples), self.y.new_zeros(1)])
            self.weight = torch.cat(
                [*(of_one.weight for of_one in samples), self.weight.new_zeros(1)]
            )

    def in_one_batch(self) -> Pass:
        """Return a pass over all rows at once, in their order."""
        if len(self.counts) == 1:
            return Pass(self, None, self.counts[0])
        return Pass(self, self._in_order(), max(self.counts))

    def in_batches(self, size: int) -> Pass:
        """Return a pass in batches of `size`, whose order can be changed."""
        return Pass(self, self._in_order(), size)

    def _in_order(self) -> torch.Tensor:
        orders = [torch.arange(count, device="cpu") for count in self.counts]
        return self._side_by_side(orders)

    def shuffled(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Return rows in an order of each network's own, (K, n), or (n,) for K = 1."""
        orders = [
            torch.randperm(count, generator=generator, device="cpu")
            for count, generator in zip(self.counts, generators, strict=True)
        ]
        return self._side_by_side(orders)

    def _side_by_side(self, orders: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return where the rows in these orders are, (K, n), or (n,) for K = 1.

        The last row, which weighs nothing, pads.
        """
        if len(orders) == 1:
            return upload(orders[0], self.device)
        shape = (len(self.counts), max(self.counts))
        index = torch.full(shape, len(self.y) - 1, device="cpu")
        start = 0
        for k, order in enumerate(orders):
            torch.add(order, start, out=index[k, : len(order)])
            start += len(order)
        return upload(index, self.device)


def _concatenate(Xs: Sequence[Any]) -> Any:
    """Return the rows of all matrices, and one of zeros."""
    shape = (1, Xs[0].shape[1])
    if isinstance(Xs[0], torch.Tensor):
        return torch.cat([*Xs, Xs[0].new_zeros(shape)])
    if isinstance(Xs[0], np.ndarray):
        return np.concatenate([*Xs, np.zeros(shape, Xs[0].dtype)])
    zeros = sparse.csr_array(shape, dtype=Xs[0].dtype)
    return sparse.vstack([*Xs, zeros], format="csr")


class Block(NamedTuple):
    """Rows that pass through the networks at once."""

    x: torch.Tensor
    """Features, (K, n, n_features) or (n, n_features) for K = 1."""
    targets: Targets
    """Classes, with each row's share of the weight of the network's batch."""


class Pass:
    """The rows in the order in which an epoch takes them, and their batches.

    Parameters
    ----------
    rows : Rows
        Where they come from.
    index : torch.Tensor of shape (K, n), or (n,) for K = 1, or None
        Which row is where; None is their own order, for K = 1.
    size : int
        Rows of a batch; the last may be smaller.

    Attributes
    ----------
    batches : list of slice
        The rows of each batch.
    y : torch.Tensor of shape (K, n), or (n,) for K = 1
        Class indices.
    shares : torch.Tensor of the same shape
        Each row's share of the weight of the network's batch.
    totals : torch.Tensor of shape (n_batches, K), or (n_batches,) for K = 1
        The sum of the weights of each network's rows in each batch.
    """

    def __init__(self, rows: Rows, index: torch.Tensor | None, size: int) -> None:
        self.rows, self.index, self.size = rows, index, size
        n = rows.counts[0] if index is None else index.shape[-1]
        self.batches = pieces(slice(0, n), size)
        self.y, self.shares, self.totals = self._in_this_order()

    def reorder(self, index: torch.Tensor) -> None:
        """Put the rows of a pass in batches in another order.

        All tensors stay where they are.
        """
        cast(torch.Tensor, self.index).copy_(index)
        y, shares, totals = self._in_this_order()
        self.y.copy_(y)
        self.shares.copy_(shares)
        self.totals.copy_(totals)

    def _in_this_order(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return `y`, `shares` and `totals`."""
        y, weight = self.rows.y, self.rows.weight
        if self.index is not None:
            y, weight = y[self.index], weight[self.index]
        n = weight.shape[-1]
        padding = len(self.batches) * self.size - n
        padded = torch.nn.functional.pad(weight, (0, padding))
        by_batch = padded.view(*weight.shape[:-1], -1, self.size)
        totals = by_batch.sum(-1, keepdim=True)
        # Rows that all have a class of weight zero have no gradient.
        shares = by_batch / totals.clamp_min(torch.finfo(weight.dtype).tiny)
        totals = totals.squeeze(-1).movedim(-1, 0)
        return y, shares.flatten(-2)[..., :n], totals

    @property
    def n_floats(self) -> int:
        """Size of the copies that the blocks of all rows make."""
        n_features = self.rows.X.shape[1]
        is_view = self.index is None and torch.is_tensor(self.rows.X)
        copied = 0 if is_view and n_features > NARROW else n_features
        return self.y.numel() * (copied + len(self.rows.table))

    def block(self, at: slice) -> Block:
        """Return the rows of a range within a batch."""
        y, shares = self.y[..., at], self.shares[..., at]
        x = self.features(at)
        if x.shape[-1] <= NARROW:
            x = x.mT.contiguous().mT
        return Block(x, make_targets(y, shares, self.rows.table))

    def load(self, at: slice, block: Block) -> None:
        """Overwrite a block of as many rows."""
        X, x, index = self.rows.X, block.x, self.index
        if isinstance(X, torch.Tensor) and index is not None and x.is_contiguous():
            flat = index[..., at].reshape(-1)
            torch.index_select(X, 0, flat, out=x.view(-1, x.shape[-1]))
        else:
            x.copy_(self.features(at))
        y, shares = self.y[..., at], self.shares[..., at]
        make_targets(y, shares, self.rows.table, out=block.targets)

    def features(self, at: slice) -> torch.Tensor:
        """Return the features of a range, (K, n, n_features) or (n, n_features)."""
        index = at if self.index is None else self.index[..., at]
        return dense_rows(self.rows.X, index).to(self.rows.device)

    def counts(self, at: slice) -> list[int]:
        """Return how many rows of a range each network has; the others pad."""
        return [max(0, min(n, at.stop) - at.start) for n in self.rows.counts]
