"""When to stop, and the weights to return to."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from torchblob._facts import MalformedError, check_names, field, number

STATE = ("best", "best_epoch", "n_epochs", "epochs_without_progress")


def best_number(stopping: EarlyStopping | None, epochs_before: int) -> int | None:
    """Return the number, from 1, that the history gives to the best epoch, if any."""
    if stopping is None or stopping.best_epoch is None:
        return None
    return epochs_before + stopping.best_epoch + 1


class EarlyStopping:
    """Remember the best weights seen; stop after `patience` epochs without progress.

    Parameters
    ----------
    patience : int
        Epochs in a row that may pass without progress.
    tol : float
        An epoch is progress when it beats the best value before it by more than
        `tol`. The best weights are those of the best value, progress or not.
    greater_is_better : bool
        True for a score, False for a loss.

    Attributes
    ----------
    best_epoch : int or None
        Index of the epoch of the best weights, from 0, in this training; None if there
        is none.
    """

    def __init__(self, patience: int, tol: float, *, greater_is_better: bool) -> None:
        self.patience = patience
        self.tol = tol
        self.sign = 1.0 if greater_is_better else -1.0
        self.best = -math.inf
        self.best_epoch: int | None = None
        self.n_epochs = 0
        self.epochs_without_progress = 0
        self.best_weights: dict[str, torch.Tensor] | None = None

    def update(self, value: float, module: nn.Module) -> None:
        """Take an epoch's value, and `module`'s weights if it is the best so far."""
        gain = self.sign * value - self.best
        self.epochs_without_progress = (
            0 if gain > self.tol else self.epochs_without_progress + 1
        )
        if gain > 0:
            # An interrupt in between leaves the best before this one as it was.
            weights = {
                name: weight.clone() for name, weight in module.state_dict().items()
            }
            self.best, self.best_epoch = self.sign * value, self.n_epochs
            self.best_weights = weights
        self.n_epochs += 1

    @property
    def exhausted(self) -> bool:
        """Whether training should stop."""
        return self.epochs_without_progress >= self.patience

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return numbers and the best weights, with which another one goes on."""
        return {name: getattr(self, name) for name in STATE}, self.best_weights or {}

    def resume(
        self,
        numbers: dict[str, Any],
        weights: dict[str, torch.Tensor],
        module: nn.Module,
    ) -> None:
        """Go on from what :meth:`state` has returned.

        Raises
        ------
        MalformedError
            If it has not, or not for a module of this shape.
        """
        check_names(numbers, STATE, "stopping")
        self.best = field(numbers, "best", float)
        self.best_epoch = None
        self.n_epochs = number(numbers, "n_epochs", int)
        self.epochs_without_progress = number(numbers, "epochs_without_progress", int)
        if numbers.get("best_epoch") is None:
            return
        self.best_epoch = number(numbers, "best_epoch", int)
        if not self.best_epoch < self.n_epochs:
            raise MalformedError(f"epoch {self.best_epoch} is not one of the training")
        now = module.state_dict()
        if {k: (of.shape, of.dtype) for k, of in now.items()} != {
            k: (of.shape, of.dtype) for k, of in weights.items()
        }:
            raise MalformedError("the best weights are not of the network's shape")
        self.best_weights = {k: of.to(now[k].device) for k, of in weights.items()}

    def restore(self, module: nn.Module) -> None:
        """Give `module` the best weights back."""
        if self.best_weights is not None:
            module.load_state_dict(self.best_weights)
