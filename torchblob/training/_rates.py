"""Learning rates that change from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from torchblob.training._samples import upload

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
    schedule : str
        A key of `SCHEDULES`.
    epochs : int
        Of the training.
    n_batches : int
        Steps of an epoch.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: str,
        epochs: int,
        n_batches: int,
    ) -> None:
        self._optimizer = optimizer
        self._base = [group["lr"] for group in optimizer.param_groups]
        self._schedule, self._epochs, self._n_batches = schedule, epochs, n_batches
        self._factors: list[float] = []

    def begin_epoch(self, epoch: int) -> None:
        """Compute the rates of an epoch's steps."""
        factor = SCHEDULES[self._schedule]
        self._factors = [
            factor((epoch + batch / self._n_batches) / self._epochs)
            for batch in range(self._n_batches)
        ]

    def set(self, batch: int) -> None:
        """Set the rates to those of a step."""
        self._assign([rate * self._factors[batch] for rate in self._base])

    def reset(self) -> None:
        """Set the rates to what they were before."""
        self._assign(self._base)

    def _assign(self, rates: Sequence[float | torch.Tensor]) -> None:
        """Give each group of the optimizer, which may be others by now, its rate."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


class DeviceRates(Rates):
    """Rates that are tensors on the device, where a captured step reads them."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: str,
        epochs: int,
        n_batches: int,
    ) -> None:
        super().__init__(optimizer, schedule, epochs, n_batches)
        like = optimizer.param_groups[0]["params"][0].detach()
        self._on_device = like.new_ones(n_batches)
        # A graph writes to them, even if somebody takes them out of the optimizer.
        self._rates = [like.new_tensor(rate) for rate in self._base]
        self._assign(self._rates)

    def begin_epoch(self, epoch: int) -> None:
        """Compute the rates of an epoch's steps, and send them to the device."""
        super().begin_epoch(epoch)
        factors = torch.tensor(self._factors, dtype=self._on_device.dtype, device="cpu")
        self._on_device.copy_(upload(factors, self._on_device.device))

    def set(self, batch: int) -> None:
        """Set the rates to those of a step."""
        for on_device, rate in zip(self._rates, self._base, strict=True):
            torch.mul(self._on_device[batch], rate, out=on_device)
