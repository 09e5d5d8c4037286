"""What the classifiers share on scikit-learn's side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin

from torchblob._data import array_of, errors_about, plain_labels


def is_dispatched(X: Any) -> bool:
    """Return whether output for `X` should be a tensor on its device."""
    return isinstance(X, torch.Tensor) and get_config()["array_api_dispatch"]


def like(X: Any, output: torch.Tensor) -> Any:
    """Return `output` as the kind of array that a user who passed `X` expects."""
    return output.to(X.device) if is_dispatched(X) else output.cpu().numpy()


@contextmanager
def unchanged_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Give the estimator its fitted attributes back when the block raises."""
    attributes = vars(estimator)
    before = {name: attributes[name] for name in attributes if name.endswith("_")}
    try:
        yield
    except BaseException:
        for name in [name for name in attributes if name.endswith("_")]:
            del attributes[name]
        attributes.update(before)
        raise


class TensorClassifierMixin(ClassifierMixin):
    """A classifier that takes tensors as well as arrays."""

    classes_: np.ndarray

    def _labels_like(self, X: Any, codes: torch.Tensor) -> Any:
        """Return the labels with these indices in the form that goes with `X`."""
        if is_dispatched(X) and self.classes_.dtype.kind in "biu":
            return torch.from_numpy(self.classes_).to(X.device)[codes.to(X.device)]
        return self.classes_[codes.cpu().numpy()]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on data and labels.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.
        y : array-like or tensor of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        accuracy : float
            Share of the rows (of their weight) that are classified right.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite, or
            so large that the network's output is not.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf = clf.fit(X, y)
        >>> clf.score(X, y) > 0.9
        True
        """
        if not is_dispatched(y):
            with errors_about(f"{type(self).__name__}.score, in y or sample_weight"):
                y = plain_labels(y)
                if isinstance(sample_weight, torch.Tensor):
                    sample_weight = array_of(sample_weight)
        return float(super().score(X, y, sample_weight))
