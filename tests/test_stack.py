"""Networks that train side by side, against each of them alone."""

import numpy as np
import pytest
import torch
from helpers import weights
from scipy import sparse
from sklearn.datasets import make_blobs
from skorch.callbacks import Callback

from torchblob import TorchBlobClassifier
from torchblob._data import check_table
from torchblob._problem import check_validation, make_net, make_task
from torchblob.training import _engine, _layout, _threads, train
from torchblob.training._groups import Group
from torchblob.training._layout import Layout, Shape
from torchblob.training._task import Member
from torchblob.training._weights import StackedWeights


@pytest.fixture(scope="module")
def data():
    """Return 300 rows of 3 classes in 4 features, which overlap, scaled."""
    X, y = make_blobs(300, n_features=4, centers=3, cluster_std=4.0, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


def prepare(X, y, sample_weight=None, X_val=None, y_val=None, **params):
    """Return a net and its task, as a fit makes them."""
    params = {"device": "cpu", "random_state": 0, "max_epochs": 15} | params
    clf = TorchBlobClassifier(**params)
    table = check_table(clf, X, y, sample_weight, reset=True)
    clf.classes_ = np.unique(table.y)
    net = make_net(clf, table.X, None)
    validation = check_validation(clf, X_val, y_val, None)
    return net, make_task(clf, net, table, validation, weighted=False)


def train_together(fits):
    nets, tasks = zip(*(prepare(*args, **kwargs) for args, kwargs in fits), strict=True)
    members = list(map(Member, nets, tasks))
    train(members)
    return nets, [member.error for member in members]


def assert_as_alone(fits):
    """Check that fits in one stack give what each gives alone; return the nets."""
    together, errors = train_together(fits)
    assert errors == [None] * len(fits)
    for net, fit in zip(together, fits, strict=True):
        (alone,), _ = train_together([fit])
        torch.testing.assert_close(weights(net), weights(alone), rtol=1e-9, atol=1e-11)
        assert len(net.history) == len(alone.history)
        for row, expected in zip(net.history, alone.history, strict=True):
            for name in (expected.keys() | row.keys()) - {"batches"}:
                assert row[name] == pytest.approx(expected[name], rel=1e-9)
        assert_same_state(net, alone)
    return together


def assert_same_state(net, alone):
    parameters = zip(net.module_.parameters(), alone.module_.parameters(), strict=True)
    for parameter, expected in parameters:
        state = net.optimizer_.state[parameter]
        of_alone = alone.optimizer_.state[expected]
        assert state.keys() == of_alone.keys()
        for name, value in state.items():
            torch.testing.assert_close(value, of_alone[name], rtol=1e-9, atol=1e-11)


def subsets(X, y, sizes):
    rng = np.random.default_rng(1)
    for size in sizes:
        rows = rng.permutation(len(y))[:size]
        yield X[rows], y[rows]


RECIPES = {
    "full batch": {},
    "momentum": {"momentum": 0.9, "weight_decay": 1e-3},
    "adam in batches": {"optimizer": "adam", "lr": 0.01, "batch_size": 32},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.5},
    "dropout": {"dropout": 0.3, "batch_size": 50},
    "schedule": {"lr_schedule": "cosine", "batch_size": 64},
    "smoothing": {"label_smoothing": 0.1, "class_weight": "balanced"},
    "logistic": {"activation": "logistic", "hidden_units": (5, 4, 3), "lr": 1.0},
    "linear": {"hidden_units": ()},
    "gelu": {"activation": "gelu", "hidden_units": (6,)},
    "early stopping": {
        "early_stopping": True,
        "hidden_units": 32,
        "optimizer": "adam",
        "lr": 0.05,
        "max_epochs": 60,
        "n_iter_no_change": 2,
    },
    "a score": {
        "early_stopping": True,
        "scoring": "accuracy",
        "lr": 0.5,
        "max_epochs": 60,
        "n_iter_no_change": 3,
    },
    "verbose": {"verbose": 5},
}


@pytest.mark.parametrize("params", RECIPES.values(), ids=RECIPES)
def test_a_network_in_a_stack_is_the_network_alone(data, params):
    # Seeds, rows, their number and their weights differ; so do some batches' lengths.
    rng = np.random.default_rng(0)
    assert_as_alone(
        [
            ((*part, rng.uniform(0.1, 2, len(part[1]))), params | {"random_state": k})
            for k, part in enumerate(subsets(*data, [300, 299, 290, 300, 293]))
        ]
    )


def test_twenty_different_fits_are_the_same_alone_and_together(data):
    recipes = list(RECIPES.values())
    sizes = [300, 299, 150, 120, 77] * 4
    fits = [
        ((X, y), recipes[k % 6] | {"hidden_units": (4, 8)[k % 2], "random_state": k})
        for k, (X, y) in enumerate(subsets(*data, sizes))
    ]
    nets = assert_as_alone(fits)
    assert len({tuple(weights(net).tolist()) for net in nets}) == 20


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("schedule", [None, "linear"])
def test_networks_of_different_rates_are_one_stack(data, stacks, optimizer, schedule):
    params = {"optimizer": optimizer, "lr_schedule": schedule, "batch_size": 64}
    recipes = [
        {"lr": 0.01},
        {"lr": 0.03, "weight_decay": 0.01},
        {"lr": 0.01, "momentum": 0.5},
        {"lr": 0.01},
        {"lr": 0.02, "hidden_units": (4,)},
        {"lr": 0.01, "hidden_units": (4,)},
    ]
    fits = [
        (data, params | recipe | {"random_state": k})
        for k, recipe in enumerate(recipes)
    ]
    train_together(fits)
    assert sorted(stacks) == [2, 4]
    assert_as_alone(fits)


@pytest.mark.parametrize("n_networks", [2, 3])
def test_networks_of_different_shapes_are_stacks_of_their_own(data, stacks, n_networks):
    fits = [(data, {"hidden_units": k + 4}) for k in range(n_networks)]
    train_together(fits)
    assert stacks == [1] * n_networks
    assert_as_alone(fits)


def test_sparse_rows_are_stacked_too(data):
    X, y = data
    X = sparse.csr_array(np.where(np.abs(X) > 0.5, X, 0))
    fits = [((X[:n], y[:n]), {"batch_size": 64, "random_state": n}) for n in (300, 290)]
    assert_as_alone(fits)


@pytest.mark.parametrize(
    "params", [{}, {"batch_size": 190}, {"batch_size": 190, "dropout": 0.2}]
)
def test_more_rows_than_a_block_are_stacked_too(data, monkeypatch, params):
    monkeypatch.setattr(Shape, "block_rows", lambda shape, device: 70)
    parts = subsets(*data, [300, 280, 291])
    assert_as_alone(
        [(part, params | {"random_state": k}) for k, part in enumerate(parts)]
    )


@pytest.mark.parametrize(
    ("n_networks", "threads", "networks", "parts"),
    [
        (1, 1, [(0, 1)], 1),
        (1, 3, [(0, 1)], 3),
        (2, 5, [(0, 1), (1, 2)], 2),
        (7, 1, [(0, 2), (2, 4), (4, 6), (6, 7)], 1),
        (7, 2, [(0, 2), (2, 4), (4, 6), (6, 7)], 1),
        (7, 3, [(0, 2), (2, 4), (4, 6), (6, 7)], 1),
        (6, 3, [(0, 2), (2, 4), (4, 6)], 1),
        (3, 3, [(0, 1), (1, 2), (2, 3)], 1),
    ],
)
def test_networks_are_shared_out_before_rows_are(
    data, monkeypatch, set_threads, n_networks, threads, networks, parts
):
    set_threads(threads)
    monkeypatch.setitem(_layout.BLOCK_FLOATS, "cpu", 2 * 42 * 300)
    monkeypatch.setattr(_threads, "WORK_OF_A_THREAD", 1)
    members = [Member(*prepare(*data)) for _ in range(n_networks)]
    layout = Layout.of(members)
    assert [(at.start, at.stop) for at in layout.networks] == networks
    assert layout.parts == parts
    assert layout.threads == (min(threads, parts * len(networks)), 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["full batch", "adam in batches", "dropout"])
def test_many_groups_are_one_stack(data, monkeypatch, set_threads, name, threads):
    # Two networks a group, of 290 rows or more; the last group has one.
    monkeypatch.setitem(_layout.BLOCK_FLOATS, "cpu", 2 * 42 * 300)
    monkeypatch.setattr(Shape, "block_rows", lambda shape, device: 300)
    monkeypatch.setattr(_threads, "WORK_OF_A_THREAD", 1)
    set_threads(threads)
    rows = [data[0][:60], data[1][:60]]
    fits = [
        ((*part, None, *rows), RECIPES[name] | {"random_state": k})
        for k, part in enumerate(subsets(*data, [300, 299, 290, 291, 293, 295, 297]))
    ]
    nets, errors = train_together(fits)
    set_threads(1)
    assert errors == [None] * 7
    for net, fit in zip(nets, fits, strict=True):
        (alone,), _ = train_together([fit])
        torch.testing.assert_close(weights(net), weights(alone), rtol=1e-9, atol=1e-11)
        assert net.history[:, "valid_loss"] == pytest.approx(
            alone.history[:, "valid_loss"], rel=1e-9
        )


def test_validation_data_of_different_length_are_stacked(data):
    X, y = data
    fits = [
        ((X[:200], y[:200], None, X[n:], y[n:]), {"random_state": n})
        for n in (200, 230, 299)
    ]
    nets = assert_as_alone(fits)
    assert all({"train_acc", "valid_acc"} <= net.history[-1].keys() for net in nets)


def test_networks_stop_on_their_own_and_the_others_go_on(data):
    params = RECIPES["early stopping"]
    fits = [(data, params | {"random_state": k}) for k in range(8)]
    nets = assert_as_alone(fits)
    lengths = [len(net.history) for net in nets]
    assert len(set(lengths)) > 2
    assert max(lengths) < 60


def test_a_network_whose_loss_is_not_finite_leaves_the_others_alone(data):
    X, y = data
    fits = [
        ((X * scale, y), {"random_state": k, "hidden_units": (), "max_epochs": 200})
        for k, scale in enumerate([1, 1e200, 1, 1])
    ]
    nets, errors = train_together(fits)
    assert [error is None for error in errors] == [True, False, True, True]
    assert "training loss became" in str(errors[1])
    for k in (0, 2, 3):
        (alone,), _ = train_together([fits[k]])
        torch.testing.assert_close(weights(nets[k]), weights(alone))


def test_a_trained_network_keeps_nothing_of_the_stack(data):
    nets, _ = train_together([(data, {"random_state": k}) for k in range(3)])
    for net in nets:
        for parameter in net.module_.parameters():
            assert parameter.untyped_storage().nbytes() == 8 * parameter.numel()
            assert parameter.grad is None


@pytest.mark.parametrize(
    ("part", "method"), [(Group, "__init__"), (StackedWeights, "show_gradients")]
)
def test_an_interrupt_before_the_first_step_leaves_the_network_as_it_was(
    data, monkeypatch, part, method
):
    net, task = prepare(*data)
    before = weights(net)

    def interrupted(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(part, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train([Member(net, task)])
    assert torch.equal(weights(net), before)
    for parameter in net.module_.parameters():
        assert parameter.untyped_storage().nbytes() == 8 * parameter.numel()
        assert parameter.grad is None


def test_one_network_sees_the_memory_of_its_rows_and_does_not_copy_it(data):
    X, y = data
    seen = []

    class Look(Callback):
        def on_batch_begin(self, net, batch, **kwargs):
            seen.append(batch[0].data_ptr())

    net, task = prepare(X, y, callbacks=[Look()], max_epochs=2)
    train([Member(net, task)])
    assert seen == [task.train.X.data_ptr()] * 2


def test_a_callback_that_stops_its_network_does_not_stop_others(data):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    fits = [(data, {"random_state": k}) for k in range(3)]
    fits[0][1]["callbacks"] = [Stop()]
    nets, errors = train_together(fits)
    assert errors == [None] * 3
    assert [len(net.history) for net in nets] == [3, 15, 15]


def test_groups_share_the_memory_for_what_they_keep(data, monkeypatch):
    monkeypatch.setitem(_layout.BLOCK_FLOATS, "cpu", 2 * 42 * 300)
    kept = []

    class Group(_engine.Group):
        def __init__(self, *args, kept_floats, **kwargs):
            kept.append(kept_floats)
            super().__init__(*args, kept_floats=kept_floats, **kwargs)

    monkeypatch.setattr(_engine, "Group", Group)
    train_together([(data, {"random_state": k}) for k in range(8)])
    assert kept == [_engine.KEPT_FLOATS // 4] * 4


def test_networks_with_callbacks_train_alone_beside_a_stack(data):
    names = []

    class Name(Callback):
        def on_epoch_end(self, net, **kwargs):
            names.append(net.seed)

    fits = [(data, {"random_state": k, "max_epochs": 2}) for k in range(4)]
    fits[2][1]["callbacks"] = [Name()]
    assert_as_alone(fits)
    assert names == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("verbose", "epochs"), [(0, ()), (1, range(5)), (2, (0, 2, 4)), (3, (0, 3))]
)
@pytest.mark.parametrize("n_networks", [2, 3])
def test_a_stack_prints_the_means_of_its_networks(
    data, capsys, n_networks, verbose, epochs
):
    params = {"verbose": verbose, "max_epochs": 5}
    nets, _ = train_together(
        [(data, params | {"random_state": k}) for k in range(n_networks)]
    )
    expected = []
    for epoch in epochs:
        loss, acc = (
            np.mean([net.history[epoch, name] for net in nets])
            for name in ("train_loss", "train_acc")
        )
        expected.append(
            f"{n_networks} networks, means | Epoch: {epoch} | "
            f"Loss: {loss:.4f}, Acc: {acc * 100:.2f}%"
        )
    assert capsys.readouterr().out.splitlines() == expected


def test_a_stack_prints_the_name_of_its_validation_rows(data, capsys):
    rows = [data[0][:60], data[1][:60]]
    params = {"verbose": 1, "max_epochs": 1}
    train_together(
        [((*data, None, *rows), params | {"random_state": k}) for k in range(2)]
    )
    (line,) = capsys.readouterr().out.splitlines()
    assert " | Test loss: " in line
    assert ", Test acc: " in line


def test_the_log_of_a_stack_is_that_of_the_networks_that_go_on(data, capsys):
    params = {"verbose": 1, "max_epochs": 12}
    rates = (1e30, 0.1, 0.1, 1e30)
    nets, errors = train_together([(data, params | {"lr": lr}) for lr in rates])
    assert [error is None for error in errors] == [False, True, True, False]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", Acc")[0] for line in lines[-8:]] == [
        f"2 networks, means | Epoch: {epoch} | Loss: {loss:.4f}"
        for epoch, loss in enumerate(nets[1].history[:, "train_loss"])
        if epoch >= 4
    ]
    assert len(lines) == 12


def test_the_log_of_a_stack_of_which_one_network_is_left_is_that_networks(data, capsys):
    params = {"verbose": 1, "max_epochs": 5}
    nets, _ = train_together([(data, params | {"lr": lr}) for lr in (1e30, 0.1, 1e30)])
    lines = capsys.readouterr().out.splitlines()
    epochs = [
        f"Epoch: {epoch} | Loss: {loss:.4f}"
        for epoch, loss in enumerate(nets[1].history[:, "train_loss"])
    ]
    assert lines[3].startswith(f"1 network, means | {epochs[3]}")
    assert lines[4].startswith(epochs[4])


def test_the_log_of_a_stack_ends_when_all_networks_have_diverged(data, capsys):
    params = {"verbose": 1, "lr": 1e30}
    nets, errors = train_together([(data, params)] * 2)
    assert None not in errors
    assert len(capsys.readouterr().out.splitlines()) == len(nets[0].history) < 15
