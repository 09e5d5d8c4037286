"""Whether a training came to its end, and what to advise if it did not."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from torchblob.training import Samples, Task

if TYPE_CHECKING:
    from torchblob._classifier import TorchBlobClassifier


def is_still_falling(losses: list[float], window: int, tol: float) -> bool:
    """Return whether more epochs would have lowered the loss by much.

    The pace is the slope of a line through the last `window` epochs. It must exceed
    `tol`, and a tenth of the mean pace of the whole training: then as many epochs
    again would add a tenth or more to what the training achieved. Without the second
    part, training that is all but done is reported as unfinished: cross-entropy on
    separable classes falls forever, ever slower.
    """
    centered = np.arange(window + 1) - window / 2
    pace = -(centered @ losses[-window - 1 :]) / (centered @ centered)
    mean_pace = (losses[0] - losses[-1]) / (len(losses) - 1)
    return bool(pace > tol and pace > 0.1 * mean_pace)


def constant_loss(samples: Samples, n_classes: int, label_smoothing: float) -> float:
    """Return the loss of the best answer that ignores the features.

    That answer is the mean target, the share of each class, and its loss the entropy
    of that, in nats.
    """
    counts = torch.bincount(
        samples.y.cpu(), weights=samples.weight.cpu().double(), minlength=n_classes
    )
    shares = counts / counts.sum()
    target = (1 - label_smoothing) * shares + label_smoothing / n_classes
    return float(torch.special.entr(target).sum())


def warn_if_unfinished(
    estimator: TorchBlobClassifier, losses: list[float], task: Task, stacklevel: int
) -> None:
    """Warn of a training that came to nothing or should have gone on.

    Parameters
    ----------
    estimator : TorchBlobClassifier
        What was fitted.
    losses : list of float
        The training loss of each epoch of this fit.
    task : Task
        What it was fitted on, and which epoch's weights it has.
    stacklevel : int
        As of :func:`warnings.warn`, where 1 is the caller.
    """
    name, window = type(estimator).__name__, estimator.n_iter_no_change
    if len(losses) <= window:  # nobody expects much of so few epochs
        return
    loss = losses[-1]
    if task.stopping is not None and task.stopping.best_epoch is not None:
        # Losses are taken before each step: those around the weights that were kept.
        best = min(task.stopping.best_epoch, len(losses) - 1)
        loss = min(losses[best : best + 2])
    baseline = constant_loss(
        task.train, len(estimator.classes_), estimator.label_smoothing
    )
    # To one part in a thousand: a network that is dead comes close to it from above.
    if loss > 0.999 * baseline:
        if loss > max(2 * baseline, losses[0]):
            advice = (
                f"Lower lr, now {estimator.lr}, or scale the features, for example by "
                "a StandardScaler."
            )
        else:
            advice = (
                "Scale the features, for example by a StandardScaler, change lr, now "
                f"{estimator.lr}"
            )
            if len(losses) == estimator.max_epochs:
                advice += f", or raise max_epochs, now {estimator.max_epochs}"
            advice += "."
        message = (
            f"the network has not learned. Its training loss, {loss:.4g}, is not below "
            f"{baseline:.4g}, that of answering with the share of each class. {advice}"
        )
    elif len(losses) == estimator.max_epochs and is_still_falling(
        losses, window, estimator.tol
    ):
        message = (
            f"the training loss was still falling at max_epochs={len(losses)}: "
            f"{losses[-1]:.4g}, and {window} epochs before {losses[-1 - window]:.4g}. "
            "Raise max_epochs or lr, or scale the features, for example by a "
            "StandardScaler."
        )
    else:
        return
    warnings.warn(f"{name}: {message}", ConvergenceWarning, stacklevel + 1)
