"""The plane through the space of the features that a picture shows."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

NAME = "DecisionBoundaryDisplay"


def make_plane(X: Any, features: Any, held: Mapping[Any, Any] | None) -> Plane:
    """Return the plane of two features, or of two principal components.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features)
        Data.
    features : tuple of two ints or names, "pca" or None
        None is the two features that there are.
    held : mapping, default=None
        Values of other features, by index or name.

    Raises
    ------
    ValueError
        If there are not two such features, or `held` has one that is not held.
    """
    if not hasattr(X, "columns"):
        X = as_array(X)
        if X.ndim != 2:
            raise ValueError(
                f"{NAME} needs X of shape (n_samples, n_features). Got an array of the "
                f"shape {X.shape}."
            )
    if isinstance(features, str) and features == "pca":
        if held:
            raise ValueError(
                f"{NAME}: with features='pca' no feature is held. Leave `held` out."
            )
        return _Components(X)
    n_features = X.shape[1]
    if features is None:
        if n_features != 2:
            raise ValueError(
                f"{NAME}: n_features must be equal to 2. Got {n_features} instead: "
                "choose two by features=(i, j), or features='pca' for the plane of the "
                "first two principal components."
            )
        features = (0, 1)
    return _Slice(X, features, held or {})


class Plane:
    """A plane, with coordinates of its own.

    Attributes
    ----------
    labels : tuple of two str
        What its coordinates are.
    note : str
        What else a reader must know.
    """

    labels: tuple[str, str]
    note: str = ""

    def coordinates(self, X: Any) -> np.ndarray:
        """Return where rows of the data lie in the plane, (n_samples, 2)."""
        raise NotImplementedError

    def rows(self, points: np.ndarray) -> Any:
        """Return points of the plane, (n, 2), as rows of data of the original kind."""
        raise NotImplementedError


class _Slice(Plane):
    """Two features, with the others held at values of theirs."""

    def __init__(self, X: Any, features: Any, held: Mapping[Any, Any]) -> None:
        self._names = list(X.columns) if hasattr(X, "columns") else None
        if isinstance(features, str) or len(features) != 2:
            raise ValueError(
                f"{NAME} needs two features, as indices or names, or 'pca'. Got "
                f"{features!r}."
            )
        self._at = [self._index(feature, X.shape[1]) for feature in features]
        if self._at[0] == self._at[1]:
            raise ValueError(f"{NAME} needs two different features. Got {features!r}.")
        given = {self._index(key, X.shape[1]): value for key, value in held.items()}
        if not given.keys().isdisjoint(self._at):
            raise ValueError(
                f"{NAME}: features of the picture can't be held. Got features="
                f"{features!r} and held={dict(held)!r}."
            )
        self._like = X
        self._held = {
            i: given[i] if i in given else _typical(column)
            for i, column in enumerate(_columns(X))
            if i not in self._at
        }
        self.labels = self._label(self._at[0]), self._label(self._at[1])
        if self._held:
            at_values = ", ".join(
                f"{self._label(i)} = {_short(value)}" for i, value in given.items()
            )
            rest = self._held.keys() - given.keys()
            others = "others" if given else "other features"
            what = "median"
            columns = _columns(X)
            if not all(_are_numbers(columns[i]) for i in rest):
                what += " or most frequent value"
            typical = f"{others} at their {what}" if rest else ""
            note = ", ".join(filter(None, [at_values, typical]))
            self.note = textwrap.fill(note, 50)

    def _index(self, feature: Any, n_features: int) -> int:
        if self._names is not None and feature in self._names:
            return self._names.index(feature)
        is_index = isinstance(feature, (int, np.integer))
        if is_index and -n_features <= feature < n_features:
            return int(feature) % n_features
        known = f"0 to {n_features - 1}"
        if self._names is not None:
            known = f"one of {self._names}, or {known}"
        raise ValueError(f"{NAME}: there is no feature {feature!r}; give {known}.")

    def _label(self, i: int) -> str:
        return str(self._names[i]) if self._names is not None else f"feature {i}"

    def coordinates(self, X: Any) -> np.ndarray:
        columns = _columns(X)
        return np.stack([np.asarray(columns[i], float) for i in self._at], axis=1)

    def rows(self, points: np.ndarray) -> Any:
        values = [self._held.get(i) for i in range(self._like.shape[1])]
        columns: list[Any] = [[value] * len(points) for value in values]
        for i, of_points in zip(self._at, points.T, strict=True):
            columns[i] = of_points
        if self._names is None:
            dtype = object if self._like.dtype == object else float
            return np.stack([np.asarray(column, dtype) for column in columns], axis=1)
        rows = type(self._like)(dict(zip(self._names, columns, strict=True)))
        # Categories and the like; a median need not be an int where all values are.
        of_like = _columns(self._like)
        types = {
            self._names[i]: of_like[i].dtype
            for i in self._held
            if not _are_numbers(of_like[i])
        }
        return rows.astype(types) if hasattr(rows, "astype") else rows.cast(types)


class _Components(Plane):
    """The plane of the first two principal components, through the mean.

    Of standardized features, or else the ones of large numbers would decide.
    """

    def __init__(self, X: Any) -> None:
        self._like = X
        try:
            values = np.asarray(X, float)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{NAME}: features='pca' needs numbers in all columns. Choose two "
                f"features instead. ({error})"
            ) from error
        self._scaler = StandardScaler().fit(values)
        self._pca = PCA(2, svd_solver="full").fit(self._scaler.transform(values))
        first, second = (
            f"principal component {i + 1} ({share:.0%} of the variance)"
            for i, share in enumerate(self._pca.explained_variance_ratio_)
        )
        self.labels = first, second
        self.note = "of standardized features, in the plane through their mean"

    def coordinates(self, X: Any) -> np.ndarray:
        values = np.asarray(as_array(X), float)
        return self._pca.transform(self._scaler.transform(values))

    def rows(self, points: np.ndarray) -> Any:
        rows = self._scaler.inverse_transform(self._pca.inverse_transform(points))
        if not hasattr(self._like, "columns"):
            return rows
        names = list(self._like.columns)
        return type(self._like)(dict(zip(names, rows.T, strict=True)))


def _columns(X: Any) -> list[Any]:
    """Return the columns of a frame or of an array-like."""
    if hasattr(X, "columns"):
        return [X[name] for name in X.columns]
    return list(as_array(X).T)


def as_array(X: Any) -> np.ndarray:
    """Return an array-like, a sparse matrix or a tensor as an array."""
    if sparse.issparse(X):
        return X.toarray()
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        return (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    return np.asarray(X)


def _typical(column: Any) -> Any:
    """Return the median of numbers, and of anything else what is most frequent."""
    values = np.asarray(column)
    if _are_numbers(column):
        there = values[~np.isnan(values)]
        return np.median(there) if len(there) else np.nan
    drop = getattr(column, "dropna", None) or getattr(column, "drop_nulls", None)
    counts = Counter(values.tolist() if drop is None else drop())
    return counts.most_common(1)[0][0] if counts else None


def _are_numbers(column: Any) -> bool:
    return np.asarray(column).dtype.kind in "iuf"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)
