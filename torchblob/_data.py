"""From what users pass to what a network trains on: features, labels, weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, column_or_1d, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from torchblob.training import Crew, Samples, Threads

NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Table:
    """Checked rows, as they came: not yet encoded, converted or moved.

    Parameters
    ----------
    X : ndarray, CSR matrix or torch.Tensor of shape (n_samples, n_features)
        Features.
    y : ndarray of shape (n_samples,)
        Class labels.
    weights : ndarray of shape (n_samples,), float64
        Sample weights, > 0.
    rows : ndarray of shape (n_samples,), int
        Where each row was in what the user passed.
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray
    rows: np.ndarray

    def where(self, mask: np.ndarray) -> Table:
        """Return the rows for which `mask`, bool of shape (n_samples,), is True."""
        at = (
            torch.from_numpy(mask).to(self.X.device)
            if torch.is_tensor(self.X)
            else mask
        )
        return Table(self.X[at], self.y[mask], self.weights[mask], self.rows[mask])


def check_table(
    estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any, *, reset: bool
) -> Table:
    """Check features, labels and weights; leave out the rows of weight 0.

    Raises
    ------
    ValueError
        If one of them is unfit, except for features that are not finite, which
        :func:`to_features` finds.
    """
    X = check_features(estimator, X, reset=reset)
    n_samples = X.shape[0]
    y = check_labels(y, n_samples, estimator)
    weights = check_weights(sample_weight, n_samples, estimator)
    table = Table(X, y, weights, np.arange(n_samples))
    return table if table.weights.all() else table.where(table.weights > 0)


def to_samples(
    table: Table,
    codes: np.ndarray,
    factors: np.ndarray,
    estimator: BaseEstimator,
    dtype: torch.dtype,
    device: torch.device,
) -> Samples:
    """Put checked rows on the device that trains on them.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Class index of each row.
    factors : ndarray of shape (n_classes,)
        What each class's rows are weighed by, beside their own weight.
    device : torch.device
        Where they go; features that do not fit stay on the host, with a warning.
    """
    try:
        X = to_features(table.X, dtype, estimator, device, table.rows)
    except torch.OutOfMemoryError:
        host = torch.device("cpu")
        X = to_features(table.X, dtype, estimator, host, table.rows).numpy()
        warnings.warn(
            f"{type(estimator).__name__}: the features do not fit into the memory of "
            f"the device {str(device)!r}. They stay in that of the host, from which "
            "blocks of rows are copied in each epoch; that takes longer.",
            RuntimeWarning,
            stacklevel=2,
        )
    weights = torch.from_numpy(scaled_product(table.weights, factors[codes]))
    return Samples(
        X,
        torch.from_numpy(codes).to(device),
        weights.to(device, dtype),
    )


def scaled_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return `a * b`, >= 0, times the power of two that brings the largest near 1.

    Of weights only the proportions matter. So they stay exact, and neither they nor
    their sums leave the range of any precision.
    """
    if (b == 1).all():  # as without weights of classes: much faster
        return np.ldexp(a, 1 - np.frexp(a.max())[1])
    (a, of_a), (b, of_b) = np.frexp(a), np.frexp(b)
    product, exponent = np.frexp(a * b)
    if not product.any():
        return product
    exponent += of_a + of_b
    return np.ldexp(product, exponent - exponent[product > 0].max() + 1)


def check_features(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Check the type and shape of `X`; the values are checked by :func:`to_features`.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` if `reset`, else is compared.
    X : array-like, DataFrame, CSR matrix or torch.Tensor
        Data of shape (n_samples, n_features).
    reset : bool
        Whether this is the data of a first fit.

    Returns
    -------
    ndarray, CSR matrix or torch.Tensor of shape (n_samples, n_features)
    """
    if not reset and _is_ready(estimator, X):
        return X
    if isinstance(X, torch.Tensor):
        name = type(estimator).__name__
        # The shape of a nested tensor is an error.
        shape = () if X.is_nested else tuple(X.shape)
        if len(shape) != 2 or 0 in shape or X.is_complex() or not _is_plain(X):
            raise ValueError(
                f"{name} needs X as a real, dense tensor of shape (n_samples, "
                f"n_features), at least (1, 1). Got shape {shape}, {X.dtype}, "
                f"{X.layout}, on {str(X.device)!r}. Use X.reshape(-1, 1) for a single "
                "feature, X.to_dense() for a sparse tensor, X.dequantize() for a "
                "quantized one."
            )
        return validate_data(estimator, X.detach(), reset=reset, skip_check_array=True)
    try:
        with _naming(estimator, "X"):
            checked = validate_data(
                estimator, X, reset=reset, accept_sparse="csr", ensure_all_finite=False
            )
            # As scikit-learn does itself, unless the frame is one of polars.
            return checked.astype(float) if checked.dtype == object else checked
    except (TypeError, ValueError) as error:
        if not (names := _columns_without_numbers(X)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{error}. {type(estimator).__name__} needs numbers, which the columns "
            f"{names} don't hold: leave them out, or encode them, for example by a "
            "OneHotEncoder in a ColumnTransformer."
        ) from error


def _columns_without_numbers(X: Any) -> list[Any]:
    """Return the names of the columns of a frame that hold text, dates and the like."""
    names = []
    for name in getattr(X, "columns", ()):
        column = np.asarray(X[name])
        try:
            column.astype(float)
        except (TypeError, ValueError):
            names.append(name)
        else:
            if column.dtype.kind in "mM":
                names.append(name)
    return names


@contextmanager
def errors_about(where: str, unless: str | None = None) -> Iterator[None]:
    """Say in an error about data where it was, unless it has some words already."""
    try:
        yield
    except (OverflowError, TypeError, ValueError) as error:
        if unless is not None and unless in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}: {error}") from error


def _naming(estimator: BaseEstimator, what: str) -> AbstractContextManager[None]:
    """Say in an error of another library's who raises it, and about which data."""
    name = type(estimator).__name__
    return errors_about(f"{name}, in {what}", unless=name)


def _is_ready(estimator: BaseEstimator, X: Any) -> bool:
    """Return whether scikit-learn's validation would find nothing to say or to do.

    On a single row it takes longer than the prediction.
    """
    return (
        type(X) is np.ndarray
        and X.dtype in (np.float32, np.float64)
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
    )


def is_float64(X: Any) -> bool:
    """Return whether the dtype of an array, CSR matrix or tensor is float64."""
    dtype = X.dtype if isinstance(X, torch.Tensor) else X.dtype.type
    return dtype in (np.float64, torch.float64)


def to_features(
    X: Any,
    dtype: torch.dtype,
    estimator: BaseEstimator,
    device: torch.device | None = None,
    rows: np.ndarray | None = None,
) -> Any:
    """Return checked `X` in `dtype`: a tensor on `device`, or CSR on the host.

    Without a `device` the data stay where they are. The result may share memory with
    `X`, so it must not be written to. `rows` are the numbers by which an error calls
    the rows, by default from 0.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, or too large for `dtype`; names a place.
    """
    if isinstance(X, torch.Tensor):
        features = values = X.to(device, dtype)
    else:
        numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
        features = X
        if X.dtype != numpy_dtype:
            # What overflows is reported below, but Python's ints raise at once.
            with _naming(estimator, "X"), np.errstate(over="ignore"):
                features = X.astype(numpy_dtype)
        if sparse.issparse(features):
            values = _as_tensor(features.data)
        else:
            features = values = _as_tensor(features).to(device)
    # A finite sum proves finite values in one pass and without a temporary. One thread
    # is as fast as many, which would go on spinning while the crew begins.
    with Crew(Threads(crew=1, inner=1)):
        total = values.sum().item()
    if not math.isfinite(total) and not torch.isfinite(values).all():
        _raise_not_finite(features, dtype, estimator, rows)
    return features


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor that shares the array's memory where it can."""
    # torch has no such tensors: reversed axes, fields of packed records.
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Unlocked(array))
    return torch.from_numpy(array)


class _Unlocked:
    """A read-only array's memory, offered as writeable.

    torch has no read-only tensors and warns of such arrays (memory maps, joblib's
    shared arguments). Copying them could exhaust the memory; nothing here writes.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # keeps the memory alive
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (address, False),
        }


def _raise_not_finite(
    features: Any,
    dtype: torch.dtype,
    estimator: BaseEstimator,
    rows: np.ndarray | None,
) -> None:
    if sparse.issparse(features):
        features = features.tocoo()
        at = int(np.flatnonzero(~np.isfinite(features.data))[0])
        row, column = int(features.row[at]), int(features.col[at])
        value = float(features.data[at])
    else:
        row, column = torch.nonzero(~torch.isfinite(features))[0].tolist()
        value = float(features[row, column])
    if rows is not None:
        row = int(rows[row])
    names = getattr(estimator, "feature_names_in_", None)
    where = f"column {column}" if names is None else f"column {names[column]!r}"
    if np.isnan(value):
        what = "NaN"
        advice = "fill them in, for example by a SimpleImputer in a Pipeline"
    else:
        what = f"infinity or a value too large for {str(dtype).removeprefix('torch.')}"
        advice = "clip the column"
    raise ValueError(
        f"Input X contains {what}, at row {row}, {where} (counted from 0). "
        f"{type(estimator).__name__} needs finite numbers: drop such rows, or {advice}."
    )


def check_classes(classes: Any, estimator: BaseEstimator) -> np.ndarray:
    """Return the labels that a user announces, sorted.

    Raises
    ------
    ValueError
        If they are not a 1-d array of two labels at least, or no labels.
    """
    with _naming(estimator, "classes"):
        labels = plain_labels(classes)
    known = np.unique(labels)
    if labels.ndim != 1 or len(known) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs at least two classes, as an array of "
            f"shape (n_classes,). Got classes={classes!r}: pass all labels that will "
            "ever come, for example np.unique(y_all)."
        )
    # Twice, since scikit-learn warns of labels that all differ.
    twice = np.repeat(known, 2)
    check_labels(twice, len(twice), estimator, "classes")
    return known


def classes_of(y: np.ndarray, estimator: BaseEstimator) -> np.ndarray:
    """Return the different labels in `y`, sorted.

    Raises
    ------
    ValueError
        If there is only one.
    """
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs at least two classes. Got one class, "
            f"{classes.tolist()[0]!r}, in {len(y)} rows of positive weight: check y, "
            "or the split it came from."
        )
    return classes


def check_labels(
    y: Any, n_samples: int, estimator: BaseEstimator, what: str = "y"
) -> np.ndarray:
    """Return class labels as a 1-d array of `n_samples`.

    Raises
    ------
    ValueError
        If `y` is None, continuous, has NaN, or another length.
    """
    name = type(estimator).__name__
    if y is None:
        raise ValueError(
            f"{name} requires y to be passed, but the target y is None: pass the "
            "class labels, an array of shape (n_samples,)."
        )
    if isinstance(y, torch.Tensor):
        with _naming(estimator, what):
            y = array_of(y)
    if not _are_labels(y):
        # Floats out of the range of ints, which it tries, are no labels.
        with _naming(estimator, what), np.errstate(invalid="ignore"):
            y = check_array(
                column_or_1d(y, warn=True), ensure_2d=False, dtype=None, input_name=what
            )
            y = _without_object_dtype(y)
            check_classification_targets(y)
    _check_length(len(y), n_samples, what, name)
    return y


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """Return labels or weights as an array.

    Raises
    ------
    ValueError
        If the tensor is sparse, nested, quantized or has no values.
    """
    if not _is_plain(tensor):
        raise ValueError(
            f"needs a dense tensor. Got {tensor.dtype}, {tensor.layout}, on "
            f"{str(tensor.device)!r}. Use tensor.to_dense() for a sparse tensor, "
            "tensor.dequantize() for a quantized one."
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    # Other floats are none of numpy's.
    if tensor.is_floating_point() and tensor.dtype not in NUMPY_FLOATS:
        tensor = tensor.float()
    return tensor.numpy()


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is an array of numbers."""
    is_other = tensor.is_nested or tensor.is_quantized or tensor.is_meta
    return tensor.layout == torch.strided and not is_other


def _are_labels(y: Any) -> bool:
    """Return whether labels need none of scikit-learn's checks.

    These take as long as several epochs of a small network. Of an array of ints, bools
    or strings they could only say that too many differ.
    """
    return (
        type(y) is np.ndarray
        and y.ndim == 1
        and y.dtype.kind in "biuU"
        and 2 * len(np.unique(y)) <= len(y)
    )


def _without_object_dtype(y: np.ndarray) -> np.ndarray:
    """Give labels of one Python type that type as dtype, as scikit-learn wants them.

    Raises
    ------
    ValueError
        If there is no such type.
    """
    if y.dtype != object:
        return y
    for python_type, dtype in ((bool, bool), (Integral, np.int64), (str, str)):
        if all(isinstance(label, python_type) for label in y.flat):
            try:
                return y.astype(dtype)
            except OverflowError as error:
                largest = max(y.flat, key=abs)
                raise ValueError(
                    f"labels must be in the range of int64. Got {largest}. "
                    "Turn them into strings, for example."
                ) from error
    types = ", ".join(sorted({type(label).__name__ for label in y.flat}))
    raise ValueError(
        "labels must all be ints, all bools or all strings. Unknown label type: "
        f"objects of the types {types}. Turn them into strings, for example."
    )


def _check_length(length: int, n_samples: int, what: str, name: str) -> None:
    if length != n_samples:
        raise ValueError(
            f"{name} needs one entry of {what} for each row of X. Found input "
            f"variables with inconsistent numbers of samples: {n_samples} rows of X, "
            f"{length} entries of {what}."
        )


def plain_labels(y: Any) -> np.ndarray:
    """Return the labels of an array-like or tensor as an array, unchecked."""
    y = array_of(y) if isinstance(y, torch.Tensor) else np.asarray(y)
    return _without_object_dtype(y)


def _kind(labels: np.ndarray) -> str:
    """Return what labels are: strings, dates, durations or numbers."""
    kind = labels.dtype.kind
    return kind if kind in "UMm" else "number"


def encode_labels(y: np.ndarray, classes: np.ndarray, what: str) -> np.ndarray:
    """Return the index in `classes` of each label.

    Raises
    ------
    ValueError
        If a label is none of `classes`; `what` says where they came from.
    """
    if _kind(y) != _kind(classes):
        unknown = y  # numpy does not compare strings with numbers
    else:
        codes = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        unknown = y[classes[codes] != y]
    if len(unknown):
        raise ValueError(
            f"{what} has labels, {np.unique(unknown).tolist()}, that are none of the "
            f"classifier's classes, {classes.tolist()}. Leave those rows out, or give "
            "all classes from the start: in the y of fit, or as classes of partial_fit."
        )
    return codes


def check_weights(
    sample_weight: Any, n_samples: int, estimator: BaseEstimator
) -> np.ndarray:
    """Return sample weights, float64 of shape (n_samples,); None stands for ones.

    Raises
    ------
    ValueError
        If they are not 1-d, of another length, not finite, negative or all zero.
    """
    name = type(estimator).__name__
    if sample_weight is None:
        return np.ones(n_samples)
    if isinstance(sample_weight, torch.Tensor):
        with _naming(estimator, "sample_weight"):
            sample_weight = array_of(sample_weight)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, sample_weight)
    with _naming(estimator, "sample_weight"):
        weights = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
    if weights.ndim != 1:
        raise ValueError(
            f"{name}: sample weights must be 1D array or scalar, got an array of shape "
            f"{weights.shape}."
        )
    _check_length(len(weights), n_samples, "sample_weight", name)
    if (weights < 0).any():
        at = int(np.argmax(weights < 0))
        raise ValueError(
            f"{name}: negative values in data passed to `sample_weight`, first "
            f"{weights[at]} at row {at}; weights must be >= 0, 0 to leave a row out."
        )
    if not weights.any():
        raise ValueError(
            f"{name}: sample weights are all zero, so no row is left to learn from. "
            "Give at least one row of each of two classes a positive weight."
        )
    return weights


def class_factors(
    class_weight: dict[Any, float] | str | None,
    codes: np.ndarray,
    classes: np.ndarray,
    weights: np.ndarray,
    estimator: BaseEstimator,
) -> np.ndarray:
    """Return the factor, (n_classes,), by which each class's rows are weighed.

    "balanced" is n / (n_classes * n_k), where n and n_k count rows by their weight, so
    that a weight of 2 equals a repeated row (King and Zeng, Logistic Regression in
    Rare Events Data, Political Analysis, 2001, 9(2), 137-163).

    Raises
    ------
    ValueError
        If a factor is negative or not finite, or no row keeps a positive weight.
    """
    if class_weight is None:
        return np.ones(len(classes))
    name = type(estimator).__name__
    if class_weight == "balanced":
        weights = scaled_product(weights, np.ones(1))
        counts = np.bincount(codes, weights=weights, minlength=len(classes))
        with np.errstate(divide="ignore", over="ignore"):
            factors = counts.sum() / (len(classes) * counts)
        if not np.isfinite(factors).all():
            raise ValueError(
                f"The 'class_weight' parameter of {name} must not be 'balanced' for "
                "these sample weights: those of a class are too small beside the "
                "largest. Leave its rows out, or raise their weights."
            )
        return factors
    try:
        factors = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    except (OverflowError, TypeError, ValueError) as error:  # or lacks a class's key
        raise ValueError(
            f"The 'class_weight' parameter of {name} must have numbers as values, and "
            f"classes as keys, from {classes.tolist()}. Got {class_weight!r} instead."
        ) from error
    if (
        (factors < 0).any()
        or not np.isfinite(factors).all()
        or not factors[codes].any()
    ):
        raise ValueError(
            f"The 'class_weight' parameter of {name} must give finite weights >= 0, "
            f"and a positive one to a class in y. Got {class_weight!r} instead."
        )
    return factors


def validation_rows(
    codes: np.ndarray, fraction: float, seed: int, estimator: BaseEstimator
) -> np.ndarray:
    """Choose rows for validation, each class in proportion.

    Unlike StratifiedShuffleSplit it takes classes of any size: every class keeps at
    least one row to train on, and the rest is drawn at even spacing from the rows
    sorted by class, after a shuffle.

    Returns
    -------
    ndarray of shape (n_samples,), bool
        True for a validation row.

    Raises
    ------
    ValueError
        If no class has two rows.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    is_first = np.diff(codes[by_class], prepend=-1) != 0
    candidates = by_class[~is_first]
    if not len(candidates):
        raise ValueError(
            f"{type(estimator).__name__}: early_stopping=True needs a class with at "
            f"least 2 rows to hold out validation rows; the data have {len(codes)} "
            "rows, one a class. Pass X_val and y_val, or early_stopping=False."
        )
    n_valid = min(max(1, round(fraction * len(codes))), len(candidates))
    chosen = (np.arange(n_valid) + 0.5) * len(candidates) / n_valid
    is_valid = np.zeros(len(codes), dtype=bool)
    is_valid[candidates[chosen.astype(int)]] = True
    return is_valid
