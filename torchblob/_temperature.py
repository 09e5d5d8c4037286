"""How sure a classifier may be: one number, learned from rows it was not trained on."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

RANGE = (0.01, 100.0)
"""Temperatures between which the best is looked for."""

DOUBT = 0.001
"""Share of each target that is spread over the other classes."""


def fit_temperature(
    logits: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> float:
    """Return the temperature by which to divide logits so that they suit the labels.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        Of rows that had no part in the training; -inf for a class that is excluded,
        other than the row's own.
    codes : ndarray of shape (n_samples,), int
        Class index of each row.
    weights : ndarray of shape (n_samples,)
        Weight of each row, of which the largest is about 1.

    Returns
    -------
    float
        The minimum of the mean cross-entropy, which has only one (Guo, Pleiss, Sun and
        Weinberger, On Calibration of Modern Neural Networks, ICML 2017). A little doubt
        in the targets keeps it above 0 where all rows are classified right. 1 if there
        are no rows.
    """
    if not len(codes):
        return 1.0
    possible = np.isfinite(logits)
    n_others = np.maximum(possible.sum(1, keepdims=True) - 1, 1)
    targets = np.where(possible, DOUBT / n_others, 0.0)
    targets[np.arange(len(codes)), codes] = 1 - DOUBT
    targets *= weights[:, None]

    def loss(log_temperature: float) -> float:
        log_proba = log_softmax(logits / np.exp(log_temperature), axis=1)
        log_proba[~possible] = 0  # whose targets are 0 too
        return -float(np.vdot(targets, log_proba))

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded")
    return float(np.exp(found.x))
