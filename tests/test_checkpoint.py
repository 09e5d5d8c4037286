"""Fits whose process dies go on where they were, and end as if it had not."""

import errno
import math
import os
import signal
import time

import numpy as np
import pytest
import torch
import workers
from helpers import weights
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, LRScheduler

import torchblob
from torchblob import TorchBlobClassifier, _checkpoint, _problem


class Died(BaseException):
    """What happened to the process."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


@pytest.fixture
def at_each_epoch(monkeypatch):
    """Let the checkpoint be written after each epoch."""
    monkeypatch.setattr(_checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(_checkpoint, "SHARE", math.inf)


@pytest.fixture
def die_after(at_each_epoch, monkeypatch):
    """Return a function that lets fits die when they have written so many times."""

    def die_after(n_writes):
        write, writes = _checkpoint.write, []

        def write_and_die(model, path):
            write(model, path)
            writes.append(model)
            if len(writes) == n_writes:
                monkeypatch.setattr(_checkpoint, "write", write)
                raise Died

        monkeypatch.setattr(_checkpoint, "write", write_and_die)

    return die_after


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 12}
    # No epochs of which a warning could say that they were too few.
    return TorchBlobClassifier(**defaults | {"n_iter_no_change": 500} | params)


def nadam(params, lr, weight_decay):
    return torch.optim.NAdam(params, lr, weight_decay=weight_decay)


class Counting(torch.optim.SGD):
    """Remembers what no optimizer of torch's does."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["counts"] = state.get("counts", torch.zeros(3, dtype=int)) + 1
            state["rate"] = 0.9 * state.get("rate", 0.1)
            self.param_groups[0]["lr"] = state["rate"]
        return super().step(closure)


def counting(params, lr, weight_decay):
    return Counting(params, lr, weight_decay=weight_decay)


class Accelerating(torch.optim.SGD):
    """Raises its momentum, a setting, with each step."""

    def step(self, closure=None):
        self.param_groups[0]["momentum"] += 0.05
        return super().step(closure)


def accelerating(params, lr, weight_decay):
    return Accelerating(params, lr, weight_decay=weight_decay)


FITS = {
    "all rows": {},
    "batches": {"batch_size": 32, "momentum": 0.9, "dropout": 0.2},
    "adam": {"optimizer": "adam", "lr": 0.03, "batch_size": 50},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.5},
    "schedule": {"lr_schedule": "cosine", "batch_size": 50, "momentum": 0.5},
    "early stopping": {
        "early_stopping": True,
        "n_iter_no_change": 3,
        "lr": 3.0,
        "tol": 0.05,
    },
    "score": {"early_stopping": True, "scoring": "accuracy", "batch_size": 32},
    "own optimizer": {"optimizer": nadam, "lr": 0.01, "lr_schedule": "linear"},
    "memory of its own": {"optimizer": counting},
    "settings of its own": {"optimizer": accelerating},
    "float32": {"dtype": "float32", "class_weight": "balanced"},
}


@pytest.mark.parametrize("params", FITS.values(), ids=FITS)
@pytest.mark.parametrize("n_writes", [1, 5])
def test_a_fit_that_died_goes_on_and_ends_the_same(
    small, path, params, n_writes, die_after
):
    expected = make(**params).fit(*small)
    die_after(n_writes)
    with pytest.raises(Died):
        make(**params).fit(*small, checkpoint=path)
    clf = make(**params).fit(*small, checkpoint=path)
    assert torch.equal(weights(clf), weights(expected))
    assert clf.loss_curve_ == expected.loss_curve_
    assert clf.best_epoch_ == expected.best_epoch_
    assert clf.history_[:, "epoch"] == list(range(1, clf.n_iter_ + 1))


def epochs_in(path):
    """Return how many epochs a checkpoint has, which may not be there yet."""
    return torchblob.load(path, "cpu").n_iter_ if path.exists() else 0


def test_a_fit_killed_twenty_times_ends_the_same(small, path, tmp_path, processes):
    params = {"batch_size": 16, "momentum": 0.9, "dropout": 0.1, "max_epochs": 800}
    expected = make(**params).fit(*small)
    result = tmp_path / "result.safetensors"
    rng = np.random.default_rng(0)
    for n_killed in range(21):
        process = processes.Process(
            target=workers.fit_and_save, args=(make(**params), small, path, result)
        )
        process.start()
        if n_killed < 20:
            enough = epochs_in(path) + rng.integers(1, 10)
            while epochs_in(path) < enough:
                assert process.is_alive()
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
        process.join(60)
        assert result.exists() == (n_killed == 20)
    assert torch.equal(weights(torchblob.load(result, "cpu")), weights(expected))


def test_a_fit_that_was_over_returns_its_result_at_once(small, path, stacks):
    params = {"early_stopping": True, "random_state": None}
    first = make(**params).fit(*small, checkpoint=path)
    stacks.clear()
    again = make(**params).fit(*small, checkpoint=path)
    assert not stacks
    assert torch.equal(weights(again), weights(first))
    assert again.best_epoch_ == first.best_epoch_
    assert again.history_.to_list() == first.history_.to_list()


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}])
@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_a_fit_with_a_seed_of_its_own_goes_on_with_it(
    small, path, random_state, params, die_after
):
    params = {"batch_size": 32, "random_state": random_state, **params}
    die_after(4)
    with pytest.raises(Died):
        make(**params).fit(*small, checkpoint=path)
    seed = torchblob._model_file.read(path).header["net"]["params"]["seed"]
    clf = make(**params).fit(*small, checkpoint=path)
    expected = make(**params).set_params(random_state=seed).fit(*small)
    assert torch.equal(weights(clf), weights(expected))


def test_a_fit_with_a_warm_start_goes_on(small, path, tmp_path, die_after):
    X, y = small
    before = make(warm_start=True, batch_size=32).fit(X, y)
    torchblob.save(before, tmp_path / "before")
    expected = before.fit(X, y)
    die_after(5)
    with pytest.raises(Died):
        torchblob.load(tmp_path / "before", "cpu").fit(X, y, checkpoint=path)
    clf = torchblob.load(tmp_path / "before", "cpu").fit(X, y, checkpoint=path)
    assert torch.equal(weights(clf), weights(expected))
    assert clf.loss_curve_ == expected.loss_curve_
    with pytest.raises(ValueError, match="of a fit that went on from another one"):
        clf.fit(X, y, checkpoint=path)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, torch.from_numpy])
def test_data_of_any_kind_and_validation_data_do(small, path, kind, die_after):
    X, y = small
    data = {"X_val": kind(X[:20]), "y_val": y[:20]}
    die_after(3)
    with pytest.raises(Died):
        make().fit(kind(X), y, **data, checkpoint=path)
    clf = make().fit(kind(X), y, **data, checkpoint=path)
    expected = make().fit(kind(X), y, **data)
    assert clf.history_[:, "valid_loss"] == expected.history_[:, "valid_loss"]
    data["X_val"] = kind(X[20:40])
    with pytest.raises(ValueError, match="of a fit on other data"):
        make().fit(kind(X), y, **data, checkpoint=path)


class InterruptedSGD(torch.optim.SGD):
    """Gets a Ctrl-C in its sixth step of all."""

    steps = 0

    def step(self, closure=None):
        InterruptedSGD.steps += 1
        if InterruptedSGD.steps == 6:
            signal.raise_signal(signal.SIGINT)
        return super().step(closure)


def interrupted(params, lr, weight_decay):
    return InterruptedSGD(params, lr, weight_decay=weight_decay)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_leaves_a_model_and_the_fit_goes_on_later(small, path, at_each_epoch):
    X, y = small
    clf = make(optimizer=interrupted, batch_size=60)
    with pytest.warns(UserWarning, match="was interrupted; the model is fitted"):
        clf.fit(X, y, checkpoint=path)
    assert clf.n_iter_ == 2
    assert clf.predict_proba(X).shape == (120, 3)
    clf.fit(X, y, checkpoint=path)
    expected = make(optimizer=interrupted, batch_size=60).fit(X, y)
    assert torch.equal(weights(clf), weights(expected))


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_while_the_result_is_written_is_told(small, path, monkeypatch):
    write = _checkpoint.write

    def interrupted(model, path):
        if model.header["training"]["is_over"]:
            signal.raise_signal(signal.SIGINT)
        write(model, path)

    monkeypatch.setattr(_checkpoint, "write", interrupted)
    with pytest.warns(UserWarning, match="fit was interrupted; the model is fitted as"):
        clf = make().fit(*small, checkpoint=path)
    assert clf.n_iter_ == 12
    monkeypatch.setattr(_checkpoint, "write", write)
    again = make().fit(*small, checkpoint=path)
    assert torch.equal(weights(again), weights(clf))


def fused(params, lr, weight_decay):
    return torch.optim.Adagrad(params, lr, fused=True)


def test_what_an_own_optimizer_would_write_beyond_is_an_error(small, path, die_after):
    die_after(4)
    with pytest.raises(Died):
        make(optimizer=fused).fit(*small, checkpoint=path)
    kept = _checkpoint.read(path)
    kept.tensors["optimizer.0.sum"] = torch.zeros((), dtype=torch.float64)
    _checkpoint.write(kept, path)
    with pytest.raises(
        ValueError, match=r"optimizer\.0\.sum must be of shape \(8, 4\)"
    ):
        make(optimizer=fused).fit(*small, checkpoint=path)


def test_callbacks_begin_anew_with_a_warning(small, path, die_after):
    die_after(4)
    with pytest.raises(Died):
        make(callbacks=[Callback()]).fit(*small, checkpoint=path)
    with pytest.warns(UserWarning, match="goes on after epoch 3; its callbacks"):
        clf = make(callbacks=[Callback()]).fit(*small, checkpoint=path)
    assert torch.equal(weights(clf), weights(make().fit(*small)))


def test_a_checkpoint_is_the_classifier_as_it_is(small, path, die_after):
    params = {"early_stopping": True}
    die_after(6)
    with pytest.raises(Died):
        make(**params).fit(*small, checkpoint=path)
    clf = torchblob.load(path, "cpu")
    expected = make(**params, max_epochs=5).fit(*small)
    assert clf.loss_curve_ == expected.loss_curve_
    assert clf.best_epoch_ == expected.best_epoch_
    assert clf.predict(small[0]).shape == (120,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.2}, "fit with lr=0.1, now 0.2"),
        ({"max_epochs": 20}, "fit with max_epochs=12, now 20"),
        ({"hidden_units": (3, 2)}, r"fit with hidden_units=8, now \(3, 2\)"),
        ({"optimizer": nadam}, "fit with optimizer='sgd', now nadam"),
        ({"random_state": 1}, "fit with random_state=0, now 1"),
    ],
)
def test_a_checkpoint_of_another_fit_is_an_error_and_stays(
    small, path, changes, message
):
    make().fit(*small, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message + r".*delete the file to start anew"):
        make(**changes).fit(*small, checkpoint=path)
    assert path.read_bytes() == before


def test_a_checkpoint_of_other_data_is_an_error(small, path):
    X, y = small
    make().fit(X, y, checkpoint=path)
    for data in [
        (X + 1, y),
        (X[1:], y[1:]),
        (X, np.roll(y, 1)),
        (X, y, np.arange(120)),
    ]:
        with pytest.raises(ValueError, match="fit on other data"):
            make().fit(*data, checkpoint=path)
    with pytest.raises(ValueError, match="fit with other classes"):
        make().fit(X, y.astype(str), checkpoint=path)


def test_a_warm_start_from_another_model_is_an_error(small, path):
    make(random_state=None, warm_start=True).fit(*small).fit(*small, checkpoint=path)
    other = make(random_state=None, warm_start=True).fit(*small)
    with pytest.raises(ValueError, match="a fit that went on from another one"):
        other.fit(*small, checkpoint=path)


def test_a_fit_goes_on_in_its_precision_where_another_would_be_the_default(
    small, path, die_after, monkeypatch
):
    expected = make().fit(*small)
    die_after(3)
    with pytest.raises(Died):
        make().fit(*small, checkpoint=path)
    # As on a GPU, where the default is float32 for all data.
    monkeypatch.setattr(_problem, "is_float64", lambda X: False)
    clf = make().fit(*small, checkpoint=path)
    assert torch.equal(weights(clf), weights(expected))


def test_a_fit_goes_on_where_its_features_stay_on_the_host(
    small, path, die_after, lack_room
):
    expected = make(batch_size=50).fit(*small)
    die_after(3)
    with pytest.raises(Died):
        make(batch_size=50).fit(*small, checkpoint=path)
    lack_room([0])
    with pytest.warns(RuntimeWarning, match="They stay in that of the host"):
        clf = make(batch_size=50).fit(*small, checkpoint=path)
    assert torch.equal(weights(clf), weights(expected))


def test_a_schedule_by_a_callback_goes_on_where_it_was(small, path, die_after):
    def one_cycle():
        policy = torch.optim.lr_scheduler.OneCycleLR
        return LRScheduler(policy, max_lr=0.5, total_steps=12)

    expected = make(callbacks=[one_cycle()]).fit(*small)
    die_after(5)
    with pytest.raises(Died):
        make(callbacks=[one_cycle()]).fit(*small, checkpoint=path)
    with pytest.warns(UserWarning, match="goes on after epoch 4; its callbacks"):
        clf = make(callbacks=[one_cycle()]).fit(*small, checkpoint=path)
    rates = [history[:, "event_lr"] for history in (clf.history_, expected.history_)]
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    "params",
    [
        {"callbacks": [Callback()]},
        {"optimizer": accelerating},
        {"scoring": lambda clf, X, y: 0.5, "early_stopping": True},
        {"random_state": np.random.RandomState(0)},
    ],
    ids=["callbacks", "optimizer", "scoring", "random_state"],
)
def test_a_checkpoint_is_loaded_without_the_code_of_its_fit(small, path, params):
    clf = make(**params).fit(*small, checkpoint=path)
    same = torchblob.load(path, "cpu")
    np.testing.assert_array_equal(
        same.predict_proba(small[0]), clf.predict_proba(small[0])
    )
    name = next(iter(params))
    assert getattr(same, name) == getattr(TorchBlobClassifier(), name)
    assert same.max_epochs == 12
    same.partial_fit(*small)


def test_what_may_change_when_a_fit_goes_on(small, path, die_after, capsys):
    die_after(3)
    with pytest.raises(Died):
        make().fit(*small, checkpoint=path)
    clf = make(verbose=1, device="auto").fit(*small, checkpoint=path)
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert clf.n_iter_ == 12


def test_a_file_that_is_no_checkpoint_is_an_error_and_stays(small, path):
    clf = make().fit(*small)
    before = clf.predict_proba(small[0])
    torchblob.save(clf, path)
    with pytest.raises(ValueError, match="a model that was saved, which it would repl"):
        clf.fit(*small, checkpoint=path)
    assert torchblob.load(path).n_iter_ == 12
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"can't go on from the checkpoint .*fit\.ch"):
        clf.fit(*small, checkpoint=path)
    np.testing.assert_array_equal(clf.predict_proba(small[0]), before)


def with_another_seed(header, tensors):
    header["net"]["params"]["seed"] = 2**63


def without_history(header, tensors):
    header["memory"]["history"] = []


def with_all_epochs(header, tensors):
    header["training"]["is_over"] = False


def with_a_best_loss_of_another_kind(header, tensors):
    header["training"]["stopping"]["best"] = 10**400


def with_a_best_epoch_to_come(header, tensors):
    header["training"]["stopping"]["best_epoch"] = 500


def with_other_epochs(header, tensors):
    header["training"]["stopping"]["n_epochs"] = 505


def without_a_layer(header, tensors):
    del tensors["layer.0.weight"]


def without_best_weights(header, tensors):
    for name in [name for name in tensors if name.startswith("best.")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_another_seed, r"'seed' must be in the range \[0, 2\*\*63\), not 922337"),
        (without_history, "its history has -12 of 12 epochs of the fit"),
        (with_all_epochs, "its history has 12 of 12 epochs of the fit"),
        (with_a_best_loss_of_another_kind, "'best' must be float, not 1000000000000"),
        (with_a_best_epoch_to_come, "epoch 500 is not one of the training"),
        (with_other_epochs, "505 of 12 epochs count"),
        (without_a_layer, r"layer\.0\.weight must be of shape .*, not missing"),
        (without_best_weights, "the best weights are not of the network's shape"),
    ],
)
def test_a_checkpoint_that_lacks_what_the_fit_needs_is_an_error(
    small, path, spoil, message
):
    clf = make(early_stopping=True).fit(*small)
    history = clf.history_.to_list()
    clf.set_params(warm_start=True).fit(*small, checkpoint=path)
    kept = _checkpoint.read(path)
    spoil(*kept)
    _checkpoint.write(kept, path)
    before = make(early_stopping=True).fit(*small)
    before.set_params(warm_start=True)
    with pytest.raises(ValueError, match=message + r".*delete the file to start"):
        before.fit(*small, checkpoint=path)
    assert before.history_.to_list() == history


def test_where_no_checkpoint_can_be_written_the_fit_does_not_begin(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="none/fit"):
        make().fit(*small, checkpoint=tmp_path / "none" / "fit")
    with pytest.raises(ValueError, match="checkpoint, and the classes are of float128"):
        make().fit(small[0], small[1].astype("g"), checkpoint=tmp_path / "fit")


def test_a_write_that_fails_is_not_tried_again_at_once(small, path, monkeypatch):
    write, writes = _checkpoint.write, []

    def fill_the_disk(model, path):
        writes.append(path)
        if len(writes) > 1:
            time.sleep(0.01)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(model, path)

    monkeypatch.setattr(_checkpoint, "write", fill_the_disk)
    monkeypatch.setattr(_checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(_checkpoint, "SHARE", 1e-9)
    with pytest.warns(RuntimeWarning, match="trains on without: .*No space"):
        make().fit(*small, checkpoint=path)
    assert len(writes) == 2  # at the start and at the end


def test_a_full_disk_is_a_warning_and_the_fit_goes_on(
    small, path, at_each_epoch, monkeypatch
):
    write, writes = _checkpoint.write, []

    def fill_the_disk(model, path):
        writes.append(path)
        if len(writes) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(model, path)

    monkeypatch.setattr(_checkpoint, "write", fill_the_disk)
    with pytest.warns(RuntimeWarning, match="trains on without: .*No space") as warned:
        clf = make().fit(*small, checkpoint=path)
    assert len(warned) == 1
    expected = make().fit(*small)
    assert torch.equal(weights(clf), weights(expected))
    assert torchblob.load(path, "cpu").n_iter_ == 3


def test_writes_take_little_of_the_time(small, path, monkeypatch):
    writes = []
    monkeypatch.setattr(_checkpoint, "write", lambda model, path: writes.append(path))
    make(max_epochs=200).fit(*small, checkpoint=path)
    assert len(writes) == 2  # at the start and at the end, less than a second later


def test_it_goes_through_a_pipeline(small, path, stacks):
    model = make_pipeline(StandardScaler(), make())
    model.fit(*small, torchblobclassifier__checkpoint=path)
    stacks.clear()
    model.fit(*small, torchblobclassifier__checkpoint=path)
    assert not stacks
