"""Whether a training came to its end, and what to advise if it did not."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from torchblob.training import Samples

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
    estimator: TorchBlobClassifier, losses: list[float], train: Samples, stacklevel: int
) -> None:
    """Warn of a training that came to nothing or should have gone on.

    Parameters
    ----------
    estimator : TorchBlobClassifier
        What was fitted.
    losses : list of float
        The training loss of each epoch of this fit.
    train : Samples
        What it was fitted on.
    stacklevel : int
        As of :func:`warnings.warn`, where 1 is the caller.
    """
    name, window = type(estimator).__name__, estimator.n_iter_no_change
    if len(losses) <= window:  # nobody expects much of so few epochs
        return
    message = ""
    baseline = constant_loss(train, len(estimator.classes_), estimator.label_smoothing)
    # To one part in a thousand: a network that is dead comes close to it from above.
    if losses[-1] > 0.999 * baseline:
        message = (
            f"the network has not learned. Its training loss, {losses[-1]:.4g}, is not "
            f"below {baseline:.4g}, that of answering with the share of each class. "
        )
        if losses[-1] > max(2 * baseline, losses[0]):
            message += f"Lower lr, now {estimator.lr}, or scale the features, "
            message += "for example by a StandardScaler."
        else:
            message += "Scale the features, for example by a StandardScaler, change "
            message += f"lr, now {estimator.lr}, or raise max_epochs, now "
            message += f"{estimator.max_epochs}."
    elif len(losses) == estimator.max_epochs and is_still_falling(
        losses, window, estimator.tol
    ):
        message = (
            f"the training loss was still falling at max_epochs={len(losses)}: "
            f"{losses[-1]:.4g}, and {window} epochs before {losses[-1 - window]:.4g}. "
            "Raise max_epochs or lr, or scale the features, for example by a "
            "StandardScaler."
        )
    if message:
        warnings.warn(f"{name}: {message}", ConvergenceWarning, stacklevel + 1)
