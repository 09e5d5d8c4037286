"""The training of a network, kept to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback

from torchblob import TorchBlobClassifier
from torchblob.inspection._plane import NAME
from torchblob.inspection._responses import last_estimator

Weights = dict[str, torch.Tensor]


class _Snapshots(Callback):
    """Copies of a network's weights: untrained, and at the end of some epochs."""

    def __init__(self, epochs: set[int]) -> None:
        self.epochs = epochs
        self.weights: dict[int, Weights] = {}
        self.last: Weights = {}

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self._keep(net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        self._keep(net)

    def _keep(self, net: NeuralNet) -> None:
        epoch = len(net.history)
        self.last = _weights_of(net.module_)
        if epoch in self.epochs:
            self.weights[epoch] = self.last


def _weights_of(module: torch.nn.Module) -> Weights:
    """Return copies of a module's weights, on its device."""
    return {name: w.detach().clone() for name, w in module.state_dict().items()}


class RecordedTraining:
    """A classifier that can be set to how it was after an epoch of its training.

    Parameters
    ----------
    estimator : TorchBlobClassifier or Pipeline that ends with one
        To be trained; a clone is.
    X, y : array-likes
        The data.
    frames : int or sequence of int
        The epochs, 0 for the untrained network, or their number, spread evenly.
    fit_params : mapping
        Further arguments of `fit`.

    Attributes
    ----------
    epochs : list of int
        Those that can be returned to. The last is that which early stopping chose, or
        the last of all.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        frames: int | Sequence[int],
        fit_params: Mapping[str, Any],
    ) -> None:
        self._estimator = clone(estimator)
        network, _ = last_estimator(self._estimator)
        if not isinstance(network, TorchBlobClassifier):
            raise ValueError(
                f"{NAME}.animate needs a TorchBlobClassifier, alone or at the end of a "
                f"Pipeline: it trains a clone. Got {estimator!r}."
            )
        snapshots = _Snapshots(_checked_epochs(frames, network.max_epochs))
        network.set_params(callbacks=[*(network.callbacks or []), snapshots])
        self._estimator.fit(X, y, **fit_params)
        self._module = network.module_
        self._weights = snapshots.weights
        if network.best_epoch_ is None:
            last, kept = network.n_iter_, snapshots.last
        else:
            last, kept = network.best_epoch_, _weights_of(self._module)
        self._weights[last] = kept
        self.epochs = sorted(epoch for epoch in self._weights if epoch <= last)

    def at(self, epoch: int) -> Any:
        """Return the classifier as it was after an epoch, until the next call."""
        self._module.load_state_dict(self._weights[epoch])
        return self._estimator


def _checked_epochs(frames: Any, max_epochs: int) -> set[int]:
    """Return the epochs that are asked for."""
    epochs = np.asarray(frames)
    if epochs.ndim == 0 and epochs.dtype.kind in "iu" and epochs >= 2:
        epochs = np.linspace(0, max_epochs, int(epochs)).round().astype(int)
    if epochs.ndim != 1 or epochs.dtype.kind not in "iu" or not len(epochs):
        raise ValueError(
            f"{NAME}.animate: frames must be a number of pictures, 2 or more, or a "
            f"list of epochs such as [0, 1, 2, 5]. Got {frames!r}."
        )
    if epochs.min() < 0 or epochs.max() > max_epochs:
        raise ValueError(
            f"{NAME}.animate: frames must be epochs from 0, the untrained network, to "
            f"max_epochs={max_epochs}. Got {epochs.tolist()}."
        )
    return set(epochs.tolist())
