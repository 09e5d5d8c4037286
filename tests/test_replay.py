"""Epochs that are captured once and replayed, as a GPU does, played on the CPU."""

import numpy as np
import pytest
import torch
from scipy import sparse
from skorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from torchblob import TorchBlobClassifier
from torchblob.training import _replay
from torchblob.training._layout import Shape

WAITS_FOR_THE_DEVICE = {"_local_scalar_dense", "nonzero", "item", "masked_select"}


class Recorder(TorchDispatchMode):
    """Note each operation, and what the tensors that it overwrites held before."""

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert func._schema.name.split("::")[1] not in WAITS_FOR_THE_DEVICE
        written = [
            kwargs.get(argument.name, args[i] if i < len(args) else None)
            for i, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        for value in written:
            for tensor in value if isinstance(value, (list, tuple)) else [value]:
                self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        is_view = any(a.alias_info is not None for a in func._schema.arguments)
        self.calls.append((func, args, kwargs, None if is_view else result))
        return result


class RecordedGraph:
    """Does on the CPU what a CUDA graph does: the same operations on the same memory.

    What the function's Python code would do differently in a later call is lost, and so
    are tensors that it would take from another place, as they are on a GPU.
    """

    made = 0

    def __init__(self, function, device):
        type(self).made += 1
        recorder = Recorder()
        with recorder:
            self.result = function()
        with torch.inference_mode():  # a capture does not carry out anything
            for tensor, before in reversed(recorder.before.values()):
                tensor.copy_(before)
        self.calls = recorder.calls

    @torch.inference_mode()
    def replay(self):
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            if isinstance(result, torch.Tensor):
                result.copy_(again)
        return self.result


@pytest.fixture
def graphs(monkeypatch):
    """Capture epochs on the CPU."""
    monkeypatch.setattr(RecordedGraph, "made", 0)
    monkeypatch.setitem(_replay.GRAPHS, "cpu", RecordedGraph)
    return RecordedGraph


def fit(X, y, X_val=None, y_val=None, **params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 12}
    params = defaults | {"n_iter_no_change": 12} | params  # few epochs are enough
    return TorchBlobClassifier(**params).fit(X, y, X_val=X_val, y_val=y_val)


def weights(clf):
    return torch.cat([p.detach().flatten() for p in clf.module_.parameters()])


CAPTURED = {
    "full batch": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "batches": {"batch_size": 50},
    "adam": {"optimizer": "adam", "lr": 0.01, "batch_size": 50},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "schedule": {"lr_schedule": "cosine", "batch_size": 50},
    "schedule of adam": {"optimizer": "adam", "lr": 0.05, "lr_schedule": "linear"},
    "silu": {"activation": "silu", "hidden_units": (7, 5, 3)},
    "linear": {"hidden_units": (), "label_smoothing": 0.1},
    "wide": {"hidden_units": 70},
    "early stopping": {"early_stopping": True, "tol": 9},
    "verbose": {"verbose": 3},
}


@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("params", CAPTURED.values(), ids=CAPTURED)
def test_a_fit_from_a_captured_epoch_is_the_fit(
    small, graphs, monkeypatch, params, validation
):
    X, y = small
    more = {"X_val": X[:30], "y_val": y[:30]} if validation else {}
    replayed = fit(X, y, **more, **params)
    assert graphs.made == 1
    monkeypatch.delitem(_replay.GRAPHS, "cpu")
    expected = fit(X, y, **more, **params)
    torch.testing.assert_close(weights(replayed), weights(expected))
    assert len(replayed.history_) == len(expected.history_)
    for row, of_expected in zip(replayed.history_, expected.history_, strict=True):
        assert row.keys() == of_expected.keys()
        for name in ("train_loss", "train_acc", "valid_loss", "valid_acc"):
            if name in row:
                assert row[name] == pytest.approx(of_expected[name])


def test_blocks_are_captured_too(small, graphs, monkeypatch):
    monkeypatch.setattr(Shape, "block_rows", lambda shape, device: 16)
    X, y = small
    replayed = [fit(X, y), fit(X, y, batch_size=50)]
    assert graphs.made == 2
    monkeypatch.delitem(_replay.GRAPHS, "cpu")
    for clf, params in zip(replayed, [{}, {"batch_size": 50}], strict=True):
        torch.testing.assert_close(weights(clf), weights(fit(X, y, **params)))


def test_training_goes_on_from_a_captured_one(small, graphs, monkeypatch):
    X, y = small
    params = {"optimizer": "adam", "lr": 0.01, "warm_start": True}
    replayed = fit(X, y, **params).partial_fit(X, y).fit(X, y)
    monkeypatch.delitem(_replay.GRAPHS, "cpu")
    expected = fit(X, y, **params).partial_fit(X, y).fit(X, y)
    torch.testing.assert_close(weights(replayed), weights(expected))


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": 0.5},
        {"optimizer": "rmsprop", "lr": 0.01},
        {"optimizer": lambda params, **kw: torch.optim.SGD(params, **kw)},
        {"callbacks": [Callback()]},
        {"batch_size": 1, "max_epochs": 3},
        {"max_epochs": 2},
        {"sparse": True},
    ],
    ids=[
        "dropout",
        "rmsprop",
        "callable",
        "callbacks",
        "many steps",
        "short",
        "sparse",
    ],
)
def test_what_cannot_be_captured_is_not(small, graphs, monkeypatch, params):
    monkeypatch.setattr("torchblob.training._stack.MOST_STEPS", 100)
    X, y = small
    if "sparse" in params:  # the rows lie on the host
        X, params = sparse.csr_array(X), {}
    clf = fit(X, y, **params)
    assert graphs.made == 0
    assert np.isfinite(clf.loss_curve_).all()


def test_a_capture_that_fails_is_done_without(small, monkeypatch):
    def fail(function, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    X, y = small
    expected = fit(X, y)
    monkeypatch.setitem(_replay.GRAPHS, "cpu", fail)
    with pytest.warns(RuntimeWarning, match="without a CUDA graph.* not permitted"):
        clf = fit(X, y)
    torch.testing.assert_close(weights(clf), weights(expected))
    assert len(clf.history_) == 12
