"""Where the device's memory runs out, blocks get smaller and the work goes on."""

import joblib
import numpy as np
import pytest
import torch
from helpers import weights
from sklearn.base import clone
from sklearn.datasets import make_blobs

from torchblob import TorchBlobClassifier
from torchblob.nn import Kernel

ROWS = 300


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(ROWS, n_features=4, centers=3, cluster_std=3.0, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


@pytest.fixture
def limit_blocks(monkeypatch):
    """Return a function that leaves memory for blocks of so many rows only."""
    make_stage = Kernel._stage

    def limit_blocks(most_rows):
        def stage(kernel, n):
            if n > most_rows:
                raise torch.OutOfMemoryError(f"tried to allocate {n} rows")
            return make_stage(kernel, n)

        monkeypatch.setattr(Kernel, "_stage", stage)

    return limit_blocks


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 5}
    return TorchBlobClassifier(**defaults | {"n_iter_no_change": 5} | params)


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_size": 200}, {"early_stopping": True}, {"optimizer": torch.optim.SGD}],
    ids=["all rows", "batches", "validation rows", "own optimizer"],
)
@pytest.mark.parametrize("most_rows", [100, 1])
def test_a_fit_goes_on_in_smaller_blocks_and_says_so_once(
    data, limit_blocks, params, most_rows
):
    expected = make(**params).fit(*data)
    limit_blocks(most_rows)
    with pytest.warns(RuntimeWarning, match="memory does not do for blocks") as warned:
        clf = make(**params).fit(*data)
    assert len(warned) == 1
    torch.testing.assert_close(weights(clf), weights(expected), rtol=1e-9, atol=1e-12)
    assert clf.n_iter_ == 5


def test_blocks_stay_as_they_are_where_forgetting_others_makes_room(
    data, monkeypatch, recwarn
):
    make_stage, sizes = Kernel._stage, []

    def stage(kernel, n):
        # Room for blocks of one size at a time.
        if kernel._stages and n not in kernel._stages:
            raise torch.OutOfMemoryError(f"tried to allocate {n} rows more")
        sizes.append(n)
        return make_stage(kernel, n)

    expected = make(batch_size=99).fit(*data)
    monkeypatch.setattr(Kernel, "_stage", stage)
    clf = make(batch_size=99).fit(*data)
    assert torch.equal(weights(clf), weights(expected))
    assert set(sizes) == {99, 3}
    assert not recwarn


def test_a_fit_with_dropout_goes_on_in_smaller_blocks(data, limit_blocks):
    limit_blocks(100)
    with pytest.warns(RuntimeWarning, match="goes on with blocks of 150,"):
        clf = make(dropout=0.2).fit(*data)
    assert clf.n_iter_ == 5


def test_predictions_go_on_in_smaller_blocks_and_say_so_once(data, limit_blocks):
    X, y = data
    clf, many = make().fit(X, y), np.tile(X, (20, 1))
    expected = clf.predict_proba(many)
    limit_blocks(7)
    with pytest.warns(RuntimeWarning, match="memory does not do for blocks") as warned:
        answer = clf.predict_proba(many)
    assert len(warned) == 1
    np.testing.assert_allclose(answer, expected, rtol=1e-9)


def test_predictions_of_a_changed_module_go_on_in_smaller_blocks_too(data):
    X, y = data
    clf, many = make().fit(X, y), np.tile(X, (20, 1))
    expected = clf.predict_proba(many)

    def run_out(layer, args):
        if len(args[0]) > 7:
            raise torch.OutOfMemoryError("tried to allocate too much")

    clf.module_.linear_layers[1].register_forward_pre_hook(run_out)
    with pytest.warns(RuntimeWarning, match="memory does not do for blocks"):
        answer = clf.predict_proba(many)
    np.testing.assert_allclose(answer, expected, rtol=1e-9)


def test_no_memory_for_a_single_row_is_an_error_and_the_last_model_stays(
    data, limit_blocks
):
    X, y = data
    clf = make().fit(X, y)
    before = clf.predict_proba(X)
    limit_blocks(0)
    with (
        pytest.warns(RuntimeWarning, match="memory does not do"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        clf.fit(X, y)
    limit_blocks(ROWS)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_size": 50, "dropout": 0.1}, {"early_stopping": True}],
    ids=["all rows", "batches", "validation rows"],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_features_that_do_not_fit_on_the_device_stay_on_the_host(
    data, params, kind, lack_room
):
    X, y = data
    expected = make(**params).fit(X, y)
    lack_room([0])
    with pytest.warns(RuntimeWarning, match="They stay in that of the host"):
        clf = make(**params).fit(kind(X), y)
    torch.testing.assert_close(weights(clf), weights(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 50])
def test_fits_whose_features_stay_on_the_host_are_one_stack(
    data, batch_size, lack_room, stacks
):
    X, y = data
    sizes = [300, 299, 290]
    clf = make(batch_size=batch_size)
    expected = [clone(clf).fit(X[:size], y[:size]) for size in sizes]
    stacks.clear()
    lack_room([0, 2, 4])  # each fit tries the device, then the host
    with (
        joblib.parallel_config(backend="torchblob"),
        pytest.warns(RuntimeWarning, match="They stay in that of the host"),
    ):
        fitted = joblib.Parallel()(
            joblib.delayed(clone(clf).fit)(X[:size], y[:size]) for size in sizes
        )
    assert stacks == [3]
    for found, alone in zip(fitted, expected, strict=True):
        torch.testing.assert_close(weights(found), weights(alone), rtol=1e-9, atol=0)
