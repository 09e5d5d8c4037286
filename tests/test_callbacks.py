"""What callbacks see and change, skorch's and scikit-learn's, and what is printed."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import weights
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
    Unfreezer,
)
from torch.nn.utils import prune
from torch.optim.lr_scheduler import StepLR

from torchblob import BlobModel, TorchBlobClassifier
from torchblob.training._engine import Engine

HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_grad_computed",
    "on_batch_end",
    "on_epoch_end",
    "on_train_end",
]


def make(**params):
    return TorchBlobClassifier(**{"device": "cpu", "random_state": 0} | params)


def fit(X, y, X_val=None, y_val=None, **params):
    return make(**params).fit(X, y, X_val=X_val, y_val=y_val)


@pytest.fixture(scope="module")
def noisy(small):
    """Return training and validation rows of which a third has a wrong label."""
    X, y = small
    rng = np.random.default_rng(0)
    y = np.where(rng.random(len(y)) < 1 / 3, rng.integers(3, size=len(y)), y)
    return X[:60], y[:60], X[60:], y[60:]


OVERFIT = {"hidden_units": 64, "optimizer": "adam", "lr": 0.05, "tol": 1}


class Recorder(Callback):
    def __init__(self):
        self.calls = []


def _recorded(hook):
    def method(self, net, X=None, y=None, **kwargs):
        self.calls.append((hook, {"X": X, "y": y, **kwargs}))

    return method


for _hook in HOOKS:
    setattr(Recorder, _hook, _recorded(_hook))


class At(Callback):
    """Raise `error` in a hook of the epoch `epoch`, counted from 1."""

    def __init__(self, hook, epoch, error):
        self.hook, self.epoch, self.error = hook, epoch, error

    def _maybe_raise(self, hook, net):
        if hook == self.hook and len(net.history) == self.epoch:
            raise self.error

    def on_epoch_begin(self, net, **kwargs):
        self._maybe_raise("on_epoch_begin", net)

    def on_batch_end(self, net, **kwargs):
        self._maybe_raise("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self._maybe_raise("on_epoch_end", net)


def test_the_hooks_are_called_in_the_order_of_skorch(small):
    X, y = small
    recorder = Recorder()
    params = {"batch_size": 60, "max_epochs": 2, "callbacks": [recorder]}
    fit(X[:100], y[:100], X[100:], y[100:], **params)
    step = ["on_batch_begin", "on_grad_computed", "on_batch_end"]
    epoch = ["on_epoch_begin", *step, *step, "on_batch_begin", "on_batch_end"]
    epoch.append("on_epoch_end")
    expected = ["on_train_begin", *epoch, *epoch, "on_train_end"]
    assert [hook for hook, _ in recorder.calls] == expected


def test_the_hooks_get_batches_and_data_sets_on_the_device(small):
    X, y = small
    recorder = Recorder()
    params = {"batch_size": 60, "max_epochs": 1, "callbacks": [recorder]}
    fit(X[:100], y[:100], X[100:], y[100:], **params)
    batches = [
        (hook, call["training"], *(tuple(part.shape) for part in call["batch"]))
        for hook, call in recorder.calls
        if "batch" in call
    ]
    assert batches == [
        ("on_batch_begin", True, (60, 4), (60,)),
        ("on_grad_computed", True, (60, 4), (60,)),
        ("on_batch_end", True, (60, 4), (60,)),
        ("on_batch_begin", True, (40, 4), (40,)),
        ("on_grad_computed", True, (40, 4), (40,)),
        ("on_batch_end", True, (40, 4), (40,)),
        ("on_batch_begin", False, (20, 4), (20,)),
        ("on_batch_end", False, (20, 4), (20,)),
    ]
    calls = dict(recorder.calls)
    for hook in ("on_train_begin", "on_train_end"):
        np.testing.assert_array_equal(calls[hook]["X"], X[:100])
        np.testing.assert_array_equal(calls[hook]["y"], y[:100])
    for hook in ("on_epoch_begin", "on_epoch_end"):
        assert len(calls[hook]["dataset_train"]) == 100
        assert len(calls[hook]["dataset_valid"]) == 20
        np.testing.assert_array_equal(calls[hook]["dataset_valid"][3][0], X[103])
    names = [name for name, _ in calls["on_grad_computed"]["named_parameters"]]
    assert names == [
        f"linear_layer_stack.{layer}.{part}"
        for layer in (0, 2, 4)
        for part in ("weight", "bias")
    ]


def test_a_batch_ends_with_its_loss(small):
    recorder = Recorder()
    clf = fit(*small, batch_size=60, max_epochs=2, callbacks=[recorder])
    losses = [float(c["loss"]) for h, c in recorder.calls if h == "on_batch_end"]
    assert [np.mean(losses[:2]), np.mean(losses[2:])] == pytest.approx(clf.loss_curve_)
    recorded = clf.history_[:, "batches", :, "train_loss"]
    np.testing.assert_allclose(np.ravel(recorded), losses)


def test_gradients_are_there_when_they_are_said_to_be_computed(small):
    norms = []

    class Norms(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            norms.append(sum(float(p.grad.norm()) for _, p in named_parameters))

    fit(*small, max_epochs=2, callbacks=[Norms()])
    assert len(norms) == 2
    assert min(norms) > 0


def test_the_finished_epoch_is_in_the_history_when_it_ends(small):
    X, y = small
    seen = []

    class Reader(Callback):
        def on_epoch_end(self, net, **kwargs):
            row = net.history[-1]
            seen.append((row["epoch"], row["train_loss"], row["valid_acc"]))

    clf = fit(X, y, X, y, max_epochs=3, callbacks=[Reader()])
    assert seen == clf.history_[:, ("epoch", "train_loss", "valid_acc")]
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3]


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_size": 16}, {"dropout": 0.3}, {"early_stopping": True}],
    ids=["full batch", "batches", "dropout", "early stopping"],
)
def test_training_with_callbacks_that_do_nothing_is_that_without(small, params):
    params = {"max_epochs": 10, **params}
    plain, watched = (
        fit(*small, **params),
        fit(*small, callbacks=[Callback()], **params),
    )
    assert torch.equal(weights(plain), weights(watched))
    assert plain.loss_curve_ == watched.loss_curve_


def test_callbacks_are_called_in_partial_fit_too(small):
    recorder = Recorder()
    clf = make(callbacks=[recorder])
    for _ in range(2):
        clf.partial_fit(*small, classes=[0, 1, 2])
    assert [hook for hook, _ in recorder.calls] == HOOKS * 2


def test_early_stopping_of_skorch_ends_training_at_the_rising_loss(noisy):
    stopping = EarlyStopping(patience=3, sink=lambda text: None)
    clf = fit(*noisy, max_epochs=200, callbacks=[stopping], **OVERFIT)
    losses = clf.history_[:, "valid_loss"]
    assert clf.n_iter_ < 100
    assert min(losses[-3:]) > min(losses) * (1 - 1e-4)
    again = fit(*noisy, max_epochs=clf.n_iter_, **OVERFIT)
    assert torch.equal(weights(clf), weights(again))


def test_early_stopping_of_skorch_returns_to_the_best_weights(noisy):
    stopping = EarlyStopping(
        patience=10, threshold=0, load_best=True, sink=lambda text: None
    )
    clf = fit(*noisy, max_epochs=200, callbacks=[stopping], **OVERFIT)
    best = int(np.argmin(clf.history_[:, "valid_loss"])) + 1
    assert best < clf.n_iter_ < 200
    again = fit(*noisy, max_epochs=best, **OVERFIT)
    assert torch.equal(weights(clf), weights(again))


def test_a_scheduler_of_skorch_sets_the_rate_of_each_epoch(small):
    seen = []

    class Rates(Callback):
        def on_grad_computed(self, net, **kwargs):
            seen.append(net.optimizer_.param_groups[0]["lr"])

    scheduler = LRScheduler(StepLR, step_size=2, gamma=0.5)
    clf = fit(*small, max_epochs=5, callbacks=[scheduler, Rates()])
    expected = [0.1, 0.1, 0.05, 0.05, 0.025]
    assert seen == pytest.approx(expected)
    assert clf.history_[:, "event_lr"] == pytest.approx(expected)
    assert not torch.allclose(weights(clf), weights(fit(*small, max_epochs=5)))


@pytest.mark.parametrize(
    ("monitor", "params"),
    [
        ("valid_loss_best", {}),
        ("valid_loss_best", {"early_stopping": True, "n_iter_no_change": 10}),
        (
            lambda net: (
                net.history[-1, "valid_loss"] == min(net.history[:, "valid_loss"])
            ),
            {},
        ),
    ],
    ids=["default", "default with early stopping", "callable"],
)
def test_a_checkpoint_brings_the_best_weights_back(noisy, tmp_path, monitor, params):
    checkpoint = Checkpoint(monitor=monitor, dirname=str(tmp_path), load_best=True)
    params = {**OVERFIT, **params, "max_epochs": 40}
    clf = fit(*noisy, callbacks=[checkpoint], **params)
    plain = fit(*noisy, **params)
    best = int(np.argmin(plain.history_[:, "valid_loss"])) + 1
    assert best < plain.n_iter_
    assert torch.equal(weights(clf), weights(fit(*noisy, **OVERFIT, max_epochs=best)))
    saved = torch.load(tmp_path / "params.pt", weights_only=True)
    assert torch.equal(torch.cat([w.flatten() for w in saved.values()]), weights(clf))


def test_a_checkpoint_saves_each_epoch_where_it_is_told_to(small, tmp_path):
    checkpoint = Checkpoint(
        monitor=None,
        dirname=str(tmp_path),
        f_params="params{last_epoch[epoch]}.pt",
        f_optimizer=None,
        f_criterion=None,
        f_history=None,
    )
    fit(*small, max_epochs=3, callbacks=[checkpoint])
    for epoch in (1, 2, 3):
        saved = torch.load(tmp_path / f"params{epoch}.pt", weights_only=True)
        expected = weights(fit(*small, max_epochs=epoch))
        assert torch.equal(torch.cat([w.flatten() for w in saved.values()]), expected)


@pytest.mark.parametrize(("batch_size", "n_batches"), [(60, 3), (None, 2), (500, 2)])
@pytest.mark.parametrize("batches_per_epoch", ["auto", "count"])
def test_a_progress_bar_counts_the_batches(
    small, capsys, batches_per_epoch, batch_size, n_batches
):
    X, y = small
    counts = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            counts.append((bar.pbar_.n, bar.pbar_.total))

    bar = ProgressBar(batches_per_epoch, detect_notebook=False)
    params = {"batch_size": batch_size, "max_epochs": 2}
    clf = fit(X, y, X, y, callbacks=[Count(), bar], **params)
    first = None if batches_per_epoch == "count" else n_batches
    assert counts == [(n_batches, first), (n_batches, n_batches)]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"0/{n_batches}" in printed.err
    assert torch.equal(weights(clf), weights(fit(X, y, **params)))


@pytest.mark.parametrize("batch_size", [None, 20])
@pytest.mark.parametrize(
    ("on_train", "use_caching"), [(False, True), (False, False), (True, False)]
)
def test_an_epoch_score_is_that_of_the_weights_at_its_end(
    small, on_train, use_caching, batch_size
):
    X, y = small
    train, valid = (X[:80], y[:80]), (X[80:], y[80:])
    scoring = EpochScoring(
        "neg_log_loss",
        lower_is_better=False,
        on_train=on_train,
        name="mine",
        use_caching=use_caching,
    )
    params = {"batch_size": batch_size, "max_epochs": 3}
    clf = fit(*train, *valid, callbacks=[scoring], **params)
    rows, labels = train if on_train else valid
    for epoch in (1, 2, 3):
        params["max_epochs"] = epoch
        expected = log_loss(labels, fit(*train, **params).predict_proba(rows))
        assert clf.history_[epoch - 1]["mine"] == pytest.approx(-expected, rel=1e-5)
    assert clf.history_[:, "mine_best"] == [True, True, True]


def test_a_batch_score_is_averaged_over_the_epoch(small):
    X, y = small
    scoring = BatchScoring("neg_log_loss", lower_is_better=False, name="mine")
    clf = fit(X, y, X, y, max_epochs=3, callbacks=[scoring])
    expected = -np.array(clf.history_[:, "valid_loss"])
    np.testing.assert_allclose(clf.history_[:, "mine"], expected, rtol=1e-5)


def test_a_checkpoint_can_watch_a_score_of_ones_own(noisy, tmp_path):
    score = EpochScoring("accuracy", lower_is_better=False, name="mine")
    checkpoint = Checkpoint(monitor="mine_best", dirname=str(tmp_path), load_best=True)
    clf = fit(*noisy, max_epochs=30, callbacks=[score, checkpoint], **OVERFIT)
    scores = fit(*noisy, max_epochs=30, **OVERFIT).history_[:, "valid_acc"]
    assert clf.score(*noisy[2:]) == pytest.approx(max(scores)) != scores[-1]


def test_clipping_bounds_the_norm_of_the_gradient(small):
    norms = []

    class Norm(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            grads = [p.grad.flatten() for _, p in named_parameters]
            norms.append(float(torch.cat(grads).norm()))

    fit(*small, max_epochs=5, callbacks=[Norm()])
    assert min(norms) > 0.01
    norms.clear()
    clipping = GradientNormClipping(0.01)
    clf = fit(*small, max_epochs=5, callbacks=[clipping, Norm()])
    np.testing.assert_allclose(norms, 0.01, rtol=1e-3)
    # Five steps of gradient descent at a rate of 0.1 are as long as their gradients.
    start = weights(fit(*small, max_epochs=1, lr=1e-300))
    assert 0 < float((weights(clf) - start).norm()) <= 5 * 0.1 * 0.01 * (1 + 1e-6)


@pytest.mark.parametrize("params", [{}, {"optimizer": "adamw", "weight_decay": 0.1}])
def test_a_freezer_keeps_the_layers_it_names(small, params):
    freeze = Freezer("linear_layer_stack.0.*")
    thaw = Unfreezer("linear_layer_stack.0.*", at=4)

    class First(Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, net, **kwargs):
            layers = net.module_.linear_layers
            self.seen.append([layer.weight.detach().clone() for layer in layers])

    first = First()
    fit(*small, max_epochs=4, callbacks=[freeze, thaw, first], **params)
    for before, after in zip(first.seen[:2], first.seen[1:3], strict=True):
        assert torch.equal(before[0], after[0])
        assert not torch.equal(before[1], after[1])
    assert not torch.equal(first.seen[2][0], first.seen[3][0])


@pytest.mark.parametrize("layer", [0, 4])
@pytest.mark.parametrize(
    "params",
    [{"momentum": 0.9}, {"optimizer": "adam", "lr": 0.01}],
    ids=["sgd", "adam"],
)
def test_training_goes_on_after_layers_were_frozen(small, layer, params):
    # Idle callbacks make the second part go another way through the training.
    results = []
    for callbacks in (None, [Callback()]):
        clf = make(**params).partial_fit(*small, classes=[0, 1, 2])
        clf.set_params(callbacks=[Freezer(f"linear_layer_stack.{layer}.*")])
        clf.partial_fit(*small).set_params(callbacks=callbacks)
        clf.module_.requires_grad_(True)
        results.append(weights(clf.partial_fit(*small).partial_fit(*small)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


class Clip(Callback):
    """Keep weights within bounds, in place or by tensors of its own."""

    def __init__(self, hook, in_place):
        self.hook, self.in_place = hook, in_place

    def clip(self, net):
        for parameter in net.module_.parameters():
            if self.in_place:
                parameter.data.clamp_(-0.3, 0.3)
            else:
                parameter.data = parameter.data.clamp(-0.3, 0.3)

    def on_batch_begin(self, net, **kwargs):
        if self.hook == "on_batch_begin":
            self.clip(net)

    def on_batch_end(self, net, **kwargs):
        if self.hook == "on_batch_end":
            self.clip(net)

    def on_epoch_end(self, net, **kwargs):
        if self.hook == "on_epoch_end":
            self.clip(net)


@pytest.mark.parametrize("hook", ["on_batch_begin", "on_batch_end", "on_epoch_end"])
def test_a_callback_may_put_weights_in_the_place_of_others(small, hook):
    params = {"max_epochs": 5, "batch_size": 60, "momentum": 0.9}
    replaced = fit(*small, callbacks=[Clip(hook, False)], **params)
    in_place = fit(*small, callbacks=[Clip(hook, True)], **params)
    torch.testing.assert_close(weights(replaced), weights(in_place), rtol=0, atol=0)
    assert replaced.loss_curve_ == in_place.loss_curve_
    assert (weights(fit(*small, **params)) - weights(replaced)).abs().max() > 0.01


def test_a_scheduler_of_skorch_goes_on_in_partial_fit(small):
    scheduler = LRScheduler("ExponentialLR", gamma=0.5)
    whole = fit(*small, max_epochs=5, callbacks=[scheduler])
    parts = make(callbacks=[scheduler])
    for _ in range(5):
        parts.partial_fit(*small, classes=[0, 1, 2])
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-12, atol=1e-14)


def test_a_callback_may_have_a_name(small):
    scheduler = LRScheduler(StepLR, step_size=1, gamma=0.5)
    clf = fit(*small, max_epochs=3, callbacks=[("halving", scheduler)])
    assert clf.history_[:, "event_lr"] == pytest.approx([0.1, 0.05, 0.025])
    assert dict(clf.net_.callbacks_)["halving"].step_size == 1


def test_fits_leave_the_parameter_as_it_is_and_the_same_list_fits_again(small):
    callbacks = [
        ("stop", EarlyStopping("train_loss", patience=2, threshold=0.5, sink=str)),
        LRScheduler(StepLR, step_size=1, gamma=0.5),
    ]
    before = list(callbacks)
    clf = make(callbacks=callbacks, max_epochs=10)
    clf.fit(*small)
    first = weights(clf).clone(), clf.n_iter_, clf.history_[:, "event_lr"]
    clf.fit(*small)
    assert clf.get_params()["callbacks"] is callbacks
    assert callbacks == before
    assert torch.equal(first[0], weights(clf))
    assert first[1:] == (clf.n_iter_, clf.history_[:, "event_lr"])
    assert clf.n_iter_ < 10


@pytest.mark.parametrize(
    ("hook", "n_epochs"), [("on_epoch_end", 3), ("on_epoch_begin", 2)]
)
def test_a_callback_that_interrupts_ends_training_in_silence(
    small, capsys, hook, n_epochs
):
    stop = At(hook, 3, KeyboardInterrupt())
    clf = fit(*small, max_epochs=10, callbacks=[stop])
    assert clf.n_iter_ == len(clf.loss_curve_) == n_epochs
    assert torch.equal(weights(clf), weights(fit(*small, max_epochs=n_epochs)))
    assert capsys.readouterr() == ("", "")


def test_training_that_is_ended_within_an_epoch_keeps_the_step_but_not_its_row(small):
    stop = At("on_batch_end", 3, KeyboardInterrupt())
    clf = fit(*small, max_epochs=10, callbacks=[stop])
    assert clf.n_iter_ == len(clf.loss_curve_) == 2
    assert torch.equal(weights(clf), weights(fit(*small, max_epochs=3)))


def test_the_train_end_hook_is_called_after_an_interrupt(small):
    recorder = Recorder()
    stop = At("on_epoch_end", 2, KeyboardInterrupt())
    fit(*small, max_epochs=10, callbacks=[recorder, stop])
    hooks = [hook for hook, _ in recorder.calls]
    assert hooks.count("on_epoch_end") == 2
    assert hooks[-1] == "on_train_end"


@pytest.mark.parametrize("callbacks", [None, [Callback()]])
@pytest.mark.parametrize("n_epochs", [0, 1, 4])
def test_ctrl_c_warns_and_keeps_the_model_as_far_as_it_came(small, n_epochs, callbacks):
    class Interrupted(torch.optim.SGD):
        n_steps = 0

        def step(self, closure=None):
            if self.n_steps == n_epochs:
                raise KeyboardInterrupt
            self.n_steps += 1
            return super().step(closure)

    def optimizer(params, lr, weight_decay):
        return Interrupted(params, lr=lr)

    with pytest.warns(UserWarning, match="interrupted") as caught:
        clf = fit(*small, optimizer=optimizer, max_epochs=10, callbacks=callbacks)
    assert len(caught) == 1
    assert clf.n_iter_ == len(clf.loss_curve_) == n_epochs
    expected = fit(*small, max_epochs=max(n_epochs, 1), lr=0.1 if n_epochs else 1e-300)
    assert torch.equal(weights(clf), weights(expected))
    assert clf.predict_proba(small[0]).shape == (120, 3)


def test_ctrl_c_ends_a_partial_fit_and_the_loop_around_it(small, monkeypatch):
    clf = fit(*small, max_epochs=3)
    before, history = weights(clf), len(clf.history_)

    def begin_epoch(engine, epoch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "begin_epoch", begin_epoch)
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(*small)
    assert torch.equal(weights(clf), before)
    assert len(clf.history_) == history


@pytest.mark.parametrize("callbacks", [None, [Callback()]])
def test_ctrl_c_within_the_first_step_leaves_an_optimizer_that_can_go_on(
    small, monkeypatch, callbacks
):
    init_group = torch.optim.Adam._init_group

    def begin(optimizer, group, *args):
        result = init_group(optimizer, group, *args)
        del optimizer.state[group["params"][-1]]["exp_avg"]
        monkeypatch.setattr(torch.optim.Adam, "_init_group", init_group)
        raise KeyboardInterrupt(result)

    monkeypatch.setattr(torch.optim.Adam, "_init_group", begin)
    with pytest.warns(UserWarning, match="interrupted"):
        clf = fit(*small, optimizer="adam", callbacks=callbacks)
    clf = pickle.loads(pickle.dumps(clf))
    assert clf.partial_fit(*small).n_iter_ == 1


def test_ctrl_c_does_not_hide_that_the_training_has_diverged(small, monkeypatch):
    clf = fit(*small, max_epochs=5)
    before = clf.predict_proba(small[0])
    epochs = []

    def begin_epoch(engine, epoch):
        epochs.append(epoch)
        if len(epochs) == 5:  # the losses so far have not been read
            raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "begin_epoch", begin_epoch)
    with pytest.raises(ValueError, match="training loss became"):
        clf.set_params(lr=1e200, max_epochs=10).fit(*small)
    np.testing.assert_array_equal(before, clf.predict_proba(small[0]))


def put_another_parameter(layer):
    layer.weight = torch.nn.Parameter(layer.weight.detach() + 1)


def compute_from_another(layer):
    prune.l1_unstructured(layer, "weight", amount=2)


@pytest.mark.parametrize(
    ("hook", "change", "message"),
    [
        ("on_train_begin", compute_from_another, "layer 0 is none: it is computed"),
        ("on_batch_begin", compute_from_another, "layer 0 is none: it is computed"),
        ("on_batch_end", put_another_parameter, "must keep its parameters"),
        ("on_epoch_end", put_another_parameter, "must keep its parameters"),
    ],
)
def test_a_callback_can_not_take_parameters_away(small, hook, change, message):
    def act(callback, net, **kwargs):
        change(net.module_.linear_layers[0])

    callback = type("Change", (Callback,), {hook: act})()
    with pytest.raises(ValueError, match=message):
        fit(*small, callbacks=[callback], max_epochs=3)


def test_ctrl_c_while_the_best_weights_are_kept_keeps_those_before(small, monkeypatch):
    state_dict, calls = BlobModel.state_dict, []

    def interrupted(module, *args, **kwargs):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return state_dict(module, *args, **kwargs)

    monkeypatch.setattr(BlobModel, "state_dict", interrupted)
    params = {"early_stopping": True, "n_iter_no_change": 40}
    params |= {"X_val": small[0], "y_val": small[1]}
    with pytest.warns(UserWarning, match="interrupted"):
        clf = fit(*small, max_epochs=30, **params)
    before = fit(*small, max_epochs=14, **params)
    assert torch.equal(weights(clf), weights(before))
    assert clf.best_epoch_ == before.best_epoch_ < clf.n_iter_


def test_a_pruned_model_can_not_be_trained_further(small):
    clf = fit(*small, max_epochs=3)
    compute_from_another(clf.module_.linear_layers[0])
    before = clf.predict_proba(small[0])
    with pytest.raises(ValueError, match="layer 0 is none: it is computed"):
        clf.partial_fit(*small)
    np.testing.assert_array_equal(clf.predict_proba(small[0]), before)


def replace_an_activation(module):
    module.linear_layer_stack[1] = torch.nn.Tanh()


def add_a_hook(module):
    module.register_forward_hook(lambda module, args, output: output + 1)


@pytest.mark.parametrize("change", [replace_an_activation, add_a_hook])
def test_a_model_that_was_changed_can_not_be_trained_further(small, change):
    clf = fit(*small, max_epochs=3)
    change(clf.module_)
    before = clf.predict_proba(small[0])
    message = "can't go on from the last fit: a layer .* was changed, or has a hook"
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(*small)
    np.testing.assert_array_equal(clf.predict_proba(small[0]), before)


@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_end"])
def test_weights_that_a_callback_makes_infinite_are_an_error(small, hook):
    def act(callback, net, **kwargs):
        layer = net.module_.linear_layers[0]
        layer.weight.data = torch.full_like(layer.weight, torch.inf)

    callback = type("Spoil", (Callback,), {hook: act})()
    with pytest.raises(ValueError, match="weights became infinite or NaN in the last"):
        fit(*small, callbacks=[callback], max_epochs=1)


def test_a_schedule_goes_on_when_a_callback_loads_the_optimizer(small):
    rates = []

    class Reload(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.optimizer_.load_state_dict(net.optimizer_.state_dict())

        def on_batch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    fit(*small, callbacks=[Reload()], lr_schedule="linear", max_epochs=5)
    assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])


def test_the_best_epoch_is_the_best_of_all_trainings(small):
    X, y = small
    params = {"n_iter_no_change": 40, "callbacks": [Callback()]}
    clf = fit(X, y, max_epochs=30, warm_start=True, **params)
    clf.set_params(max_epochs=2).fit(X, (y + 1) % 3)
    assert clf.history_[:, "train_loss_best"] == [True] * 30 + [False] * 2
    clf.partial_fit(X, y, classes=[0, 1, 2])
    assert not clf.history_[-1]["train_loss_best"]


def test_a_score_is_the_best_after_trainings_whose_scores_were_no_numbers(small):
    scores = iter([np.nan, np.nan, 0.5, np.nan, 0.6])
    clf = make(
        early_stopping=True,
        scoring=lambda clf, X, y: next(scores),
        warm_start=True,
        max_epochs=2,
        n_iter_no_change=10,
    ).fit(*small)
    assert clf.best_epoch_ is None
    clf.set_params(max_epochs=3).fit(*small)
    best = clf.history_[:, "valid_score_best"]
    assert best == [False, False, True, False, True]
    assert clf.best_epoch_ == 5


def test_a_training_that_fails_leaves_the_momentum_of_the_last(small):
    X, y = small
    clf = make(momentum=0.9).partial_fit(X, y, classes=[0, 1, 2])
    momenta = [s["momentum_buffer"] for s in clf.net_.optimizer_.state.values()]
    before = [momentum.clone() for momentum in momenta]
    error = RuntimeError("no more room")
    clf.set_params(callbacks=[At("on_batch_end", 2, error)])
    with pytest.raises(RuntimeError, match="no more room"):
        clf.partial_fit(X, y)
    assert all(map(torch.equal, momenta, before))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_error_in_a_callback_passes_and_leaves_the_last_model(small, method):
    X, y = small
    clf = fit(X, y, max_epochs=5)
    before = weights(clf).clone(), clf.predict_proba(X), clf.loss_curve_
    error = RuntimeError("no more room")
    n_epochs = 2 if method == "fit" else 6
    clf.set_params(callbacks=[At("on_epoch_end", n_epochs, error)], max_epochs=10)
    columns = slice(0, 3) if method == "fit" else slice(0, 4)
    with pytest.raises(RuntimeError, match="no more room") as caught:
        getattr(clf, method)(X[:, columns], y)
    assert caught.value is error
    assert torch.equal(before[0], weights(clf))
    np.testing.assert_array_equal(before[1], clf.predict_proba(X))
    assert clf.loss_curve_ == before[2]
    assert clf.n_features_in_ == 4


def test_an_error_in_a_first_fit_leaves_nothing_behind(small):
    clf = make(callbacks=[At("on_epoch_end", 1, RuntimeError())])
    before = dict(vars(clf))
    with pytest.raises(RuntimeError):
        clf.fit(*small)
    assert vars(clf) == before


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"batch_size": 32}])
@pytest.mark.parametrize("callbacks", [None, [Callback()]])
def test_a_fit_is_silent(small, capsys, params, callbacks):
    clf = fit(*small, max_epochs=10, callbacks=callbacks, **params)
    clf.predict(small[0])
    clf.partial_fit(*small)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("verbose", "epochs"), [(1, range(25)), (True, range(25)), (10, (0, 10, 20))]
)
def test_verbose_prints_every_so_many_epochs(small, capsys, verbose, epochs):
    clf = fit(*small, max_epochs=25, tol=1, verbose=verbose)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"Epoch: {epoch} | Loss: {clf.loss_curve_[epoch]:.4f}, "
        f"Acc: {clf.history_[epoch]['train_acc'] * 100:.2f}%"
        for epoch in epochs
    ]


@pytest.mark.parametrize("validation", ["Test", "Valid"])
def test_verbose_tells_data_of_the_user_from_data_held_out(small, capsys, validation):
    X, y = small
    held_out = validation == "Valid"
    val = {} if held_out else {"X_val": X[:30], "y_val": y[:30]}
    clf = fit(X, y, early_stopping=held_out, max_epochs=2, verbose=1, **val)
    row = clf.history_[1]
    expected = (
        f"Epoch: 1 | Loss: {row['train_loss']:.4f}, Acc: {row['train_acc'] * 100:.2f}%"
        f" | {validation} loss: {row['valid_loss']:.4f}, "
        f"{validation} acc: {row['valid_acc'] * 100:.2f}%"
    )
    assert capsys.readouterr().out.splitlines()[1] == expected


def test_verbose_counts_on_with_warm_start(small, capsys):
    clf = fit(*small, max_epochs=2, warm_start=True, verbose=1)
    clf.fit(*small)
    epochs = re.findall(r"^Epoch: (\d+)", capsys.readouterr().out, re.MULTILINE)
    assert epochs == ["0", "1", "2", "3"]


class FitRecorder:
    """Records the tasks of scikit-learn's callback protocol."""

    def __init__(self, stop_after=None, fail_at=None):
        self.calls = []
        self.stop_after = stop_after
        self.fail_at = fail_at

    def _record(self, hook, context, **details):
        task = (context.task_name, context.task_id)
        self.calls.append((hook, task, context.max_subtasks, details))
        if self.fail_at == (hook, task):
            raise RuntimeError("no more room")

    def setup(self, estimator, context):
        self._record("setup", context)

    def teardown(self, estimator, context):
        self._record("teardown", context)

    def on_fit_task_begin(
        self, estimator, context, *, X=None, y=None, fitted_estimator=None
    ):
        proba = None if fitted_estimator is None else fitted_estimator.predict_proba(X)
        self._record("begin", context, X=X, y=y, proba=proba)

    def on_fit_task_end(
        self, estimator, context, *, X=None, metadata=None, fitted_estimator=None
    ):
        proba = fitted_estimator.predict_proba(X)
        self._record("end", context, metadata=metadata, proba=proba)
        return context.task_id + 1 == self.stop_after

    @property
    def hooks(self):
        return [(hook, task) for hook, task, _, _ in self.calls]

    def details(self, hook):
        return {task: details for name, task, _, details in self.calls if name == hook}


class Propagated(FitRecorder):
    max_propagation_depth = None

    def on_fit_task_begin(self, estimator, context):
        self._record("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._record("end", context)


def epochs_of(n_epochs):
    tasks = [("epoch", epoch) for epoch in range(n_epochs)]
    return [(hook, task) for task in tasks for hook in ("begin", "end")]


def around(calls):
    fit_task = ("fit", 0)
    return [
        ("setup", fit_task),
        ("begin", fit_task),
        *calls,
        ("end", fit_task),
        ("teardown", fit_task),
    ]


@pytest.fixture
def sklearn_callback():
    return pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")


def test_scikit_learn_sees_a_task_an_epoch(small, sklearn_callback):
    recorder = FitRecorder()
    clf = make(max_epochs=3).set_callbacks(recorder).fit(*small)
    assert clf.n_iter_ == 3
    assert recorder.hooks == around(epochs_of(3))
    subtasks = {task[0]: max_subtasks for _, task, max_subtasks, _ in recorder.calls}
    assert subtasks == {"fit": 3, "epoch": 0}


def test_scikit_learn_gets_an_estimator_that_predicts_as_of_the_epoch(
    small, sklearn_callback
):
    X, y = small
    frame = pd.DataFrame(X, columns=list("abcd"))
    names = np.array(["one", "two", "three"])[y]
    recorder = FitRecorder()
    sample_weight = np.arange(1, 121)
    clf = make(max_epochs=3).set_callbacks(recorder)
    clf.fit(frame, names, sample_weight)
    begins, ends = recorder.details("begin"), recorder.details("end")
    for epoch in range(3):
        task = ("epoch", epoch)
        assert begins[task]["X"] is frame
        assert begins[task]["y"] is names
        assert ends[task]["metadata"]["sample_weight"] is sample_weight
        reference = make(max_epochs=epoch + 1).fit(X, names, sample_weight)
        expected = reference.predict_proba(X)
        np.testing.assert_allclose(ends[task]["proba"], expected, rtol=1e-12)
        if epoch < 2:
            following = begins["epoch", epoch + 1]["proba"]
            np.testing.assert_allclose(following, expected, rtol=1e-12)
    np.testing.assert_allclose(
        ends["fit", 0]["proba"], clf.predict_proba(frame), rtol=1e-12
    )


def test_without_callbacks_of_scikit_learn_nothing_is_called(small, sklearn_callback):
    recorder = FitRecorder()
    clf = make(max_epochs=3).set_callbacks(recorder).set_callbacks().fit(*small)
    assert recorder.calls == []
    assert clf.n_iter_ == 3


def test_partial_fit_is_no_task_of_scikit_learn(small, sklearn_callback):
    recorder = FitRecorder()
    clf = make().set_callbacks(recorder).partial_fit(*small, classes=[0, 1, 2])
    assert recorder.calls == []
    assert clf.n_iter_ == 1


def test_callbacks_of_scikit_learn_change_nothing(small, sklearn_callback):
    params = {"max_epochs": 5, "batch_size": 32, "dropout": 0.2}
    clf = make(**params).set_callbacks(FitRecorder()).fit(*small)
    assert torch.equal(weights(clf), weights(fit(*small, **params)))
    assert set(vars(clf)) == {*vars(fit(*small, **params)), "_skl_callbacks"}


def test_a_callback_of_scikit_learn_can_end_training(small, sklearn_callback):
    recorder = FitRecorder(stop_after=2)
    clf = make(max_epochs=100).set_callbacks(recorder).fit(*small)
    assert clf.n_iter_ == 2
    assert recorder.hooks == around(epochs_of(2))
    assert torch.equal(weights(clf), weights(fit(*small, max_epochs=2)))


def test_the_last_task_of_scikit_learn_has_the_best_weights(noisy, sklearn_callback):
    recorder = FitRecorder()
    X, y, X_val, y_val = noisy
    params = {**OVERFIT, "early_stopping": True}
    clf = make(**params).set_callbacks(recorder).fit(X, y, X_val=X_val, y_val=y_val)
    assert clf.n_iter_ < 100
    ends = recorder.details("end")
    best = int(np.argmin(clf.history_[:, "valid_loss"]))
    assert best < clf.n_iter_ - 1
    np.testing.assert_array_equal(ends["fit", 0]["proba"], ends["epoch", best]["proba"])


@pytest.mark.parametrize(
    "fail_at",
    [
        ("setup", ("fit", 0)),
        ("begin", ("fit", 0)),
        ("begin", ("epoch", 1)),
        ("end", ("epoch", 1)),
    ],
)
def test_a_failing_fit_is_torn_down(small, sklearn_callback, fail_at):
    recorder = FitRecorder(fail_at=fail_at)
    clf = fit(*small, max_epochs=3)
    before = weights(clf).clone()
    clf.set_callbacks(recorder)
    attributes = set(vars(clf))
    with pytest.raises(RuntimeError, match="no more room"):
        clf.fit(*small)
    assert fail_at in recorder.hooks
    assert recorder.hooks[-1] == ("teardown", ("fit", 0))
    assert set(vars(clf)) == attributes
    assert torch.equal(weights(clf), before)


def test_a_diverging_fit_is_torn_down(small, sklearn_callback):
    recorder = FitRecorder()
    clf = make(lr=1e200, max_epochs=10).set_callbacks(recorder)
    # The recorder predicts after each epoch, before the next would show the loss.
    with pytest.raises(ValueError, match="the network's output for some rows"):
        clf.fit(*small)
    assert recorder.hooks[-1] == ("teardown", ("fit", 0))


def test_both_kinds_of_callbacks_work_in_one_fit(small, sklearn_callback):
    recorder = FitRecorder()
    stop = At("on_epoch_end", 2, KeyboardInterrupt())
    clf = make(max_epochs=10, callbacks=[stop]).set_callbacks(recorder).fit(*small)
    assert clf.n_iter_ == 2
    assert recorder.hooks == around(epochs_of(2))


def test_the_scoring_monitor_scores_each_epoch(small, sklearn_callback):
    X, y = small
    monitor = sklearn_callback.ScoringMonitor(scoring="neg_log_loss")
    sample_weight = np.where(y == 0, 5.0, 1.0)
    clf = make(max_epochs=4).set_callbacks(monitor).fit(X, y, sample_weight)
    rows = monitor.get_logs().data
    scores = {row["task_id_path"]: row["neg_log_loss"] for row in rows}
    assert set(scores) == {(0,), (0, 0), (0, 1), (0, 2), (0, 3)}
    for epoch in range(4):
        proba = make(max_epochs=epoch + 1).fit(X, y, sample_weight).predict_proba(X)
        expected = log_loss(y, proba, sample_weight=sample_weight)
        assert scores[0, epoch] == pytest.approx(-expected)
    assert scores[0,] == scores[0, 3] == max(scores.values())
    assert clf.n_iter_ == 4


def test_the_progress_bar_of_scikit_learn_is_filled(small, sklearn_callback, capsys):
    pytest.importorskip("rich")
    clf = make(max_epochs=5).set_callbacks(sklearn_callback.ProgressBar()).fit(*small)
    printed = capsys.readouterr().out
    assert "TorchBlobClassifier" in printed
    assert "100%" in printed
    assert torch.equal(weights(clf), weights(fit(*small, max_epochs=5)))


def test_a_pipeline_shows_the_epochs_within_its_last_step(small, sklearn_callback):
    recorder = FitRecorder()
    clf = make(max_epochs=3).set_callbacks(recorder)
    pipe = make_pipeline(StandardScaler(), clf).fit(*small)
    assert pipe.score(*small) > 0.3
    assert [call for call in recorder.hooks if call[1][0] == "epoch"] == epochs_of(3)
    assert recorder.hooks[-1][0] == "teardown"


def test_a_grid_search_shows_the_epochs_of_all_its_fits(small, sklearn_callback):
    recorder = Propagated()
    search = GridSearchCV(make(), {"max_epochs": [2, 3]}, cv=2)
    search.set_callbacks(recorder).fit(*small)
    epochs = [task for hook, task in recorder.hooks if task[0] == "epoch"]
    # Begin and end of 2 and 3 epochs on two folds each, and of the refit.
    assert len(epochs) == 2 * (2 * 2 + 2 * 3 + search.best_estimator_.n_iter_)
    hooks = [hook for hook, _ in recorder.hooks]
    assert hooks.count("setup") == hooks.count("teardown") == 1
    assert search.best_estimator_.n_iter_ == search.best_params_["max_epochs"]
    assert not hasattr(search.best_estimator_, "_skl_callbacks")
