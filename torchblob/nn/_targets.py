"""What rows should be, in the form in which the kernel needs it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Targets(NamedTuple):
    """What the rows of a block should be, and how much each counts."""

    y: torch.Tensor
    """Class indices, (K, n) or (n,) for K = 1, int64."""
    weight: torch.Tensor
    """Of each row's loss, (K, 1, n) or (1, n)."""
    negated: torch.Tensor
    """Target distribution times minus the weight, (K, n_classes, n) or (n_classes, n).

    Then the loss is its product with the logarithms of the probabilities."""


def negated_targets(
    n_classes: int, label_smoothing: float, like: torch.Tensor
) -> torch.Tensor:
    """Return minus each class's target distribution, a column each.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    label_smoothing : float
        Share of each target that is spread evenly over all classes.
    like : torch.Tensor
        Of whose precision and device the result is.

    Returns
    -------
    torch.Tensor of shape (n_classes, n_classes)
    """
    table = torch.eye(n_classes, dtype=like.dtype, device=like.device)
    return table.mul_(label_smoothing - 1).sub_(label_smoothing / n_classes)


def make_targets(
    y: torch.Tensor,
    weight: torch.Tensor,
    table: torch.Tensor,
    out: Targets | None = None,
) -> Targets:
    """Return the weighted targets of class indices.

    Parameters
    ----------
    y : torch.Tensor of shape (K, n), or (n,) for K = 1, int64
        Class indices.
    weight : torch.Tensor of the same shape
        Weight of each row's loss.
    table : torch.Tensor of shape (n_classes, n_classes)
        From :func:`negated_targets`.
    out : Targets, default=None
        Targets of as many rows, to be overwritten.
    """
    weight = weight.unsqueeze(-2)
    if out is None:
        flat = table.index_select(1, y.reshape(-1))
        # For K > 1, columns of the table lie side by side, network after network.
        negated = flat if y.ndim == 1 else flat.view(-1, *y.shape).transpose(0, 1)
        return Targets(y, weight, negated.mul_(weight))
    flat = out.negated if y.ndim == 1 else out.negated.transpose(0, 1).flatten(1)
    torch.index_select(table, 1, y.reshape(-1), out=flat)
    out.negated.mul_(weight)
    out.y.copy_(y)
    out.weight.copy_(weight)
    return out
