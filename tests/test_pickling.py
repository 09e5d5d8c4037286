"""A classifier can be saved, loaded elsewhere and trained on."""

import copy
import gc
import io
import pickle
import weakref

import joblib
import numpy as np
import pytest
import torch
from helpers import weights
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from skorch.exceptions import DeviceWarning
from torch.nn.utils import prune

from torchblob import TorchBlobClassifier


def through_joblib(clf):
    file = io.BytesIO()
    joblib.dump(clf, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda clf: pickle.loads(pickle.dumps(clf)),
    "joblib": through_joblib,
    "deepcopy": copy.deepcopy,
}


def fit(X, y, **params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 10}
    return TorchBlobClassifier(**defaults | params).fit(X, y)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_predicts_the_same_and_has_the_same_attributes(small, copied):
    X, y = small
    clf = fit(X, np.array(["ant", "bee", "cat"])[y], hidden_units=(5, 4), dropout=0.1)
    same = copied(clf)
    np.testing.assert_array_equal(same.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(same.predict(X), clf.predict(X))
    assert same.get_params() == clf.get_params()
    assert same.loss_curve_ == clf.loss_curve_
    assert same.history_.to_list() == clf.history_.to_list()
    assert same.device_ == clf.device_
    assert same.n_features_in_ == 4


@pytest.mark.parametrize(
    "params",
    [
        {"momentum": 0.9, "batch_size": 32},
        {"optimizer": "adam", "lr": 0.01, "dropout": 0.2},
    ],
    ids=["momentum and batches", "adam and dropout"],
)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_trains_on_as_the_original_does(small, copied, params):
    clf = fit(*small, **params)
    same = copied(clf)
    before = weights(clf).clone()
    for _ in range(3):
        same.partial_fit(*small)
    assert torch.equal(weights(clf), before)
    for _ in range(3):
        clf.partial_fit(*small)
    assert torch.equal(weights(same), weights(clf))
    assert not torch.equal(weights(clf), before)
    for estimator in (clf, same):
        estimator.set_params(warm_start=True).fit(*small)
    assert torch.equal(weights(same), weights(clf))


def with_a_matrix_in_its_history(clf):
    clf.history_[-1]["matrix"] = np.eye(2)


def pruned(clf):
    prune.l1_unstructured(clf.module_.linear_layers[0], "weight", amount=2)


def with_another_activation(clf):
    clf.module_.linear_layer_stack[1] = torch.nn.Tanh()


def squared(layer, args, output):
    return output**2


def with_a_hook(clf):
    clf.module_.linear_layers[0].register_forward_hook(squared)


def of_float32(clf):
    clf.module_.float()


CHANGES = [
    with_a_matrix_in_its_history,
    pruned,
    with_another_activation,
    with_a_hook,
    of_float32,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_what_is_neither_number_nor_name(small, copied, change):
    X, y = small
    clf = fit(X, y)
    change(clf)
    same = copied(clf)
    np.testing.assert_array_equal(same.predict_proba(X), clf.predict_proba(X))
    assert repr(same.history_[-1]) == repr(clf.history_[-1])
    assert str(same.module_) == str(clf.module_)


@pytest.mark.parametrize("copied", [*COPIES.values(), clone], ids=[*COPIES, "clone"])
def test_a_copy_of_an_unfitted_classifier_is_unfitted(small, copied):
    clf = TorchBlobClassifier((3, 2), device=torch.device("cpu"), random_state=0)
    same = copied(clf)
    assert same.get_params() == clf.get_params()
    with pytest.raises(NotFittedError):
        same.predict(small[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_pickle_from_a_cuda_device_moves_to_the_cpu_with_a_warning(small):
    X, y = small
    clf = fit(X, y, momentum=0.9)
    clf.device, clf.net_.device = "auto", "cuda"  # what a fit on such a device has
    pickled = pickle.dumps(clf)
    with pytest.warns(DeviceWarning, match="cuda|CUDA"):
        loaded = pickle.loads(pickled)
    assert loaded.device_ == torch.device("cpu")
    clf.net_.device = "cpu"
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert torch.equal(
        weights(loaded.partial_fit(X, y)), weights(clf.partial_fit(X, y))
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_classifier_on_cuda_comes_back_to_it(small):
    X, y = small
    clf = fit(X, y, device="cuda")
    same = COPIES["pickle"](clf)
    assert same.device_.type == "cuda"
    np.testing.assert_array_equal(same.predict_proba(X), clf.predict_proba(X))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("params", [{"momentum": 0.9}, {"optimizer": "adam"}])
@pytest.mark.parametrize("way", [("cpu", "cuda"), ("cuda", "cpu")])
def test_training_goes_on_on_another_device(small, params, way):
    X, y = small
    clf = fit(X, y, device=way[0], dtype="float32", **params)
    expected = COPIES["pickle"](clf).partial_fit(X, y)
    clf.set_params(device=way[1]).partial_fit(X, y)
    assert clf.device_.type == way[1]
    torch.testing.assert_close(weights(clf).cpu(), weights(expected).cpu())


def test_the_size_of_a_pickle_does_not_depend_on_the_number_of_rows(small):
    X, y = small
    few, many = fit(X, y), fit(np.tile(X, (50, 1)), np.tile(y, 50))
    assert len(pickle.dumps(many)) <= len(pickle.dumps(few)) + 100


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"batch_size": 100},
        {"callbacks": [Callback()]},
        {"early_stopping": True},
        {"early_stopping": True, "scoring": "accuracy"},
    ],
    ids=["default", "batches", "callbacks", "early stopping", "scoring"],
)
def test_no_data_are_kept_after_a_fit(params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3571, 3)).astype(np.float32)
    alive = weakref.ref(X)
    clf = fit(X, rng.integers(2, size=3571), **params)
    del X
    gc.collect()
    assert alive() is None
    kinds = (torch.Tensor, torch.nn.Parameter)
    tensors = [o for o in gc.get_objects() if type(o) in kinds and o.ndim]
    assert len(clf.module_.linear_layer_stack[0].weight) in map(len, tensors)
    # All rows, those trained on, and those held out.
    assert not {3571, 3214, 357} & set(map(len, tensors))
