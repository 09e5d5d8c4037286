"""What data and labels the classifier takes, how it weighs them, what it refuses."""

import gc
import re
import weakref

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from helpers import weights
from scipy import sparse
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback

from torchblob import TorchBlobClassifier
from torchblob.training import resolve_dtype
from torchblob.training._engine import Engine
from torchblob.training._layout import Shape

INF, NAN = float("inf"), float("nan")


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10}
    return TorchBlobClassifier(**defaults | params)


def assert_same_fit(clf, expected):
    assert weights(clf).dtype == weights(expected).dtype
    assert torch.equal(weights(clf), weights(expected))


# Labels of three classes, in the order of their codes 0, 1 and 2.
LABELS = {
    "ints with gaps": lambda y: np.array([0, 2, 7])[y],
    "int8": lambda y: y.astype(np.int8),
    "int32": lambda y: y.astype(np.int32),
    "uint8": lambda y: np.array([1, 128, 255], np.uint8)[y],
    "negative": lambda y: np.array([-5, -1, 3])[y],
    "whole floats": lambda y: np.array([-1.0, 0.0, 1.0])[y],
    "strings": lambda y: np.array(["ant", "bee", "cat"])[y],
    "objects": lambda y: np.array(["ant", "bee", "cat"], dtype=object)[y],
    "objects of ints": lambda y: np.array([3, 4, 9], dtype=object)[y],
    "list": lambda y: y.tolist(),
    "list of strings": lambda y: [["ant", "bee", "cat"][i] for i in y],
    "Series": lambda y: pd.Series(np.array(["ant", "bee", "cat"])[y]),
    "Categorical": lambda y: pd.Categorical.from_codes(y, ["ant", "bee", "cat"]),
    "nullable ints": lambda y: pd.Series(y, dtype="Int64"),
    "polars": lambda y: pl.Series(["ant", "bee", "cat"])[y],
    "LongTensor": torch.from_numpy,
    "int8 tensor": lambda y: torch.from_numpy(y).to(torch.int8) - 1,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_each_kind_are_learned_as_their_codes(small, kind):
    X, codes = small
    y = LABELS[kind](codes)
    clf, expected = make().fit(X, y), make().fit(X, codes)
    assert_same_fit(clf, expected)
    values = np.asarray(y)
    assert clf.classes_.tolist() == sorted(set(values.tolist()))
    predicted = clf.predict(X)
    assert predicted.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(predicted, clf.classes_[expected.predict(X)])
    assert clf.score(X, y) == expected.score(X, codes)


def test_labels_in_tensors_that_numpy_lacks_are_those_that_they_equal(small):
    X, y = small
    tensor = torch.from_numpy(y).double()
    negated = torch.complex(tensor * 0.0, -1.0 * tensor).conj().imag
    assert negated.is_neg()
    for labels in (tensor.bfloat16(), negated):
        assert_same_fit(make().fit(X, labels), make().fit(X, y))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_bools_are_two_classes(small, kind):
    X, codes = small
    clf = make().fit(X, kind((codes == 1).tolist()))
    assert clf.classes_.tolist() == [False, True]
    assert_same_fit(clf, make().fit(X, (codes == 1).astype(int)))
    assert clf.predict(X).dtype == bool


def test_four_labels_with_gaps_give_four_columns(blobs):
    X_train, X_test, y_train, _ = blobs
    clf = make().fit(X_train, torch.tensor([0, 2, 5, 7])[y_train])
    assert clf.predict_proba(X_test).shape == (200, 4)
    assert clf.module_.linear_layer_stack[-1].out_features == 4
    assert set(clf.predict(X_test)) <= {0, 2, 5, 7}


def test_a_column_of_labels_is_taken_with_a_warning(small):
    X, y = small
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        clf = make().fit(X, y.reshape(-1, 1))
    assert_same_fit(clf, make().fit(X, y))


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="needs scikit-learn 1.7",
)
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_labels_that_look_like_a_regression_are_warned_of(small, kind):
    X, _ = small
    with pytest.warns(UserWarning, match="could represent a regression problem"):
        make(max_epochs=1).fit(X, kind([*range(70), *range(50)]))


def memory_map(X, tmp_path):
    X.tofile(tmp_path / "X")
    return np.memmap(tmp_path / "X", X.dtype, mode="r", shape=X.shape)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


FEATURES = {
    "list": lambda X: X.tolist(),
    "Fortran order": np.asfortranarray,
    "reversed view": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "strided view": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "read-only": read_only,
    "big-endian": lambda X: X.astype(">f8"),
    "objects": lambda X: X.astype(object),
    "DataFrame": lambda X: pd.DataFrame(X, columns=list("abcd")),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcd")),
    "tensor": torch.from_numpy,
    "tensor with gradient": lambda X: torch.from_numpy(X).requires_grad_(),
    "strided tensor": lambda X: torch.from_numpy(X.T.copy()).T,
}


@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_features_of_each_kind_are_the_same_data(small, kind):
    X, y = small
    given = FEATURES[kind](X)
    clf, expected = make(batch_size=50).fit(given, y), make(batch_size=50).fit(X, y)
    assert_same_fit(clf, expected)
    # A BLAS may sum in another order for another layout of the same matrix.
    np.testing.assert_allclose(
        clf.predict_proba(given), expected.predict_proba(X), rtol=1e-13
    )


def test_a_memory_map_is_data_as_well(small, tmp_path):
    X, y = small
    mapped = memory_map(X, tmp_path)
    clf = make().fit(mapped, y)
    assert_same_fit(clf, make().fit(X, y))
    np.testing.assert_array_equal(clf.predict(mapped), clf.predict(X))


def few_and_many_zeros(X):
    """Return rows of which about half the entries are zero."""
    return np.where(np.abs(X) < 0.5, 0.0, X)


@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kind",
    [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.csr_array],
)
def test_sparse_features_are_the_same_as_dense_ones(small, kind, dtype, batch_size):
    X, y = few_and_many_zeros(small[0]).astype(dtype), small[1]
    clf, dense = make(batch_size=batch_size), make(batch_size=batch_size)
    assert_same_fit(clf.fit(kind(X), y, X_val=kind(X), y_val=y), dense.fit(X, y))
    np.testing.assert_array_equal(clf.predict_proba(kind(X)), dense.predict_proba(X))
    early = {"early_stopping": True, "batch_size": batch_size}
    assert_same_fit(make(**early).fit(kind(X), y), make(**early).fit(X, y))


@pytest.mark.parametrize(
    "kind",
    [
        lambda X: X.astype(np.int64),
        lambda X: X.astype(np.int8),
        lambda X: X.astype(np.float32),
        lambda X: X.astype(np.float16),
        lambda X: pd.DataFrame(X.astype(int)),
        lambda X: torch.from_numpy(X).int(),
        lambda X: torch.from_numpy(X).half(),
        lambda X: torch.from_numpy(X).bfloat16(),
        lambda X: X.astype(int).tolist(),
    ],
    ids=["int64", "int8", "float32", "float16", "DataFrame", "int tensor", "half"]
    + ["bfloat16", "list"],
)
def test_whole_numbers_and_lower_precisions_are_learned_in_float32(small, kind):
    X, y = np.round(3 * small[0]), small[1]
    clf = make(lr=0.01).fit(kind(X), y)
    assert weights(clf).dtype == torch.float32
    assert_same_fit(clf, make(lr=0.01).fit(X.astype(np.float32), y))


def test_bools_are_features_too(small):
    X, y = small
    expected = make().fit((X > 0).astype(np.float32), y)
    assert_same_fit(make().fit(X > 0, y), expected)
    assert_same_fit(make().fit(torch.from_numpy(X > 0), y), expected)


def test_columns_of_several_types_are_one_table(small):
    X, y = small
    frame = pd.DataFrame({"a": X[:, 0], "b": (9 * X[:, 1]).astype(int), "c": X[:, 2]})
    frame["c"] = frame["c"].astype(np.float32)
    clf = make(lr=0.01).fit(frame, y)
    assert_same_fit(clf, make(lr=0.01).fit(frame.to_numpy(), y))
    assert clf.feature_names_in_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("dtype", "X_dtype", "expected"),
    [
        ("auto", np.float64, "float64"),
        ("auto", np.float32, "float32"),
        ("float32", np.float64, "float32"),
        ("float64", np.float32, "float64"),
        ("float64", np.int64, "float64"),
    ],
)
def test_dtype_is_that_of_weights_and_probabilities(small, dtype, X_dtype, expected):
    X, y = (3 * small[0]).astype(X_dtype), small[1]
    clf = make(dtype=dtype).fit(X, y)
    assert str(weights(clf).dtype) == f"torch.{expected}"
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        assert getattr(clf, method)(X).dtype == expected


def test_auto_is_float32_on_an_accelerator_and_mps_has_no_float64():
    for name in ("cuda", "mps"):
        device = torch.device(name)
        assert resolve_dtype("auto", True, device, "A") == torch.float32
    assert resolve_dtype("float64", True, torch.device("cuda"), "A") == torch.float64
    with pytest.raises(ValueError, match="of A must be 'auto' or 'float32' on an MPS"):
        resolve_dtype("float64", True, torch.device("mps"), "A")


@pytest.mark.parametrize("batch_size", [120, 121, 10**9])
def test_a_batch_size_of_all_rows_or_more_is_a_full_batch(small, batch_size):
    assert_same_fit(make(batch_size=batch_size).fit(*small), make().fit(*small))


def test_the_last_batch_may_have_one_row(small):
    X, y = small
    clf = make(batch_size=7, max_epochs=1, callbacks=[Callback()]).fit(X[:50], y[:50])
    sizes = clf.history_[0, "batches", :, "train_batch_size"]
    assert sizes == [7] * 7 + [1]
    assert np.isfinite(clf.loss_curve_).all()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("batch_size", [None, 50])
def test_the_size_of_a_block_does_not_matter(small, monkeypatch, kind, batch_size):
    X, y = few_and_many_zeros(small[0]), small[1]
    whole = make(batch_size=batch_size).fit(X, y, X_val=X, y_val=y)
    monkeypatch.setattr(Shape, "block_rows", lambda shape, device: 7)
    cut = make(batch_size=batch_size).fit(kind(X), y, X_val=kind(X), y_val=y)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=1e-10, atol=1e-12)
    for name in ("train_loss", "train_acc", "valid_loss", "valid_acc"):
        np.testing.assert_allclose(cut.history_[:, name], whole.history_[:, name])


def test_arrays_may_run_backwards_even_along_an_axis_of_one(small):
    X, y = small[0][:, :1], small[1]
    backwards = X[:, ::-1]
    assert backwards.strides[1] < 0
    clf = make().fit(backwards, y, X_val=X[::-1][:1], y_val=y[::-1][:1])
    assert_same_fit(clf, make().fit(X.copy(), y))
    expected = clf.predict_proba(X.copy())
    np.testing.assert_allclose(clf.predict_proba(backwards), expected)
    np.testing.assert_allclose(clf.predict_proba(X[::-1][:1]), expected[-1:])


def test_features_may_be_a_field_of_packed_records(small):
    X, y = small
    records = np.empty(120, dtype=[("flag", "i1"), ("X", "f8", 4)])
    records["X"] = X
    assert records["X"].strides[0] == 33
    assert_same_fit(make().fit(records["X"], y), make().fit(X, y))


def test_validation_rows_that_all_weigh_nothing_are_refused(small):
    X, y = small
    clf = make(class_weight={0: 0.0, 1: 1.0, 2: 1.0})
    with pytest.raises(ValueError, match=r"validation rows .* a weight of 0"):
        clf.fit(X, y, X_val=X[y == 0], y_val=y[y == 0])


@pytest.mark.parametrize("params", [{}, {"batch_size": 50}, {"dropout": 0.5}])
def test_a_fit_lets_go_of_the_data_when_it_ends(small, params):
    X, y = small[0].copy(), small[1]
    make(**params).fit(X, y)  # the first optimizer imports modules, which keep frames
    gc.collect()
    X = X.copy()
    reference = weakref.ref(X)
    gc.disable()  # nothing may wait for a collection: data can be large
    try:
        clf = make(**params).fit(X, y)
        del X
        assert reference() is None
    finally:
        gc.enable()
    assert clf.score(*small) > 0.3


REPEATS = np.tile([0, 1, 2, 1, 3], 24)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"class_weight": "balanced"},
        {"class_weight": {0: 3.0, 2: 0.5}},
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
        {"label_smoothing": 0.2},
    ],
    ids=["default", "balanced", "class weights", "adam", "smoothing"],
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, torch.from_numpy])
def test_a_weight_of_two_is_a_repeated_row_and_of_zero_a_removed_one(
    small, params, kind
):
    X, y = small
    weighted = make(**params).fit(kind(X), y, REPEATS)
    rows = np.repeat(np.arange(len(y)), REPEATS)
    repeated = make(**params).fit(kind(X[rows]), y[rows])
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-9
    )
    assert weighted.loss_curve_ == pytest.approx(repeated.loss_curve_)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-900, -130, 126, 900])
def test_only_the_proportions_of_the_weights_matter_however_large(
    small, dtype, exponent
):
    X, y = small
    weight = np.random.default_rng(0).uniform(0.1, 1, len(y))
    params = {"dtype": dtype, "batch_size": 32, "max_epochs": 5}
    scaled = make(**params).fit(X, y, np.ldexp(weight, exponent))
    assert torch.equal(weights(scaled), weights(make(**params).fit(X, y, weight)))


def test_weights_beyond_the_range_of_floats_count_by_their_proportions(small):
    X, y = small
    expected = make(class_weight={0: 2.0, 1: 0.5}).fit(X, y)
    factors = {0: np.ldexp(2.0, 1000), 1: np.ldexp(0.5, 1000), 2: np.ldexp(1.0, 1000)}
    for exponent in (1000, -1000):
        clf = make(class_weight=factors)
        assert_same_fit(clf.fit(X, y, np.full(120, 2.0**exponent)), expected)
    # What weighs most belongs to a class that counts for nothing.
    weight = np.where(y == 0, 2.0**1000, 2.0**-1000)
    clf = make(class_weight={0: 0.0}).fit(X, y, weight)
    assert_same_fit(clf, make(class_weight={0: 0.0}).fit(X, y))


def test_classes_of_very_large_weights_are_balanced(small):
    X, y = small
    clf = make(class_weight="balanced").fit(X, y, np.full(120, 2.0**1023))
    assert_same_fit(clf, make(class_weight="balanced").fit(X, y))
    weight = np.where(y == 0, 1e-300, 1e300)
    with pytest.raises(ValueError, match=r"must not be 'balanced' .* are too small"):
        make(class_weight="balanced").fit(X, y, weight)


def test_very_large_weights_can_be_scored_with(small):
    params = {"early_stopping": True, "scoring": "neg_log_loss"}
    clf = make(**params).fit(*small, np.full(120, 2.0**1023))
    assert_same_fit(clf, make(**params).fit(*small))


def test_class_weights_are_sample_weights_of_each_class(small):
    X, y = small
    by_class = make(class_weight={0: 2.0, 1: 0.5}).fit(X, y)
    by_row = make().fit(X, y, np.array([2.0, 0.5, 1.0])[y])
    torch.testing.assert_close(weights(by_class), weights(by_row), rtol=1e-12, atol=0)


def test_classes_are_balanced_by_the_weights_of_their_rows(small):
    X, y = small
    sample_weight = np.where(y == 0, 5.0, 1.0)
    balanced = make(class_weight="balanced").fit(X, y, sample_weight)
    assert np.bincount(y).tolist() == [40, 40, 40]
    torch.testing.assert_close(
        weights(balanced), weights(make().fit(X, y)), rtol=1e-9, atol=1e-12
    )


def test_the_scale_of_the_weights_does_not_matter(small):
    X, y = small
    ones, many = make().fit(X, y, 1.0), make().fit(X, y, np.full(120, 1e6))
    torch.testing.assert_close(weights(ones), weights(many), rtol=1e-9, atol=1e-12)
    assert_same_fit(ones, make().fit(X, y))


def test_a_class_of_rows_without_weight_is_no_class(small):
    X, y = small
    clf = make().fit(X, y, (y != 1).astype(float))
    assert clf.classes_.tolist() == [0, 2]
    assert_same_fit(clf, make().fit(X[y != 1], y[y != 1]))


@pytest.mark.parametrize("kind", [list, torch.tensor, pd.Series])
def test_weights_come_in_any_kind(small, kind):
    X, y = small
    clf = make().fit(X, y, kind((1.0 + y).tolist()))
    assert_same_fit(clf, make().fit(X, y, 1.0 + y))


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_size": 32}, {"early_stopping": True}, {"class_weight": "balanced"}],
    ids=["default", "batches", "early stopping", "balanced"],
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, torch.from_numpy])
def test_a_fit_changes_neither_data_nor_parameters(small, kind, params):
    X, y = kind(small[0].copy()), small[1].copy()
    sample_weight = 1.0 + y
    clf = make(hidden_units=[4, 3], **params)
    before = clf.get_params()
    clf.fit(X, y, sample_weight, X_val=X, y_val=y).predict(X)
    plain = X.toarray() if sparse.issparse(X) else np.asarray(X)
    np.testing.assert_array_equal(plain, small[0])
    np.testing.assert_array_equal(y, small[1])
    np.testing.assert_array_equal(sample_weight, 1.0 + small[1])
    after = clf.get_params()
    assert all(after[name] is before[name] for name in before)
    assert clf.hidden_units == [4, 3]


def test_a_device_object_is_a_device(small):
    clf = make(device=torch.device("cpu")).fit(*small)
    assert clf.device_ == torch.device("cpu")
    assert_same_fit(clf, make().fit(*small))


def with_value(X, row, column, value):
    X = np.array(X)
    X[row, column] = value
    return X


def frame_with(X, row, column, value):
    return pd.DataFrame(with_value(X, row, column, value), columns=list("abcd"))


NOT_FINITE = [
    (lambda X: with_value(X, 5, 2, NAN), "contains NaN, at row 5, column 2"),
    (lambda X: with_value(X, 0, 0, -INF), "infinity.* at row 0, column 0"),
    (lambda X: frame_with(X, 3, 1, NAN), "NaN, at row 3, column 'b'"),
    (lambda X: sparse.csr_array(with_value(X, 7, 3, INF)), "at row 7, column 3"),
    (lambda X: sparse.csc_array(with_value(X, 7, 3, NAN)), "NaN.* row 7, column 3"),
    (lambda X: torch.from_numpy(with_value(X, 9, 1, NAN)), "NaN.* row 9, column 1"),
    (
        lambda X: torch.from_numpy(with_value(X, 9, 1, 1e300)).float(),
        "infinity or a value too large for float(32|64), at row 9",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), NOT_FINITE)
def test_a_value_that_is_not_finite_is_an_error_that_says_where(small, spoil, message):
    X, y = small
    bad = spoil(X)
    clf = make()
    named = getattr(bad, "columns", None) is not None
    good = pd.DataFrame(X, columns=list("abcd")) if named else X
    clf.fit(good, y)
    attempts = [
        lambda: clf.fit(bad, y),
        lambda: clf.fit(good, y, X_val=bad, y_val=y),
        lambda: clf.partial_fit(bad, y),
        lambda: clf.predict(bad),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match=message) as error:
            attempt()
        assert "TorchBlobClassifier needs finite numbers" in str(error.value)


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}])
@pytest.mark.parametrize("row", [20, 119])
def test_the_row_of_such_a_value_is_counted_in_the_data_as_passed(small, row, params):
    X, y = small
    weight = np.ones(len(X))
    weight[:10] = 0
    message = f"NaN, at row {row}, column 1"
    with pytest.raises(ValueError, match=message):
        make(**params).fit(with_value(X, row, 1, NAN), y, weight)


def test_an_error_in_validation_data_says_so(small):
    X, y = small
    with pytest.raises(ValueError, match=r"fit, in the validation data: .* NaN"):
        make().fit(X, y, X_val=with_value(X, 5, 2, NAN), y_val=y)


def test_a_value_too_large_for_float32_is_an_error(small):
    X, y = with_value(small[0], 4, 0, 1e300), small[1]
    with pytest.raises(ValueError, match="too large for float32, at row 4"):
        make(dtype="float32").fit(X, y)


X0 = np.zeros((6, 2))
Y0 = np.array([0, 1, 0, 1, 0, 1])
WEIGHT = np.ones(6)

BAD_DATA = {
    "1-d X": ((X0[:, 0], Y0), {}, "Expected 2D array, got 1D array"),
    "1-d tensor": ((torch.zeros(6), Y0), {}, r"TorchBlobClassifier.*Got shape \(6,\)"),
    "y without values": (
        (X0, torch.zeros(6, device="meta")),
        {},
        "TorchBlobClassifier, in y: needs a dense tensor. Got .* on 'meta'",
    ),
    "sparse y": (
        (X0, torch.from_numpy(Y0).to_sparse()),
        {},
        r"TorchBlobClassifier, in y: needs a dense tensor.*to_dense\(\)",
    ),
    "sparse weights": (
        (X0, Y0),
        {"sample_weight": torch.from_numpy(WEIGHT).to_sparse()},
        "TorchBlobClassifier, in sample_weight: needs a dense tensor",
    ),
    "tensor without values": (
        (torch.zeros(6, 2, device="meta"), Y0),
        {},
        "TorchBlobClassifier needs X as a real, dense tensor.*on 'meta'",
    ),
    "nested tensor": (
        (torch.nested.nested_tensor([torch.zeros(2)] * 6, layout=torch.jagged), Y0),
        {},
        "TorchBlobClassifier needs X as a real, dense tensor",
    ),
    "sparse tensor": (
        (torch.zeros(6, 2).to_sparse(), Y0),
        {},
        "TorchBlobClassifier needs X as a real, dense tensor.*to_dense",
    ),
    "no row": ((X0[:0], Y0[:0]), {}, "0 sample.* required by TorchBlobClassifier"),
    "no column": ((X0[:, :0], Y0), {}, "0 feature.* required by TorchBlobClassifier"),
    "complex X": ((X0 + 1j, Y0), {}, "Complex data not supported"),
    "text X": (
        (X0.astype(str).astype(object) + "a", Y0),
        {},
        "TorchBlobClassifier, in X: could not convert",
    ),
    "dates in X": (
        (pd.DataFrame({"a": X0[:, 0], "b": pd.Timestamp("2020-02-28")}), Y0),
        {},
        "TorchBlobClassifier, in X: .*DateTime64",
    ),
    "huge ints in X": (([[10**400]] * 6, Y0), {}, "TorchBlobClassifier, in X: int too"),
    "text in X_val": (
        (X0, Y0),
        {"X_val": [[None, "a"]] * 6, "y_val": Y0},
        "in the validation data: TorchBlobClassifier, in X: ",
    ),
    "no y": ((X0, None), {}, "TorchBlobClassifier requires y.* y is None"),
    "short y": ((X0, Y0[:5]), {}, "TorchBlobClassifier.* 6 rows of X, 5 .* y"),
    "2-d y": ((X0, np.c_[Y0, Y0]), {}, "y should be a 1d array, got .* shape"),
    "continuous y": ((X0, Y0 + 0.5), {}, "Unknown label type: continuous"),
    "large floats in y": ((X0, Y0 * 1e300), {}, "in y: Unknown label type: continuous"),
    "large ints in y": (
        (X0, Y0.astype(object) + 2**63),
        {},
        f"in y: labels must be in the range of int64. Got {2**63 + 1}",
    ),
    "mixed y": (
        (X0, np.array([0, "one"] * 3, dtype=object)),
        {},
        "in y: labels must all be ints, .* objects of the types int, str",
    ),
    "None in y": (
        (X0, np.array([None, "one"] * 3, dtype=object)),
        {},
        "in y: labels must all be ints, .* objects of the types NoneType, str",
    ),
    "NaN in y": ((X0, [0, 1, 0, 1, 0, NAN]), {}, "Input y contains NaN"),
    "one class": ((X0, Y0 * 0), {}, "at least two classes. Got one class, 0"),
    "one class with weight": ((X0, Y0, Y0), {}, "one class, 1, in 3 rows of positive"),
    "negative weight": ((X0, Y0, -WEIGHT), {}, "negative values.* -1.0 at row 0"),
    "NaN weight": ((X0, Y0, WEIGHT * NAN), {}, "sample_weight contains NaN"),
    "zero weights": ((X0, Y0, WEIGHT * 0), {}, "sample weights are all zero"),
    "short weights": ((X0, Y0, WEIGHT[:4]), {}, "6 rows of X, 4 .* sample_weight"),
    "text weights": ((X0, Y0, ["a"] * 6), {}, "in sample_weight: could not convert"),
    "huge weights": ((X0, Y0, [10**400] * 6), {}, "in sample_weight: int too large"),
    "2-d weights": ((X0, Y0, np.c_[WEIGHT]), {}, r"1D array or scalar.* \(6, 1\)"),
    "text in a frame": (
        (pd.DataFrame({"a": X0[:, 0], "b": list("xyxyxy"), "c": X0[:, 1]}), Y0),
        {},
        r"in X: could not convert .*the columns \['b'\] don't hold.* OneHotEncoder",
    ),
    "text in a frame of polars": (
        (pl.DataFrame({"a": X0[:, 0], "b": list("xyxyxy")}), Y0),
        {},
        r"in X: could not convert .*the columns \['b'\] don't hold.* OneHotEncoder",
    ),
    "dates in a frame": (
        (pd.DataFrame({"a": X0[:, 0], "b": pd.to_datetime(["2020"] * 6)}), Y0),
        {},
        r"the columns \['b'\] don't hold",
    ),
    "no y_val": (
        (X0, Y0),
        {"X_val": X0},
        "X_val and y_val are needed together. Got only X_val",
    ),
    "no X_val": (
        (X0, Y0),
        {"y_val": Y0, "sample_weight_val": WEIGHT},
        "needed together. Got only y_val and sample_weight_val",
    ),
    "negative sample_weight_val": (
        (X0, Y0),
        {"X_val": X0, "y_val": Y0, "sample_weight_val": -WEIGHT},
        "in the validation data: .* negative",
    ),
    "short y_val": (
        (X0, Y0),
        {"X_val": X0, "y_val": Y0[:4]},
        "in the validation data: .* 6 rows of X, 4 entries of y",
    ),
    "wide X_val": (
        (X0, Y0),
        {"X_val": np.zeros((6, 3)), "y_val": Y0},
        "in the validation data: X has 3 features, but .* is expecting 2",
    ),
    "new class in y_val": (
        (X0, Y0),
        {"X_val": X0, "y_val": Y0 + 1},
        r"y_val has labels, \[2\], that are none of .* classes, \[0, 1\]",
    ),
    "strings in y_val": (
        (X0, Y0),
        {"X_val": X0, "y_val": Y0.astype(str)},
        r"y_val has labels, \['0', '1'\], .* classes, \[0, 1\]",
    ),
}


@pytest.mark.parametrize(("args", "kwargs", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_an_error_that_says_what_is_wrong(args, kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make().fit(*args, **kwargs)


def test_numbers_of_numpy_are_taken_as_those_of_python(small):
    params = {"hidden_units": (8, 8), "batch_size": 32, "max_epochs": 3, "lr": 0.5}
    of_numpy = {
        "hidden_units": np.array([8, 8]),
        "batch_size": np.int32(32),
        "max_epochs": np.int64(3),
        "lr": np.float64(0.5),
    }
    expected = weights(make(**params).fit(*small))
    assert torch.equal(weights(make(**of_numpy).fit(*small)), expected)


NAMES = "'elu', 'gelu', 'identity', 'leaky_relu', 'logistic', 'relu', 'silu', 'tanh'"
BAD_PARAMETERS = [
    ("hidden_units", 0, r"an int in the range \[1, 2\*\*31\) or a sequence of"),
    ("hidden_units", 2**31, "an int in the range"),
    ("hidden_units", -3, "an int in the range"),
    ("hidden_units", True, "an int in the range"),
    ("hidden_units", [8, 0], "an int in the range"),
    ("hidden_units", (8, 2.5), "an int in the range"),
    ("hidden_units", 8.5, "an instance of 'int' or an array-like"),
    ("hidden_units", "ten", "an instance of 'int' or an array-like"),
    ("activation", "swish", f"one of {NAMES}"),
    ("activation", None, "an instance of 'str'"),
    ("dropout", 1.0, r"a float in the range \[0.0, 1.0\)"),
    ("optimizer", "lbfgs", "one of 'adam', .*'sgd' or a callable"),
    ("optimizer", None, "an instance of 'str' or a callable"),
    ("lr", 0, r"a float in the range \(0.0, inf\)"),
    ("lr", -1.0, "a float in the range"),
    ("lr", NAN, "a float in the range"),
    ("lr", INF, "a float in the range"),
    ("lr", "fast", "an instance of 'float'"),
    ("lr", 10**400, "a float in the range"),
    ("momentum", 1.0, r"a float in the range \[0.0, 1.0\)"),
    ("weight_decay", -0.1, r"a float in the range \[0.0, inf\)"),
    ("weight_decay", 10**400, "a float in the range"),
    ("lr_schedule", "step", "one of 'cosine', 'linear' or None"),
    ("batch_size", 0, "None or an int >= 1"),
    ("batch_size", 2.5, "an instance of 'int' or None"),
    ("max_epochs", 0, r"an int in the range \[1, inf\)"),
    ("class_weight", "even", "one of 'balanced', a dict or None"),
    ("class_weight", {0: -1.0}, "finite weights >= 0"),
    ("class_weight", {0: 2.0, 7: 1.0}, r"from \[0, 1\]. Got .*7: 1.0"),
    ("class_weight", {0: 0.0, 1: 0.0}, "a positive one to a class in y"),
    ("class_weight", {0: None, 1: 1.0}, "give finite weights"),
    ("class_weight", {0: 10**400, 1: 1.0}, "numbers as values"),
    ("label_smoothing", 1.0, "a float in the range"),
    ("early_stopping", "yes", "an instance of 'bool'"),
    ("scoring", 3, "an instance of 'str', a callable or None"),
    ("scoring", "acc", r"'loss', a name of sklearn.metrics.get_scorer_names\(\)"),
    ("validation_fraction", 0.0, r"a float in the range \(0.0, 1.0\)"),
    ("validation_fraction", 1.0, "a float in the range"),
    ("n_iter_no_change", 0, "an int in the range"),
    ("tol", -1e-4, "a float in the range"),
    ("tol", 10**400, "a float in the range"),
    ("warm_start", 2, "an instance of 'bool'"),
    ("callbacks", [3], "None or a list of callbacks of skorch"),
    ("device", "gpu", "'auto' or a device that is present .*'cpu'"),
    ("device", "cuda:99", "'auto' or a device that is present .*'cpu'"),
    ("device", torch.device("xpu"), "'auto' or a device that is present .*'cpu'"),
    ("dtype", "float16", "one of 'auto', 'float32', 'float64'"),
    ("random_state", "seed", "an int"),
    ("verbose", -1, "an int"),
]


@pytest.mark.parametrize(("name", "value", "needed"), BAD_PARAMETERS)
def test_a_bad_parameter_is_an_error_that_says_what_is_needed(name, value, needed):
    clf = make(**{name: value})
    message = f"The '{name}' parameter of TorchBlobClassifier must .*{needed}"
    with pytest.raises((TypeError, ValueError), match=message) as error:
        clf.fit(X0, Y0)
    given = str(value) if isinstance(value, torch.device) else repr(value)
    assert f"Got {given!r}" in str(error.value) or f"Got {given}" in str(error.value)
    assert clf.get_params()[name] is value
    with pytest.raises((TypeError, ValueError), match=re.escape(str(error.value))):
        clf.partial_fit(X0, Y0, classes=[0, 1])


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_parameter_too_large_for_the_precision_is_an_error(name, optimizer):
    clf = make(**{name: 1e39}, optimizer=optimizer)
    message = f"'{name}' parameter of TorchBlobClassifier must be at most 3.4e\\+38"
    with pytest.raises(ValueError, match=message):
        clf.fit(X0.astype(np.float32), Y0)


def test_a_scorer_that_the_validation_rows_do_not_suit_is_an_error(small):
    X, y = small
    clf = make(early_stopping=True, scoring="neg_log_loss")
    with pytest.raises(ValueError, match=r"'scoring' .* validation rows. Got 'neg_log"):
        clf.fit(X, y, X_val=X[y < 2], y_val=y[y < 2])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (
            lambda params, lr, weight_decay: [lr],
            r"that returns .* It returned \[0\.1\]",
        ),
        (lambda params: None, "unexpected keyword argument 'weight_decay'"),
    ],
)
def test_a_callable_that_is_no_optimizer_is_an_error(optimizer, message):
    with pytest.raises(ValueError, match=f"TorchBlobClassifier: .*{message}"):
        make(optimizer=optimizer).fit(X0, Y0)


def test_classes_of_one_row_each_cannot_be_held_out():
    with pytest.raises(ValueError, match="early_stopping=True needs a class with at"):
        make(early_stopping=True).fit(X0[:2], Y0[:2])


def test_prediction_needs_the_features_of_the_fit(small):
    X, y = small
    message = "X has 3 features, but TorchBlobClassifier is expecting 4 features"
    clf = make().fit(X, y)
    for bad in (X[:, :3], torch.from_numpy(X[:, :3]), sparse.csr_array(X[:, :3])):
        with pytest.raises(ValueError, match=message):
            clf.predict(bad)
    clf = make().fit(pd.DataFrame(X, columns=list("abcd")), y)
    with pytest.raises(ValueError, match="feature names should match those"):
        clf.predict(pd.DataFrame(X, columns=list("abce")))


NO_MEMORY = "TorchBlobClassifier: there is no memory for .* Give fewer hidden_units"


def test_a_network_for_which_there_is_no_memory_is_an_error_that_says_whose():
    with pytest.raises(MemoryError, match=NO_MEMORY):
        make(hidden_units=(10**6, 10**9)).fit(X0, Y0)


def test_a_training_for_which_there_is_no_memory_is_one_too(monkeypatch):
    monkeypatch.setattr(Engine, "begin_epoch", lambda self, epoch: torch.empty(10**15))
    with pytest.raises(MemoryError, match=NO_MEMORY):
        make().fit(X0, Y0)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X0, Y0), {}, "classes must be passed on the first call to partial_fit"),
        ((X0, Y0 + 1), {"classes": [0, 1]}, r"y has labels, \[2\], that"),
        ((X0, Y0), {"classes": []}, r"at least two classes, .* Got classes=\[\]"),
        ((X0, Y0 * 0), {"classes": [0]}, r"at least two classes, .* Got classes=\[0\]"),
        ((X0, Y0), {"classes": [[0, 1], [2, 3]]}, r"an array of shape \(n_classes,\)"),
        ((X0, Y0), {"classes": {0, 1, 2, 3}}, "objects of the types set"),
        (
            (X0, Y0),
            {"classes": np.array(["2020", "2021"], "M8[Y]")},
            "TorchBlobClassifier: y has labels, .*datetime",
        ),
        ((X0, Y0), {"classes": [0, 1, None]}, "in classes: labels must all be ints"),
        ((X0, Y0), {"classes": [0, 1, np.nan]}, "in classes: .* contains NaN"),
        ((X0, Y0), {"classes": [0.5, 1.5]}, "in classes: Unknown label type"),
        ((X0, Y0), {"classes": ["a", "b"]}, r"y has labels, .* classes, \['a', 'b'\]"),
    ],
)
def test_a_first_partial_fit_that_fails_leaves_nothing_behind(args, kwargs, message):
    clf = make()
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(*args, **kwargs)
    assert not [name for name in vars(clf) if name.endswith("_")]


class Fail(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("the disk is full")


BAD_REFITS = {
    "data": ({}, "fit", lambda X, y: (X * NAN, y), "NaN"),
    "other data": ({}, "fit", lambda X, y: (X[:, :2] * INF, y + 3), "infinity"),
    "labels": ({}, "fit", lambda X, y: (X, y[:-1]), "119 entries of y"),
    "rate": ({"lr": 1e30}, "fit", lambda X, y: (X * 1e30, y), "Lower lr.*scale"),
    "parameter": ({"activation": "a"}, "fit", lambda X, y: (X, y), "activation"),
    "device": ({"device": "cuda:99"}, "fit", lambda X, y: (X, y), "device"),
    "callback": ({"callbacks": [Fail()]}, "fit", lambda X, y: (X, y), "disk"),
    "warm, classes": (
        {"warm_start": True},
        "fit",
        lambda X, y: (X, y + 1),
        r"warm_start=True\) needs the classes of the last fit, \[0, 1, 2\]",
    ),
    "warm, width": (
        {"warm_start": True, "hidden_units": 4},
        "fit",
        lambda X, y: (X, y),
        r"can't go on from the last fit: .*\[\(8, 4\), .*\[\(4, 4\), ",
    ),
    "warm, features": (
        {"warm_start": True},
        "fit",
        lambda X, y: (X[:, :3], y),
        "3 features",
    ),
    "warm, rate": (
        {"warm_start": True, "lr": 1e30},
        "fit",
        lambda X, y: (X * 1e30, y),
        "Lower lr",
    ),
    "part, data": ({}, "partial_fit", lambda X, y: (X * NAN, y), "NaN"),
    "part, features": ({}, "partial_fit", lambda X, y: (X[:, :3], y), "3 features"),
    "part, class": ({}, "partial_fit", lambda X, y: (X, y + 1), r"labels, \[3\]"),
    "part, classes": (
        {},
        "partial_fit",
        lambda X, y: (X, y, [0, 1]),
        r"`classes=\[0, 1\]` is not the same as on last call",
    ),
    "part, balanced": (
        {"class_weight": "balanced"},
        "partial_fit",
        lambda X, y: (X, y),
        "does not support class_weight='balanced'",
    ),
    "part, width": (
        {"hidden_units": 4},
        "partial_fit",
        lambda X, y: (X, y),
        "can't go on",
    ),
    "part, optimizer": (
        {"optimizer": "adam"},
        "partial_fit",
        lambda X, y: (X, y),
        "can't go on from the last fit: it had the optimizer SGD, and now it is Adam",
    ),
    "part, rate": (
        {"lr": 1e30, "batch_size": 10},
        "partial_fit",
        lambda X, y: (X * 1e30, y),
        "Lower lr",
    ),
    "part, callback": (
        {"callbacks": [Fail()]},
        "partial_fit",
        lambda X, y: (X, y),
        "disk",
    ),
}


@pytest.mark.parametrize(
    ("params", "method", "spoil", "message"), BAD_REFITS.values(), ids=BAD_REFITS
)
def test_a_failed_refit_leaves_the_last_model_as_it_was(
    small, params, method, spoil, message
):
    X, y = small
    clf = make(momentum=0.9).fit(X, y)
    before = {name: value for name, value in vars(clf).items() if name.endswith("_")}
    n_iter, proba = clf.n_iter_, clf.predict_proba(X)
    clf.set_params(**params)
    given = clf.get_params()
    with pytest.raises((RuntimeError, ValueError), match=message):
        getattr(clf, method)(*spoil(X, y))
    after = {name: value for name, value in vars(clf).items() if name.endswith("_")}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert clf.n_iter_ == n_iter
    np.testing.assert_array_equal(clf.predict_proba(X), proba)
    assert all(clf.get_params()[name] is given[name] for name in given)
    # It can be trained further, as if nothing had happened.
    params = {name: make().get_params()[name] for name in params}
    clf.set_params(**params, momentum=0.9).partial_fit(X, y)
    untroubled = make(momentum=0.9).fit(X, y).partial_fit(X, y)
    assert_same_fit(clf, untroubled)


@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy"])
def test_a_loss_that_diverges_is_never_scored(small, scoring):
    clf = make(early_stopping=True, scoring=scoring, lr=1e300)
    with pytest.raises(ValueError, match=r"(training|validation) loss became"):
        clf.fit(*small)


@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True}, {"early_stopping": True, "scoring": None}]
)
def test_a_validation_loss_that_is_not_finite_is_an_error(small, params):
    X, y = small
    message = "the validation loss became (inf|nan) in epoch 1. Lower lr"
    with pytest.raises(ValueError, match=message):
        make(**params, hidden_units=64).fit(
            X, y, X_val=np.full((3, 4), 1.7e308), y_val=[0, 1, 2]
        )


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_that_diverge_in_the_last_step_are_an_error_too(small, method):
    X, y = small
    clf = TorchBlobClassifier(device="cpu", random_state=0, max_epochs=1).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(lr=1e308)
    message = "weights became infinite or NaN in the last step. Lower lr"
    with pytest.raises(ValueError, match=message):
        getattr(clf, method)(X * 1e3, y)
    np.testing.assert_array_equal(before, clf.predict_proba(X))


def test_a_loss_that_diverges_is_an_error_that_names_the_rate_and_scaling(small):
    X, y = small
    message = (
        r"TorchBlobClassifier: the training loss became (inf|nan) in epoch \d+. "
        "Lower lr, now 1000.0, or scale the features, for example by a StandardScaler"
    )
    with pytest.raises(ValueError, match=message):
        make(lr=1000.0, activation="identity").fit(X * 1e30, y)


@pytest.mark.parametrize("rows", [1, 5000])
@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
def test_features_too_large_for_the_network_have_no_prediction(small, method, rows):
    clf = make(hidden_units=64).fit(*small)
    X = np.zeros((rows, 4))
    getattr(clf, method)(X)
    X[-1] = 1.7e308
    message = "TorchBlobClassifier: the network's output for some rows of X is infinite"
    with pytest.raises(ValueError, match=message):
        getattr(clf, method)(X)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tensors_of_any_device_are_data_on_any_device(small, device):
    X, y = torch.from_numpy(small[0]).float(), torch.from_numpy(small[1])
    clf = make(device=device, batch_size=50).fit(X.cuda(), y.cuda(), y.cuda() + 1.0)
    expected = make(device=device, batch_size=50).fit(X, y, y + 1.0)
    assert clf.device_.type == device
    torch.testing.assert_close(weights(clf), weights(expected))
    assert isinstance(clf.predict(X.cuda()), np.ndarray)
    assert clf.score(X.cuda(), y.cuda()) == clf.score(X, y)
