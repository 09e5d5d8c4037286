"""What the classifier learns and says, how it ends, and that it can be repeated."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import weights
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, make_moons
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import Dataset
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.optim.lr_scheduler import LambdaLR

from torchblob import BlobModel, TorchBlobClassifier
from torchblob.training import predictions
from torchblob.training._layout import Shape

TUTORIAL = """\
Epoch: 0 | Loss: 1.0432, Acc: 65.50% | Test loss: 0.5786, Test acc: 95.50%
Epoch: 10 | Loss: 0.1440, Acc: 99.12% | Test loss: 0.1304, Test acc: 99.00%
Epoch: 20 | Loss: 0.0806, Acc: 99.12% | Test loss: 0.0722, Test acc: 99.50%
Epoch: 30 | Loss: 0.0592, Acc: 99.12% | Test loss: 0.0513, Test acc: 99.50%
Epoch: 40 | Loss: 0.0489, Acc: 99.00% | Test loss: 0.0410, Test acc: 99.50%
Epoch: 50 | Loss: 0.0429, Acc: 99.00% | Test loss: 0.0349, Test acc: 99.50%
Epoch: 60 | Loss: 0.0391, Acc: 99.00% | Test loss: 0.0308, Test acc: 99.50%
Epoch: 70 | Loss: 0.0364, Acc: 99.00% | Test loss: 0.0280, Test acc: 99.50%
Epoch: 80 | Loss: 0.0345, Acc: 99.00% | Test loss: 0.0259, Test acc: 99.50%
Epoch: 90 | Loss: 0.0330, Acc: 99.12% | Test loss: 0.0242, Test acc: 99.50%
"""


def fit(X, y, sample_weight=None, X_val=None, y_val=None, **params):
    clf = TorchBlobClassifier(**{"device": "cpu", "random_state": 0} | params)
    return clf.fit(X, y, sample_weight, X_val=X_val, y_val=y_val)


def test_the_tutorial_is_printed_to_the_digit(blobs, capsys):
    X_train, X_test, y_train, y_test = blobs
    clf = TorchBlobClassifier(
        activation="identity", random_state=42, verbose=10, device="cpu"
    )
    clf.fit(X_train, y_train, X_val=X_test, y_val=y_test)
    assert capsys.readouterr().out == TUTORIAL
    expected = [4.3377, 10.3539, -14.8948, -9.7642]
    np.testing.assert_allclose(
        clf.decision_function(X_test)[0], expected, rtol=0, atol=2e-4
    )


def test_untrained_logits_are_those_of_the_tutorial(blobs):
    _, X_test, _, _ = blobs
    generator = torch.Generator().manual_seed(42)
    model = BlobModel(2, 4, activation="identity", generator=generator)
    expected = torch.tensor([-1.2549, -0.8112, -1.4795, -0.5696])
    torch.testing.assert_close(model(X_test)[0], expected, rtol=0, atol=2e-4)


def plain_loop(X, y, params, make_optimizer, epochs=30):
    """Train a module that is seeded globally by autograd, as in the tutorial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BlobModel(X.shape[1], int(y.max()) + 1, **params).to(X.dtype)
    optimizer = make_optimizer(model.parameters())
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(epochs):
        loss = loss_fn(model(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("params", "make_optimizer"),
    [
        ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (
            {"optimizer": "adam", "weight_decay": 0.01},
            lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.1},
            lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
        ),
        (
            {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.5},
            lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
        ),
        (
            {"optimizer": lambda p, lr, weight_decay: torch.optim.Adagrad(p, lr=lr)},
            lambda p: torch.optim.Adagrad(p, lr=0.1),
        ),
    ],
    ids=["sgd", "adam", "adamw", "rmsprop", "callable"],
)
def test_a_fit_is_the_plain_loop(small, params, make_optimizer):
    X, y = small
    clf = fit(X, y, max_epochs=30, tol=1, **params)
    expected = plain_loop(
        torch.from_numpy(X), torch.from_numpy(y), {}, make_optimizer, epochs=30
    )
    torch.testing.assert_close(weights(clf), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("activation", ["tanh", "logistic", "leaky_relu", "elu"])
@pytest.mark.parametrize("hidden_units", [(), (5,), (6, 5, 4)])
def test_a_fit_of_any_shape_is_the_plain_loop(small, activation, hidden_units):
    X, y = small
    shape = {"activation": activation, "hidden_units": hidden_units}
    clf = fit(X, y, max_epochs=5, **shape)
    expected = plain_loop(
        torch.from_numpy(X),
        torch.from_numpy(y),
        shape,
        lambda p: torch.optim.SGD(p, lr=0.1),
        epochs=5,
    )
    torch.testing.assert_close(weights(clf), expected, rtol=1e-9, atol=1e-10)


def test_an_optimizer_that_calls_its_closure_repeatedly_works(small):
    def lbfgs(params, lr, weight_decay):
        return torch.optim.LBFGS(params, lr=lr)

    clf = fit(*small, optimizer=lbfgs, lr=1.0, max_epochs=5)
    assert clf.score(*small) == 1.0
    assert clf.loss_curve_[0] > 1 > 0.01 > clf.loss_curve_[-1]


class ClearsFirst(torch.optim.SGD):
    """Has the gradient computed in its own step, from none."""

    def step(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        super().step()
        return loss


class Sharpness(torch.optim.SGD):
    """Sharpness-aware minimization in its usual form (Foret et al., ICLR 2021)."""

    @torch.no_grad()
    def step(self, closure):
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        before = [p.data.clone() for p in parameters]
        for p in parameters:
            p.add_(p.grad, alpha=0.05 / float(norm))
        self.zero_grad()
        with torch.enable_grad():
            self.losses.append(closure().item())
        for p, old in zip(parameters, before, strict=True):
            p.data = old
        super().step()


def test_an_optimizer_may_clear_the_gradient_before_its_closure(small):
    def clears_first(params, lr, weight_decay):
        return ClearsFirst(params, lr=lr)

    expected = fit(*small, max_epochs=10)
    clf = fit(*small, max_epochs=10, optimizer=clears_first)
    torch.testing.assert_close(weights(clf), weights(expected), rtol=1e-12, atol=1e-14)


def test_an_optimizer_may_move_the_weights_before_its_closure(small):
    optimizers = []

    def sharpness(params, lr, weight_decay):
        optimizers.append(Sharpness(params, lr=lr))
        optimizers[-1].losses = []
        return optimizers[-1]

    clf = fit(*small, max_epochs=10, optimizer=sharpness, lr=0.5)
    model = BlobModel(4, 3, generator=torch.Generator().manual_seed(0)).double()
    X, y = map(torch.from_numpy, small)
    optimizer = sharpness(model.parameters(), 0.5, 0)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), y)
        loss.backward()
        return loss

    for _ in range(10):
        closure()
        optimizer.step(closure)
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(weights(clf), expected, rtol=1e-9, atol=1e-12)
    assert optimizers[0].losses == pytest.approx(optimizers[1].losses, rel=1e-9)


def test_label_smoothing_keeps_probabilities_off_the_ends(small):
    plain = fit(*small, optimizer="adam", lr=0.05)
    smooth = fit(*small, optimizer="adam", lr=0.05, label_smoothing=0.3)
    assert plain.predict_proba(small[0]).max() > 0.99
    # The optimum for a row is 1 - 0.3 + 0.3/3 = 0.8 on its class.
    assert abs(smooth.predict_proba(small[0]).max(1).mean() - 0.8) < 0.03


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_schedule_anneals_the_rate_over_all_steps_and_restores_it(small, schedule):
    seen = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])
            return super().step(closure)

    def optimizer(params, lr, weight_decay):
        return Recorder(params, lr=lr)

    clf = fit(
        *small, optimizer=optimizer, lr_schedule=schedule, batch_size=40, max_epochs=5
    )
    progress = np.arange(15) / 15
    factors = {"linear": 1 - progress, "cosine": (1 + np.cos(np.pi * progress)) / 2}
    np.testing.assert_allclose(seen, 0.1 * factors[schedule])
    assert clf.net_.optimizer_.param_groups[0]["lr"] == 0.1


def test_binary_decision_is_one_dimensional_and_agrees_with_the_rest():
    X, y = make_moons(200, noise=0.1, random_state=0)
    clf = fit(X, y, lr=0.5, max_epochs=300)
    decision, proba = clf.decision_function(X), clf.predict_proba(X)
    assert decision.shape == (200,)
    np.testing.assert_array_equal(clf.predict(X), (decision > 0).astype(int))
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-9)


def test_probabilities_are_the_softmax_of_the_decision(small):
    X, y = small
    clf = fit(X, y, max_epochs=10)
    proba = clf.predict_proba(X)
    exp = np.exp(clf.decision_function(X))
    np.testing.assert_allclose(proba, exp / exp.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(clf.predict_log_proba(X), np.log(proba), atol=1e-12)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(1)])


def test_log_probabilities_stay_finite_where_probabilities_vanish(small):
    X, y = small
    clf = fit(X, y, max_epochs=10)
    far = X * 1e6
    assert clf.predict_proba(far).min() == 0
    assert np.isfinite(clf.predict_log_proba(far)).all()


def test_ties_go_to_the_first_class(small):
    X, y = small
    clf = fit(X, y, max_epochs=10)
    with torch.no_grad():
        for parameter in clf.module_.parameters():
            parameter.zero_()
    assert set(clf.predict(X)) == {clf.classes_[0]}


def test_history_has_a_row_an_epoch_with_the_losses_of_scikit_learn(blobs):
    X_train, X_test, y_train, y_test = blobs
    clf = fit(X_train, y_train, X_val=X_test, y_val=y_test, max_epochs=20, tol=1)
    assert clf.n_iter_ == len(clf.history_) == len(clf.loss_curve_) == 20
    row = clf.history_[-1]
    assert row["valid_loss"] == pytest.approx(
        log_loss(y_test, clf.predict_proba(X_test)), rel=1e-5
    )
    assert row["valid_acc"] == pytest.approx(clf.score(X_test, y_test))
    assert clf.history_[:, "train_loss"] == clf.loss_curve_
    further = fit(X_train, y_train, max_epochs=21, tol=1)
    # The training loss of an epoch is that of the weights before its step.
    assert further.loss_curve_[-1] == pytest.approx(
        log_loss(y_train, clf.predict_proba(X_train)), rel=1e-5
    )


def test_history_weighs_loss_and_accuracy_by_the_sample_weights(small):
    X, y = small
    sample_weight = np.where(y == 0, 3.0, 1.0)
    clf = fit(X, y, sample_weight, max_epochs=1, verbose=1)
    start = fit(X, y, sample_weight, max_epochs=1, lr=1e-300)
    proba = start.predict_proba(X)
    expected = log_loss(y, proba, sample_weight=sample_weight)
    assert clf.loss_curve_[0] == pytest.approx(expected, rel=1e-9)
    right = clf.classes_[proba.argmax(1)] == y
    accuracy = np.average(right, weights=sample_weight)
    assert clf.history_[0]["train_acc"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_size": 16}, {"dropout": 0.5}, {"early_stopping": True}],
    ids=["full batch", "batches", "dropout", "early stopping"],
)
def test_the_same_random_state_gives_the_same_weights_and_another_does_not(
    small, params
):
    params = {"max_epochs": 10, **params}
    first, again = fit(*small, **params), fit(*small, **params)
    other = fit(*small, **params | {"random_state": 1})
    assert torch.equal(weights(first), weights(again))
    assert not torch.allclose(weights(first), weights(other))


def test_random_state_none_draws_afresh_and_an_instance_is_advanced(small):
    fits = [fit(*small, random_state=None, max_epochs=1) for _ in range(2)]
    assert not torch.equal(weights(fits[0]), weights(fits[1]))
    generator = np.random.RandomState(0)
    fits = [fit(*small, random_state=generator, max_epochs=1) for _ in range(2)]
    assert not torch.equal(weights(fits[0]), weights(fits[1]))
    again = fit(*small, random_state=np.random.RandomState(0), max_epochs=1)
    assert torch.equal(weights(fits[0]), weights(again))


def test_an_epoch_sees_each_row_once_in_an_order_of_its_own(small):
    X, y = small
    orders = []

    class Order(Callback):
        def on_epoch_begin(self, net, **kwargs):
            orders.append([])

        def on_batch_begin(self, net, batch, training, **kwargs):
            orders[-1].extend(batch[0][:, 0].tolist())

    fit(X, y, batch_size=50, max_epochs=3, callbacks=[Order()])
    for order in orders:
        assert sorted(order) == sorted(X[:, 0].tolist())
    assert orders[0] != orders[1] != orders[2]


def test_early_stopping_returns_to_the_weights_of_the_best_epoch():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    clf = fit(
        X[:300],
        y[:300],
        X_val=X[300:600],
        y_val=y[300:600],
        hidden_units=64,
        optimizer="adam",
        lr=0.03,
        max_epochs=200,
        early_stopping=True,
        n_iter_no_change=5,
    )
    losses = clf.history_[:, "valid_loss"]
    assert clf.n_iter_ < 200
    assert np.argmin(losses) < len(losses) - 1
    now = log_loss(y[300:600], clf.predict_proba(X[300:600]))
    assert now == pytest.approx(min(losses), rel=1e-5)
    assert clf.history_[int(np.argmin(losses))]["valid_loss_best"]
    # No epoch of the last five improved on the best before it by more than tol.
    assert min(losses[:-5]) - min(losses[-5:]) <= 1e-4


@pytest.mark.parametrize("scoring", ["loss", "neg_log_loss", None])
def test_validation_rows_of_weight_two_count_as_two_and_of_weight_zero_as_none(scoring):
    X, y = load_digits(return_X_y=True)
    X, weight = X / 16, np.random.default_rng(0).integers(0, 3, 300)
    again = np.repeat(np.arange(300, 600), weight)
    clf = TorchBlobClassifier(64, lr=0.5, max_epochs=10, random_state=0)
    clf.set_params(early_stopping=True, scoring=scoring)
    validation = {"X_val": X[300:600], "y_val": y[300:600], "sample_weight_val": weight}
    weighted = clone(clf).fit(X[:300], y[:300], **validation)
    repeated = clf.fit(X[:300], y[:300], X_val=X[again], y_val=y[again])
    names = (
        "valid_loss",
        "valid_acc",
        *(("valid_score",) if scoring != "loss" else ()),
    )
    for row, expected in zip(weighted.history_, repeated.history_, strict=True):
        for name in names:
            assert row[name] == pytest.approx(expected[name], rel=1e-6)
    assert weighted.best_epoch_ == repeated.best_epoch_


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", None])
def test_early_stopping_watches_a_scorer_on_the_rows_held_out(scoring):
    X, y = load_digits(return_X_y=True)
    clf = fit(
        X / 16,
        y,
        optimizer="adam",
        lr=0.03,
        hidden_units=32,
        early_stopping=True,
        scoring=scoring,
        n_iter_no_change=3,
    )
    scores = clf.history_[:, "valid_score"]
    assert clf.n_iter_ < 100
    assert [r["valid_score_best"] for r in clf.history_] == [
        score > max(scores[:i], default=-np.inf) for i, score in enumerate(scores)
    ]
    same = "valid_loss" if scoring == "neg_log_loss" else "valid_acc"
    sign = -1 if scoring == "neg_log_loss" else 1
    np.testing.assert_allclose(sign * np.array(clf.history_[:, same]), scores, 1e-5)


def test_early_stopping_copes_with_classes_of_one_and_two_rows(small):
    X, y = small
    y = np.where(np.arange(120) == 7, 9, np.where(np.arange(120) < 2, 8, y))
    clf = fit(X, y, early_stopping=True, max_epochs=10)
    assert clf.classes_.tolist() == [0, 1, 2, 8, 9]
    assert "valid_loss" in clf.history_[-1]


def test_a_training_that_is_cut_short_gives_a_convergence_warning(blobs):
    X_train, _, y_train, _ = blobs
    with pytest.warns(ConvergenceWarning, match=r"max_epochs=20.*Raise max_epochs"):
        fit(X_train, y_train, max_epochs=20)


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_the_tutorials_run_gives_no_warning(blobs, activation):
    X_train, _, y_train, _ = blobs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = fit(X_train, y_train, activation=activation, random_state=42)
    # Its loss still falls by more than tol an epoch, but far slower than it did.
    assert clf.loss_curve_[-2] - clf.loss_curve_[-1] > 1e-4


@pytest.mark.parametrize(
    "params", [{}, {"class_weight": "balanced"}, {"label_smoothing": 0.1}]
)
def test_a_network_that_has_not_learned_gives_a_convergence_warning(params):
    X, y = load_breast_cancer(return_X_y=True)  # features of up to 4000, not scaled
    with pytest.warns(
        ConvergenceWarning, match=r"has not learned\. .*Scale.*lr"
    ) as seen:
        clf = fit(X, y, **params)
    assert len(np.unique(clf.predict(X))) == 1
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit((X - X.mean(0)) / X.std(0), y, tol=1, **params)


def test_a_loss_that_ends_far_above_that_of_guessing_gives_a_convergence_warning(small):
    with pytest.warns(
        ConvergenceWarning, match=r"has not learned.* Lower lr, now 1000,"
    ):
        fit(*small, lr=1000, activation="tanh")


def test_what_is_judged_is_the_epoch_whose_weights_early_stopping_kept(small):
    steep = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 1 if epoch < 9 else 1e4)
    params = {"activation": "tanh", "early_stopping": True, "callbacks": [steep]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = fit(*small, X_val=small[0], y_val=small[1], **params)
    assert clf.loss_curve_[-1] > 2  # far above that of guessing, 1.1
    assert clf.score(*small) > 0.9


def test_few_epochs_raise_no_doubts(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(*small, max_epochs=10, lr=1e-9)
    with pytest.warns(ConvergenceWarning, match=r"has not learned"):
        fit(*small, max_epochs=11, lr=1e-9)


def test_the_answer_without_features_is_that_to_the_weighted_smoothed_shares(small):
    X, y = np.zeros((120, 1)), small[1]
    weight = np.where(y == 0, 3.0, 1.0)
    params = {"class_weight": {1: 2.0, 0: 1.0, 2: 1.0}, "label_smoothing": 0.2}
    with pytest.warns(ConvergenceWarning, match=r"has not learned") as seen:
        clf = fit(X, y, weight, lr=1.0, hidden_units=(), max_epochs=500, **params)
    loss = f"{clf.loss_curve_[-1]:.4g}"  # the biases have learned the shares
    assert f"loss, {loss}, is not below {loss}, that" in str(seen[0].message)


@pytest.mark.parametrize(
    "name", ["module_", "device_", "history_", "loss_curve_", "n_iter_"]
)
def test_what_a_fit_makes_is_not_there_before(name):
    clf = TorchBlobClassifier()
    with pytest.raises(NotFittedError, match="This TorchBlobClassifier instance is"):
        getattr(clf, name)
    assert not hasattr(clf, name)


def test_prediction_before_fit_is_a_not_fitted_error(small):
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(TorchBlobClassifier(), method)(small[0])
    assert not hasattr(TorchBlobClassifier(), "module_")


def test_warm_start_goes_on_from_the_last_weights_and_history(small):
    clf = fit(*small, max_epochs=10, warm_start=True)
    first_loss = clf.loss_curve_[0]
    module = clf.module_
    before = weights(clf).clone()
    clf.fit(*small)
    assert clf.n_iter_ == 20
    assert clf.loss_curve_[0] == first_loss
    assert torch.equal(torch.cat([p.flatten() for p in module.parameters()]), before)
    whole = fit(*small, max_epochs=20, tol=1)
    torch.testing.assert_close(weights(clf), weights(whole))


class Wrapped(torch.optim.SGD):
    """Keeps its state in a form of its own, with a count in int64."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["count"] = state.get("count", torch.zeros(3, dtype=torch.int64)) + 1
        return super().step(closure)

    def state_dict(self):
        return {"fast": super().state_dict()}


@pytest.mark.parametrize(
    "make_optimizer", [torch.optim.SGD, Wrapped], ids=["plain", "wrapped"]
)
def test_what_an_optimizer_remembers_belongs_to_its_layer(small, make_optimizer):
    X, y = small

    def make(order):
        def optimizer(params, lr, weight_decay):
            return make_optimizer(list(params)[::order], lr=lr, momentum=0.9)

        return optimizer

    clf = TorchBlobClassifier(4, device="cpu", random_state=0, optimizer=make(1))
    clf.partial_fit(X, y, classes=[0, 1, 2])
    same = copy.deepcopy(clf).partial_fit(X, y)
    clf.set_params(optimizer=make(-1)).partial_fit(X, y)
    torch.testing.assert_close(weights(clf), weights(same))
    if make_optimizer is Wrapped:
        states = clf.net_.optimizer_.state.values()
        assert [state["count"].tolist() for state in states] == [[2, 2, 2]] * 6


@pytest.mark.parametrize("callbacks", [None, [Callback()]])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_layers_that_were_frozen_stay_so(small, method, callbacks):
    clf = fit(*small, max_epochs=3, warm_start=True, callbacks=callbacks)
    clf.module_.linear_layers[0].requires_grad_(False)
    before = [layer.weight.clone() for layer in clf.module_.linear_layers]
    getattr(clf, method)(*small)
    after = [layer.weight for layer in clf.module_.linear_layers]
    same = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == [True, False, False]


def test_partial_fit_over_the_whole_data_is_fit(small):
    X, y = small
    params = {"optimizer": "adam", "lr": 0.01, "batch_size": 32, "dropout": 0.1}
    clf = TorchBlobClassifier(device="cpu", random_state=0, **params)
    for _ in range(5):
        clf.partial_fit(X, y, classes=[0, 1, 2])
    assert torch.equal(weights(clf), weights(fit(X, y, max_epochs=5, **params)))
    assert clf.n_iter_ == 5


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("callbacks", [None, [Callback()]])
def test_momentum_may_begin_in_partial_fit(small, optimizer, callbacks):
    clf = fit(*small, max_epochs=3, optimizer=optimizer, lr=0.01, callbacks=callbacks)
    clf.set_params(momentum=0.9).partial_fit(*small)
    state = clf.net_.optimizer_.state.values()
    assert all(entry["momentum_buffer"].any() for entry in state)


def test_partial_fit_learns_classes_that_come_later(small):
    X, y = small
    order = np.argsort(y, kind="stable")
    clf = TorchBlobClassifier(device="cpu", random_state=0)
    for _ in range(100):
        for rows in np.array_split(order, 4):
            clf.partial_fit(X[rows], y[rows], classes=np.array([2, 1, 0]))
    assert clf.classes_.tolist() == [0, 1, 2]
    assert clf.score(X, y) > 0.95


def test_the_module_is_a_blob_model_on_the_device(small):
    clf = fit(*small, max_epochs=10)
    assert isinstance(clf.module_, BlobModel)
    assert clf.device_ == torch.device("cpu")
    logits = clf.module_(torch.from_numpy(small[0]))
    np.testing.assert_allclose(
        logits.detach(), clf.decision_function(small[0]), rtol=1e-12, atol=1e-14
    )


def test_threads_that_fit_and_predict_at_once_do_not_disturb_each_other(small):
    X, y = small

    def fit_and_predict(seed):
        return fit(X, y, max_epochs=5, random_state=seed).predict_proba(X)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fit_and_predict, [0, 1] * 10))
    for seed, proba in zip([0, 1] * 10, together, strict=True):
        np.testing.assert_array_equal(proba, fit_and_predict(seed))
    clf = fit(X, y, max_epochs=5)
    with ThreadPoolExecutor(4) as pool:
        for proba in pool.map(clf.predict_proba, [X] * 50):
            np.testing.assert_array_equal(proba, together[0])


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, torch.from_numpy])
def test_predictions_in_blocks_are_those_in_one_piece(small, monkeypatch, kind):
    X, y = small
    clf = fit(X, y, max_epochs=10)
    methods = [
        clf.predict,
        clf.predict_proba,
        clf.predict_log_proba,
        clf.decision_function,
    ]
    whole = [method(X) for method in methods]
    monkeypatch.setattr(Shape, "block_rows", lambda shape, device: 7)
    for method, expected in zip(methods, whole, strict=True):
        if method == clf.predict:
            np.testing.assert_array_equal(method(kind(X)), expected)
        else:
            np.testing.assert_allclose(method(kind(X)), expected, atol=1e-12)


def test_a_full_batch_of_many_blocks_has_the_gradient_of_one(small):
    X, y = small
    clf = fit(np.tile(X, (500, 1)), np.tile(y, 500), max_epochs=3)
    torch.testing.assert_close(
        weights(clf), weights(fit(X, y, max_epochs=3)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_fit_on_cuda_is_that_on_the_cpu_to_rounding(blobs):
    X_train, X_test, y_train, _ = blobs
    gpu = fit(X_train, y_train, device="cuda")
    cpu = fit(X_train, y_train)
    assert gpu.device_.type == "cuda"
    np.testing.assert_allclose(
        gpu.predict_proba(X_test), cpu.predict_proba(X_test), atol=1e-4
    )
    assert fit(X_train.cuda(), y_train.cuda(), device="auto").score(
        X_test.cuda(), blobs[3].cuda()
    ) == cpu.score(X_test, blobs[3])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_memory_is_free_after_a_fit():
    rng = np.random.default_rng(0)
    X, y = (
        rng.normal(size=(100_000, 20)).astype(np.float32),
        rng.integers(2, size=100_000),
    )
    fit(X[:100], y[:100], device="cuda", max_epochs=1)
    before = torch.cuda.memory_allocated()
    clf = fit(X, y, device="cuda", max_epochs=2)
    assert torch.cuda.memory_allocated() - before < 1_000_000 < X.nbytes
    assert clf.n_iter_ == 2


def squared(layer, args, output):
    return output**2


def without_bias(module):
    layer = nn.utils.skip_init(nn.Linear, 4, 8, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(module.linear_layers[0].weight)
    module.linear_layer_stack[0] = layer


def parametrized(module):
    parametrize.register_parametrization(module.linear_layers[0], "weight", nn.Tanh())


CHANGES = {
    "activation": lambda module: module.linear_layer_stack.__setitem__(1, nn.Tanh()),
    "layer": without_bias,
    "more layers": lambda module: module.linear_layer_stack.append(nn.Softplus()),
    "hook": lambda module: module.linear_layers[0].register_forward_hook(squared),
    "pruned": lambda module: prune.l1_unstructured(
        module.linear_layers[0], "weight", 0.5
    ),
    "parametrized": parametrized,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_predictions_are_what_a_changed_module_says_of_few_rows_or_many(small, change):
    X, y = small
    clf = TorchBlobClassifier(max_epochs=5, n_iter_no_change=5, device="cpu")
    before = clf.fit(X, y).predict_proba(X)
    change(clf.module_)
    after = clf.predict_proba(X)
    assert not np.allclose(after, before)
    many = np.tile(X, (100, 1))
    np.testing.assert_allclose(clf.predict_proba(many)[:120], after, rtol=1e-6)


def test_a_device_that_has_gone_is_an_error_that_says_what_to_do(small, monkeypatch):
    X, y = small
    clf = fit(X, y, lr=0.5)
    expected = clf.predict_proba(X)

    def fail(*args):
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")

    with monkeypatch.context() as patch:
        patch.setattr(predictions, "predict", fail)
        patch.setattr(clf.net_, "device", "cuda:0")
        with pytest.raises(RuntimeError, match="on the device 'cuda:0', which failed:"):
            clf.predict(X)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.parametrize(
    ("device", "error"),
    [
        ("cuda:0", torch.OutOfMemoryError("CUDA out of memory")),
        ("cpu", RuntimeError("the shapes do not fit")),
    ],
)
def test_an_error_that_no_lost_device_explains_passes(
    small, monkeypatch, device, error
):
    clf = fit(*small, lr=0.5)

    def fail(*args):
        raise error

    monkeypatch.setattr(predictions, "predict", fail)
    monkeypatch.setattr(clf.net_, "device", device)
    with pytest.raises(RuntimeError) as caught:
        clf.predict(small[0])
    assert caught.value is error


def test_the_net_can_be_trained_on_plain_arrays(small):
    X, y = small
    clf = fit(X, y, max_epochs=4)
    clf.net_.partial_fit(X, y)
    clf.net_.partial_fit(torch.from_numpy(X), torch.from_numpy(y), epochs=2)
    expected = fit(X, y, max_epochs=10)
    torch.testing.assert_close(weights(clf), weights(expected), rtol=1e-12, atol=1e-14)
    assert clf.loss_curve_ == pytest.approx(expected.loss_curve_)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, sparse.csr_array])
def test_the_net_predicts_as_the_classifier_does(small, kind):
    X, y = small
    clf = fit(X, y, max_epochs=10)
    expected = clf.predict_proba(X)
    np.testing.assert_allclose(clf.net_.predict_proba(kind(X)), expected, rtol=1e-12)
    logits = clf.net_.forward(kind(X))
    np.testing.assert_allclose(logits, clf.decision_function(X), rtol=1e-12)


def test_the_net_leaves_data_sets_and_dropout_to_skorch(small):
    X, y = small
    clf = fit(X, y, max_epochs=10, dropout=0.5)
    rows, expected = torch.from_numpy(X), clf.decision_function(X)
    with torch.random.fork_rng():  # a loader of data draws numbers too
        logits = clf.net_.forward(Dataset(rows))
        dropped = clf.net_.forward(rows, training=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    assert not np.allclose(dropped.detach(), expected)
