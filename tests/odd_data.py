"""Strategies of hypothesis: data, labels, weights and parameters that are odd.

Numbers come from a seed; what is odd about them, from hypothesis, so that it can make a
case that fails a simple one.
"""

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import torch
from hypothesis import strategies as st
from scipy import sparse
from skorch.callbacks import Callback

from torchblob.nn import ACTIVATIONS

INF, NAN = float("inf"), float("nan")

seeds = st.integers(0, 2**32 - 1)
seldom = st.integers(0, 7).map(lambda i: i == 7)
now_and_then = st.integers(0, 3).map(lambda i: i == 3)


def usually(good, bad):
    """Return a strategy for a value of one dict, or seldom of the other."""
    return seldom.flatmap(
        lambda is_bad: st.sampled_from(list((bad if is_bad else good).values()))
    )


# Features: numbers, as one of many dtypes, in one of many containers.

SCALES = [0.0, 5e-324, 1e-300, 1e-40, 1e-3, 1e3, 1e30, 1e150, 1e300, 1.7e308]
SPECIAL = [NAN, INF, -INF, -0.0, 5e-324, 2.0**53, 1e39, -1.7e308]
DTYPES = ["f4", "f2", "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@st.composite
def numbers(draw, n_rows, n_features):
    """Draw a float64 table of any scale, some with equal columns, zeros or NaN."""
    rng = np.random.default_rng(draw(seeds))
    X = rng.uniform(-1, 1, size=(n_rows, n_features))
    X *= draw(st.sampled_from(SCALES)) if draw(now_and_then) else 1.0
    if draw(seldom):
        X[:, : n_features // 2 + 1] = X[:, :1]
    if draw(seldom):
        X[:, -1] = X[0, -1]
    if draw(seldom):
        X[rng.random(n_rows) < 0.5] = 0.0
    if draw(seldom):
        X[rng.integers(n_rows), -1] = draw(st.sampled_from(SPECIAL))
    return X


def cast(X, dtype):
    """Return numbers in another dtype; those out of its range are clipped."""
    dtype = np.dtype(dtype)
    with np.errstate(all="ignore"):
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            X = np.clip(np.nan_to_num(100 * X), limits.min, limits.max)
        return X.astype(dtype)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "read-only": read_only,
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
}


def names(X):
    return [f"x{i}" for i in range(X.shape[1])]


def frame(X, index=None):
    return pd.DataFrame(X, index=index, columns=names(X))


def frame_with_missing(X):
    with np.errstate(invalid="ignore"):  # pandas tries whether floats are ints
        table = frame(X).convert_dtypes()
    table.iloc[0, 0] = pd.NA
    return table


def csr(X):
    return sparse.csr_array(X.astype(np.float32) if X.dtype == np.float16 else X)


def untidy(X):
    """Return a CSR matrix with columns in no order, and each entry in two parts."""
    tidy = csr(X.astype(np.int8) if X.dtype == bool else X).tocoo()
    half = (tidy.data / 2).astype(tidy.dtype)
    with np.errstate(invalid="ignore"):
        data = np.r_[half, tidy.data - half]
    rows, columns = np.tile(tidy.row, 2), np.tile(tidy.col, 2)
    order = np.lexsort([-columns, rows])
    ends = np.r_[0, np.bincount(rows, minlength=len(X)).cumsum()]
    return sparse.csr_array((data[order], columns[order], ends), shape=X.shape)


INDEXES = {
    "duplicates": lambda n: [7] * n,
    "strings": lambda n: [f"row {i}" for i in range(n)],
    "dates": lambda n: pd.date_range("2020-02-28", periods=n),
    "not monotonic": lambda n: np.random.default_rng(0).permutation(n),
    "levels": lambda n: pd.MultiIndex.from_arrays([[1] * n, range(n)]),
}
FRAMES = {
    f"frame, {key}": lambda X, make_index=make_index: frame(X, make_index(len(X)))
    for key, make_index in INDEXES.items()
}
SPARSE = {
    "CSR": csr,
    "CSR matrix": lambda X: sparse.csr_matrix(csr(X)),
    "CSC": lambda X: csr(X).tocsc(),
    "COO": lambda X: csr(X).tocoo(),
    "untidy CSR": untidy,
}
CONTAINERS = {
    **LAYOUTS,
    **FRAMES,
    **SPARSE,
    "list": lambda X: X.tolist(),
    "objects": lambda X: X.astype(object),
    "broadcast": lambda X: np.broadcast_to(X[:1], X.shape),
    "mixed frame": lambda X: frame(X).assign(x0=pd.array(X[:, 0].tolist())),
    "polars": lambda X: pl.DataFrame(X, schema=names(X)),
    "tensor": torch.tensor,
    "strided tensor": lambda X: torch.tensor(X.T.copy()).T,
}
BAD_CONTAINERS = {
    "frame, missing": frame_with_missing,
    "frame with text": lambda X: frame(X).assign(x0="seven"),
    "frame with dates": lambda X: frame(X).assign(x0=pd.Timestamp("2020-02-28")),
    "large ints": lambda X: [[10**400] * X.shape[1]] * len(X),
}

# Labels and weights.

LABELS = {
    **{t: lambda codes, t=t: codes.astype(t) for t in DTYPES[1:]},
    "negative": lambda codes: codes - 5,
    "lowest": lambda codes: codes + np.iinfo(np.int64).min,
    "highest": lambda codes: codes.astype(np.uint64) + np.uint64(2**63),
    "whole floats": lambda codes: codes - 1.0,
    "strings": lambda codes: codes.astype(str),
    "objects": lambda codes: codes.astype(str).astype(object),
    "objects of ints": lambda codes: codes.astype(object),
    "list": lambda codes: codes.tolist(),
    "Series": lambda codes: pd.Series(codes, index=[7] * len(codes)),
    "Series of strings": lambda codes: pd.Series(codes.astype(str)),
    "Categorical": lambda codes: pd.Categorical(codes.astype(str)),
    "column": lambda codes: codes[:, None],
    "backwards": lambda codes: codes[::-1].copy()[::-1],
    "tensor": torch.tensor,
    "float tensor": lambda codes: torch.tensor(codes).float(),
}
BAD_LABELS = {
    "large floats": lambda codes: codes * 1e300,
    "fractions": lambda codes: codes + 0.5,
    "NaN": lambda codes: np.where(codes, codes, NAN),
    "bytes": lambda codes: codes.astype("S"),
    "objects of large ints": lambda codes: codes.astype(object) + 10**30,
    "mixed": lambda codes: np.where(codes, codes.astype(object), "zero"),
    "None": lambda codes: np.where(codes, codes.astype(str), None),
    "dates": lambda codes: codes.astype("datetime64[D]"),
    "missing": lambda codes: pd.Series(codes, dtype="Int64").where(codes != 1),
}
WEIGHTS = {
    "some zero": lambda u: np.where(u < 0.3, 0.0, u),
    "one row": lambda u: (u == u.max()).astype(float),
    "subnormal": lambda u: np.full(len(u), 5e-324),
    "huge": lambda u: u * 1.7e308,
    "all scales": lambda u: 10 ** (600 * u - 300),
    "ints": lambda u: (10 * u).astype(np.int8),
    "bools": lambda u: u < 0.7,
    "float16": lambda u: u.astype(np.float16),
    "list": lambda u: u.tolist(),
    "Series": lambda u: pd.Series(u, index=[7] * len(u)),
    "tensor": torch.tensor,
    "number": lambda u: 1e-300,
}
BAD_WEIGHTS = {
    "all zero": lambda u: 0 * u,
    "large ints": lambda u: [10**400] * len(u),
    "negative": lambda u: -u,
    "NaN": lambda u: u * NAN,
    "infinity": lambda u: u + INF,
    "too few": lambda u: u[1:],
    "text": lambda u: ["heavy"] * len(u),
}
FACTORS = [1.0, 0.0, 5e-324, 1e-300, 1e300, 1.7e308, 3]
BAD_FACTORS = [-1.0, NAN, INF, None, "two", 10**400]


@st.composite
def label_codes(draw, n_rows):
    """Draw class numbers: of a few classes, as large or not, or of one class a row."""
    rng = np.random.default_rng(draw(seeds))
    n_classes = draw(st.sampled_from([2, 3, 5, 10, 100, 1000, 1]))
    share = np.linspace(0, 1, n_rows)
    share = share**2 if draw(st.booleans()) else share
    return rng.permutation((share * 1000).astype(int) % n_classes)


@st.composite
def class_weights(draw, y):
    """Draw a weight for each label or for some."""
    if draw(st.booleans()):
        return draw(st.sampled_from(["balanced", {}, {"no class": 1.0}]))
    labels = list(dict.fromkeys(np.asarray(y).ravel().tolist()))
    factors = BAD_FACTORS if draw(seldom) else FACTORS
    labels = labels[: draw(st.sampled_from([1, 1000]))]
    return dict(zip(labels, draw(st.permutations(factors)) * 1000, strict=False))


# Parameters: what the documentation allows, and now and then what it doesn't.

PARAMETERS = {
    "hidden_units": [8, 1, (), [], (5,), [3, 4, 2], np.array([70, 2]), np.int8(3)],
    "activation": sorted(ACTIVATIONS),
    "dropout": [0.0, 0.5, 0.999999999, 1e-300],
    "optimizer": ["sgd", "adam", "adamw", "rmsprop", torch.optim.Adagrad],
    "lr": [0.1, 1e-3, 5e-324, 1e-40, 1.0, 1e30, 1e39, 1.7e308, np.float32(0.1), True],
    "momentum": [0.0, 0.9, 1 - 1e-16, 5e-324],
    "weight_decay": [0.0, 0.1, 1, 5e-324, 1e39, 1.7e308],
    "lr_schedule": [None, "cosine", "linear"],
    "batch_size": [None, 2, 7, 10**9, 10**400, np.uint8(3)],
    "max_epochs": [1, 2, 3, 12],
    "label_smoothing": [0.0, 0.1, 1 - 1e-16, 5e-324],
    "early_stopping": [False, True, np.True_],
    "scoring": ["loss", None, "accuracy", "neg_log_loss"],
    "validation_fraction": [0.1, 0.5, 5e-324, 1 - 1e-16],
    "n_iter_no_change": [10, 1, 2, 10**400],
    "tol": [1e-4, 0.0, 5e-324, 1.7e308],
    "warm_start": [False, True],
    "callbacks": [None, [], [Callback()], [("name", Callback())]],
    "device": ["cpu", torch.device("cpu"), "cpu:0"],
    "dtype": ["auto", "float32", "float64"],
    "random_state": [0, 2**32 - 1, np.int8(3), np.random.RandomState(0)],
    "verbose": [0, 1, True, 10**400],
}
NOT_ALLOWED = [None, -1, 0, 2.5, NAN, INF, "other", [], {}, (1, "two"), b"cpu", ...]


@st.composite
def parameters(draw, **fixed):
    """Draw some parameters; others are `fixed`, or the defaults but for few epochs."""
    keys = draw(st.lists(st.sampled_from(list(PARAMETERS)), max_size=6, unique=True))
    params = {key: deepcopy(draw(st.sampled_from(PARAMETERS[key]))) for key in keys}
    if keys and draw(seldom):
        params[keys[0]] = draw(st.sampled_from(NOT_ALLOWED))
    return {"device": "cpu", "max_epochs": 3} | params | fixed


class Case(NamedTuple):
    """What a classifier is given."""

    params: dict[str, Any]
    data: tuple[Any, Any, Any]  # X, y and sample_weight
    validation: dict[str, Any]
    harmless: Any  # features of the same kind that can be learned


@st.composite
def cases(draw):
    """Draw parameters, and data of any kind."""
    n_rows = draw(
        st.sampled_from([1, 300, 1000]) if draw(seldom) else st.integers(2, 30)
    )
    n_features = draw(st.sampled_from([1, 2, 3, 20]))
    dtype = draw(st.sampled_from(DTYPES)) if draw(now_and_then) else "f8"
    wrap = draw(usually(CONTAINERS, BAD_CONTAINERS))
    label = draw(usually(LABELS, BAD_LABELS))
    weigh = draw(usually(WEIGHTS, BAD_WEIGHTS))
    rng = np.random.default_rng(draw(seeds))

    def features(n):
        return wrap(cast(draw(numbers(n, n_features)), dtype))

    codes = draw(label_codes(n_rows))
    y = label(codes)
    weight = weigh(rng.random(n_rows)) if draw(now_and_then) else None
    params = draw(parameters())
    if draw(now_and_then):
        params["class_weight"] = draw(class_weights(y))
    validation = {}
    if draw(now_and_then):
        n_val = draw(st.integers(1, 9))
        y_val = label(rng.choice(codes, n_val))
        validation = {"X_val": features(n_val), "y_val": y_val}
        if draw(now_and_then):
            validation["sample_weight_val"] = weigh(rng.random(n_val))
    harmless = wrap(cast(rng.uniform(-1, 1, (n_rows, n_features)), dtype))
    return Case(params, (features(n_rows), y, weight), validation, harmless)


@st.composite
def tables(draw):
    """Draw parameters, features and class numbers."""
    n_rows, n_features = draw(st.integers(2, 50)), draw(st.sampled_from([1, 3, 20]))
    class_weight = draw(st.sampled_from([None, "balanced"]))
    params = draw(parameters(random_state=0, class_weight=class_weight))
    return params, draw(numbers(n_rows, n_features)), draw(label_codes(n_rows))
