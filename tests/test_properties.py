"""Whatever it is given, a classifier is fitted or says clearly why it can't be.

hypothesis draws the cases: a few hundred, the same in each run of the tests, and
thousands of others by `make fuzz`.
"""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_data import (
    CONTAINERS,
    LABELS,
    LAYOUTS,
    NAN,
    PARAMETERS,
    SPARSE,
    cases,
    seeds,
    seldom,
    tables,
)
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from torchblob import TorchBlobClassifier


def attempt(method, *args, **kwargs):
    """Return the error that a call ends in, or None; warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for category in (ConvergenceWarning, DataConversionWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "The number of unique classes is greater")
        try:
            method(*args, **kwargs)
        except Exception as error:
            return error


def contents(value):
    """Return the bits of data, without what containers remember of themselves."""
    if sparse.issparse(value):
        value = {key: vars(value)[key] for key in vars(value) if key[0] != "_"}
    if isinstance(value, pd.DataFrame | pd.Series):
        value = [pd.util.hash_pandas_object(value).to_numpy(), value.axes]
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, tuple | list):
        return [contents(part) for part in value]
    return pickle.dumps(value)


SUBJECTS = ["TorchBlobClassifier", "X", "y", "sample_weight", "labels", *PARAMETERS]
SUBJECT = re.compile(rf"\b({'|'.join(SUBJECTS)})\b")


def assert_is_clear(error):
    """Check that an error says what it is about."""
    of_user = isinstance(error, TypeError | ValueError)
    if not of_user or len(str(error)) < 20 or not SUBJECT.search(str(error)):
        raise AssertionError("an error that is not clear") from error


def assert_is_a_model(clf, X):
    """Check that all that a classifier says is finite and of one mind."""
    probabilities, logits = clf.predict_proba(X), clf.decision_function(X)
    assert probabilities.shape[1] == len(clf.classes_)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    log_probabilities = clf.predict_log_proba(X)
    np.testing.assert_allclose(np.exp(log_probabilities), probabilities, atol=1e-5)
    assert np.isfinite(log_probabilities).all()
    assert np.isfinite(logits).all()
    codes = logits.argmax(1) if logits.ndim == 2 else (logits > 0).astype(int)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[codes])
    for row in clf.history_:
        assert all(np.isfinite(v) for v in row.values() if isinstance(v, float)), row


@settings(max_examples=10 * settings().max_examples)
@given(case=cases(), again=st.booleans(), part=seldom)
def test_training_ends_in_a_model_or_in_a_clear_error(case, again, part):
    X, y, weight = case.data
    clf = TorchBlobClassifier(device="cpu", max_epochs=1)
    again = again and attempt(clf.fit, case.harmless, y) is None
    again = again and attempt(clf.predict, case.harmless) is None
    before = clf.predict_proba(case.harmless) if again else None
    clf.set_params(**case.params)
    bits = contents([case.data, case.validation])
    if part:
        error = attempt(clf.partial_fit, X, y, y, weight)
    else:
        error = attempt(clf.fit, X, y, weight, **case.validation)
    assert contents([case.data, case.validation]) == bits
    if error is None:
        error = attempt(assert_is_a_model, clf, X)
        # Rows without weight are left out of a fit, but not of what is predicted.
        left_out = weight is not None and "X contains" in str(error)
        assert error is None or left_out or "network's output" in str(error), error
    elif again:
        np.testing.assert_array_equal(clf.predict_proba(case.harmless), before)
    if error is not None:
        assert_is_clear(error)


def assert_same(params, one, other):
    """Check that two ways to call fit give the same model, or the same error."""
    clfs = TorchBlobClassifier(**params), TorchBlobClassifier(**params)
    errors = [
        attempt(clf.fit, *args) for clf, args in zip(clfs, (one, other), strict=True)
    ]
    assert type(errors[0]) is type(errors[1]), errors
    if errors == [None, None]:
        own, its = ([p.detach() for p in clf.module_.parameters()] for clf in clfs)
        torch.testing.assert_close(own, its, rtol=0, atol=0)
        assert clfs[0].history_ == clfs[1].history_


@given(table=tables(), seed=seeds)
def test_a_row_of_weight_zero_is_a_removed_row(table, seed):
    params, X, y = table
    weight = np.random.default_rng(seed).choice([0.0, 0.5, 1.0, 7.0], len(X))
    kept = weight > 0
    X[~kept, 0] = NAN
    if kept.any():
        assert_same(params, (X, y, weight), (X[kept], y[kept], weight[kept]))


@given(table=tables(), kind=st.sampled_from(list(SPARSE)))
def test_a_sparse_matrix_is_learned_as_the_dense_one(table, kind):
    params, X, y = table
    assert_same(params, (SPARSE[kind](X), y), (X, y))


ORDERED = {
    "strings": lambda codes: np.char.zfill(codes.astype(str), 4),
    "objects": lambda codes: np.char.zfill(codes.astype(str), 4).astype(object),
    "negative": lambda codes: codes - 500,
    "highest": LABELS["highest"],
    "whole floats": lambda codes: 3.0 * codes,
    "tensor": torch.tensor,
}


@given(table=tables(), kind=st.sampled_from(list(ORDERED)))
def test_labels_are_learned_by_their_order_alone(table, kind):
    params, X, y = table
    assert_same(params, (X, ORDERED[kind](y)), (X, y))


@given(
    layout=st.sampled_from(list(LAYOUTS)),
    n_features=st.sampled_from([1, 16, 17, 10_000]),
    dtype=st.sampled_from(["f4", "f8"]),
    batch_size=st.sampled_from([None, 7]),
    seed=seeds,
)
def test_the_layout_in_memory_does_not_matter(
    layout, n_features, dtype, batch_size, seed
):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, n_features)).astype(dtype)
    y = rng.permutation(30) % 3
    clf = TorchBlobClassifier(
        device="cpu", random_state=0, max_epochs=3, batch_size=batch_size, lr=0.01
    )
    expected = clf.fit(X, y).predict_proba(X)
    given = LAYOUTS[layout](X)
    tolerance = 1e-4 if dtype == "f4" else 1e-10
    got = clf.fit(given, y).predict_proba(given)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    kind=st.sampled_from(["C order", "untidy CSR", "frame, strings", "tensor"]),
    label=st.sampled_from(["negative", "strings", "highest", "tensor"]),
    weighted=st.booleans(),
    seed=seeds,
)
def test_data_may_come_in_parts_of_any_size(sizes, kind, label, weighted, seed):
    rng = np.random.default_rng(seed)
    classes = LABELS[label](np.arange(5))
    clf = TorchBlobClassifier(device="cpu", random_state=0, batch_size=7)
    for size in sizes:
        X = CONTAINERS[kind](rng.normal(size=(size, 3)))
        y = LABELS[label](rng.integers(5, size=size))
        weight = 1 - rng.random(size) if weighted else None
        clf.partial_fit(X, y, classes, weight)
        assert_is_a_model(clf, X)
    assert clf.n_iter_ == len(sizes)
