"""Epochs that are captured once and replayed, as a GPU does, played on the CPU."""

import numpy as np
import pytest
import torch
from helpers import weights
from scipy import sparse
from skorch.callbacks import Callback
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from torchblob import TorchBlobClassifier
from torchblob._data import check_table
from torchblob._problem import make_net, make_task
from torchblob.training import Member, _replay, train
from torchblob.training._layout import Shape

WAITS_FOR_THE_DEVICE = {"_local_scalar_dense", "nonzero", "item", "masked_select"}


class Borrowed:
    """A tensor that an operation takes from outside, without keeping its memory."""

    def __init__(self, tensor):
        self.storage = StorageWeakRef(tensor.untyped_storage())
        self.dtype = tensor.dtype
        self.place = tensor.storage_offset(), tensor.size(), tensor.stride()

    def get(self):
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        assert storage is not None, "a graph uses memory that is free by now"
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.place)


class Recorder(TorchDispatchMode):
    """Note each operation, and what the tensors that it overwrites held before."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.own = [], {}, {}

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
        if not written and self.is_view(result, args):
            return result  # where it is used, it is noted as what it shows
        borrowed = tree_map_only(torch.Tensor, self.borrow, (args, kwargs))
        if not written:
            self.own[result.untyped_storage()._cdata] = result
        self.calls.append((func, *borrowed, None if written else result))
        return result

    @staticmethod
    def is_view(result, args):
        """Return whether no memory was allocated; reshape, for one, can be either."""
        first = tree_leaves(result)[0].untyped_storage()
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        return any(first._cdata == t.untyped_storage()._cdata for t in tensors)

    def borrow(self, tensor):
        """Keep a tensor only if it was made here: the memory of a graph is its own."""
        own = tensor.untyped_storage()._cdata in self.own
        return tensor if own else Borrowed(tensor)


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
            args, kwargs = tree_map_only(Borrowed, Borrowed.get, (args, kwargs))
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


def test_a_graph_whose_tensors_are_gone_can_not_be_replayed():
    tensors = [torch.ones(3)]
    graph = RecordedGraph(lambda: tensors[0] * 2, "cpu")
    assert graph.replay().tolist() == [2, 2, 2]
    tensors[0] += 1
    assert graph.replay().tolist() == [4, 4, 4]
    tensors.clear()
    with pytest.raises(AssertionError, match="memory that is free"):
        graph.replay()


def fit(X, y, X_val=None, y_val=None, **params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 12}
    params = defaults | {"n_iter_no_change": 12} | params  # few epochs are enough
    return TorchBlobClassifier(**params).fit(X, y, X_val=X_val, y_val=y_val)


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


@pytest.mark.parametrize("params", CAPTURED.values(), ids=CAPTURED)
def test_a_stack_from_a_captured_epoch_is_the_stack(small, graphs, monkeypatch, params):
    X, y = small

    def train_three():
        members = []
        for k in range(3):
            clf = TorchBlobClassifier(
                device="cpu", random_state=k, max_epochs=40, n_iter_no_change=30
            ).set_params(**params)
            table = check_table(clf, X[k:], y[k:], None, reset=True)
            clf.classes_ = np.unique(table.y)
            net = make_net(clf, table.X, None)
            task = make_task(clf, net, table, None, weighted=False)
            members.append(Member(net, task))
        bad = members[1].net.module_  # whose loss ends it before the others
        torch.nn.init.constant_(bad.linear_layers[0].bias, np.nan)
        train(members)
        assert [m.error is None for m in members] == [True, False, True]
        return [members[0].net, members[2].net]

    replayed = train_three()
    assert graphs.made == 1
    monkeypatch.delitem(_replay.GRAPHS, "cpu")
    for net, expected in zip(replayed, train_three(), strict=True):
        torch.testing.assert_close(weights(net), weights(expected))
        assert net.history[:, "train_loss"] == pytest.approx(
            expected.history[:, "train_loss"]
        )


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
