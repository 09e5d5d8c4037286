"""Raw columns in the range in which networks learn, whatever their units and tails."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from torchblob._data import check_weights

FENCE = 3.0
"""Interquartile ranges beyond the quartiles where what does not set the scale begins.

Tukey's outer fences, of values that are "far out" (Exploratory Data Analysis, 1977).
"""

FAR = 3.0
"""Distance from the center, in scales, beyond which it counts by its logarithm."""

N_BINS = 8
"""Bins of equal numbers of rows that a column is cut into, at most."""

BLOCK_FLOATS = 2**17
"""Numbers that are encoded at a time, so that they stay in the cache."""


class ColumnEncoder(TransformerMixin, BaseEstimator):
    """Standardizes columns, with far values drawn in, and cuts them into linear pieces.

    Parameters
    ----------
    encoding : {"standard", "piecewise_linear"}, default="standard"
        "standard" makes one column of each. "piecewise_linear" adds one for each bin
        of a column: 0 below the bin, 1 above it, and linear within.
    dtype : numpy dtype, default=numpy.float32
        Of the result.

    Attributes
    ----------
    center_ : ndarray of shape (n_features,)
        What is subtracted from each column: its mean, or 0 if the data are sparse.
    scale_ : ndarray of shape (n_features,)
        What it is then divided by: its standard deviation, or of sparse data the
        geometric mean of the magnitudes of its entries.
    edges_ : list of n_features ndarrays
        The edges of the bins of each column, ascending; empty where there are none.

    Notes
    -----
    Mean and standard deviation are those of the column clipped at three interquartile
    ranges beyond its quartiles, so that a few wild values, or a long tail, do not
    squeeze all others together; of normally distributed values hardly one is that far
    away. A distance d of more than 3 standard deviations becomes 3 + log(1 + d - 3).

    If half of the rows have one value, the quartiles are those of the other rows.

    Bins hold equal numbers of rows, up to 8 a column, but for a value of many rows,
    which is an edge; a column of two values has none. They let a network bend sharply
    along one column, and as finely as the rows are dense (Gorishniy, Rubachev and
    Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS
    2022; here bounded at both ends). Sparse data are scaled only, so that zeros stay
    zeros.

    A row of weight 2 counts as two rows in all of this.
    """

    def __init__(self, encoding: str = "standard", *, dtype: Any = np.float32) -> None:
        self.encoding = encoding
        self.dtype = dtype

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ColumnEncoder:
        """Learn the scale of each column, and its bins.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Data; not modified.
        y : None
            Not used.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, >= 0; None is 1 for each.

        Returns
        -------
        self : ColumnEncoder
            The fitted encoder.
        """
        X = self._check(X, reset=True)
        weights = check_weights(sample_weight, X.shape[0], self)
        self.edges_ = [np.empty(0)] * X.shape[1]
        if sparse.issparse(X):
            self.center_, self.scale_ = np.zeros(X.shape[1]), _magnitudes(X, weights)
        else:
            self._fit_dense(X, weights)
        # All bins in a row, for `encode`: their columns, lower ends and widths.
        n_bins = [max(0, len(edges) - 1) for edges in self.edges_]
        self._columns = np.repeat(np.arange(X.shape[1]), n_bins)
        self._lower = np.concatenate([edges[:-1] for edges in self.edges_])
        self._width = np.concatenate([np.diff(edges) for edges in self.edges_])
        return self

    def _fit_dense(self, X: np.ndarray, weights: np.ndarray) -> None:
        self.center_, self.scale_ = np.empty((2, X.shape[1]))
        for column in range(X.shape[1]):
            values, rows = np.unique(X[:, column].astype(float), return_inverse=True)
            counts = np.bincount(rows, weights)
            values, counts = values[counts > 0], counts[counts > 0]
            self.center_[column], self.scale_[column] = _moments(values, counts)
            if self.encoding == "piecewise_linear" and len(values) > 2:
                self.edges_[column] = _edges(values, counts)

    def transform(self, X: Any) -> Any:
        """Encode data.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Data; not modified.

        Returns
        -------
        X_new : ndarray or CSR matrix of shape (n_samples, n_columns)
            The standardized columns, then for each column those of its bins.
        """
        check_is_fitted(self)
        return self.encode(self._check(X, reset=False))

    def encode(self, X: Any) -> Any:
        """Encode data that are checked already, as :meth:`transform` does."""
        if sparse.issparse(X):
            if not (self.center_.any() or len(self._columns)):
                X = X.astype(self.dtype)
                X.data = _drawn_in(X.data / self.scale_[X.indices]).astype(self.dtype)
                return X
            X = X.toarray()
        n_rows, n_features = X.shape
        encoded = np.empty((n_rows, n_features + len(self._columns)), self.dtype)
        step = max(1, BLOCK_FLOATS // encoded.shape[1])
        with np.errstate(over="ignore"):  # what is that far away stays at the end
            for start in range(0, n_rows, step):
                rows, out = X[start : start + step], encoded[start : start + step]
                out[:, :n_features] = _drawn_in((rows - self.center_) / self.scale_)
                if len(self._columns):
                    pieces = (rows[:, self._columns] - self._lower) / self._width
                    np.clip(pieces, 0, 1, out=out[:, n_features:])
        return encoded

    def _check(self, X: Any, *, reset: bool) -> Any:
        dtypes = [np.float64, np.float32]
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=dtypes)


def _drawn_in(distance: np.ndarray) -> np.ndarray:
    """Return distances from the center with logarithms of those that are far."""
    beyond = np.abs(distance) - FAR
    beyond = np.log1p(beyond.clip(0, np.finfo(beyond.dtype).max))
    return distance.clip(-FAR, FAR) + np.copysign(beyond, distance)


def _quantiles(
    values: np.ndarray, counts: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Return the values that are reached at these shares of all counts.

    The inverse of the distribution function, without interpolation, so that weights
    and repeated rows give the same.
    """
    reached = np.cumsum(counts)
    at = np.searchsorted(reached, shares * reached[-1])
    return values[at.clip(max=len(values) - 1)]


def _moments(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of sorted values, with those far out moved."""
    if len(values) == 1:
        return float(values[0]), 1.0
    # Divided by a power of two, so that no square is out of range.
    exponent = np.frexp(np.abs(values).max())[1] + 2
    values = np.ldexp(values, -exponent)
    ends = np.array([0.25, 0.75])
    low, high = middle = _quantiles(values, counts, ends)
    if low == high:  # the most frequent value: its surroundings are those of the others
        others = values != low
        low, high = _quantiles(values[others], counts[others], ends)
    beyond = FENCE * (high - low)
    values = values.clip(min(middle[0], low - beyond), max(middle[1], high + beyond))
    mean = np.average(values, weights=counts)
    deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    return float(np.ldexp(mean, exponent)), float(np.ldexp(deviation, exponent)) or 1.0


def _edges(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the edges of bins of sorted values, three or more, ascending.

    A value that fills a bin alone is an edge; between the others lie equal numbers.
    """
    fills = counts > counts.sum() / N_BINS
    edges = values[fills]
    if not fills.all():
        shares = np.linspace(0, 1, N_BINS + 1 - len(edges))
        quantiles = _quantiles(values[~fills], counts[~fills], shares)
        edges = np.union1d(edges, quantiles)
    return edges


def _magnitudes(X: Any, weights: np.ndarray) -> np.ndarray:
    """Return the geometric mean of the magnitudes in each column, but for zeros."""
    stored = np.flatnonzero(X.data)
    columns = X.indices[stored]
    weights = np.repeat(weights, np.diff(X.indptr))[stored]
    logarithms = np.log(np.abs(X.data[stored], dtype=float))
    n_features = X.shape[1]
    total = np.bincount(columns, weights * logarithms, n_features)
    count = np.bincount(columns, weights, n_features)
    return np.exp(np.divide(total, count, where=count > 0, out=np.zeros(n_features)))
