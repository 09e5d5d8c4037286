"""Learning rates that change from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
}
"""Name of a schedule -> the factor of the learning rate after a share of the training.

The cosine is that of Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with
Warm Restarts, ICLR 2017, without restarts.
"""


class Rates:
    """The learning rates of an optimizer, annealed over a training.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Whose rates, of all its groups, are set.
    n_batches : int
        Steps of an epoch.
    on_device : bool
        Whether the rates are tensors on the device, which a captured step reads there.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, n_batches: int, *, on_device: bool
    ) -> None:
        self._groups = optimizer.param_groups
        self._base = [group["lr"] for group in self._groups]
        self._n_batches = n_batches
        self._factors: list[float] | torch.Tensor = [1.0] * n_batches
        if on_device:
            like = self._groups[0]["params"][0].detach()
            self._factors = like.new_ones(n_batches)
            for group, rate in zip(self._groups, self._base, strict=True):
                group["lr"] = like.new_tensor(rate)

    def anneal(self, schedule: str, epoch: int, epochs: int) -> None:
        """Compute the rates of an epoch's steps."""
        factors = [
            SCHEDULES[schedule]((epoch + batch / self._n_batches) / epochs)
            for batch in range(self._n_batches)
        ]
        if isinstance(self._factors, torch.Tensor):
            self._factors.copy_(torch.tensor(factors, dtype=self._factors.dtype))
        else:
            self._factors = factors

    def set(self, batch: int) -> None:
        """Set the rates to those of a step."""
        for group, rate in zip(self._groups, self._base, strict=True):
            if isinstance(self._factors, torch.Tensor):
                torch.mul(self._factors[batch], rate, out=group["lr"])
            else:
                group["lr"] = rate * self._factors[batch]

    def reset(self) -> None:
        """Set the rates to what they were before."""
        for group, rate in zip(self._groups, self._base, strict=True):
            group["lr"] = rate
