"""Threads that share the work: they change nothing, and nothing is left of them."""

import threading

import numpy as np
import pytest
import torch
from helpers import weights
from scipy import sparse
from skorch.callbacks import Callback

import torchblob.training._predictions as predictions
import torchblob.training._threads as threads_module
from torchblob import TorchBlobClassifier
from torchblob.training._layout import Shape
from torchblob.training._threads import Crew, Threads

CPU = torch.device("cpu")


@pytest.fixture
def four_threads(set_threads):
    """Let torch have four threads."""
    set_threads(4)


@pytest.fixture
def eager(monkeypatch, four_threads):
    """Make threads share even the smallest work, in blocks of 16 rows."""
    monkeypatch.setattr(threads_module, "WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(Shape, "block_rows", lambda shape, device: 16)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def fit(X, y, X_val=None, y_val=None, **params):
    params = {"device": "cpu", "random_state": 0, "max_epochs": 5} | params
    return TorchBlobClassifier(**params).fit(X, y, X_val=X_val, y_val=y_val)


class Watch(Callback):
    """Note in each epoch how many threads there are, of Python's and of torch's."""

    def __init__(self):
        self.seen = []

    def on_epoch_begin(self, net, **kwargs):
        self.seen.append((threading.active_count(), torch.get_num_threads()))


def test_a_crew_works_side_by_side_and_returns_in_order():
    meeting = threading.Barrier(3, timeout=60)

    def task(number):
        meeting.wait()  # nobody gets on before all three are here
        return number, threading.get_ident()

    with Crew(Threads(3, 1)) as crew:
        for _ in range(5):
            results = crew.run([lambda k=k: task(k) for k in range(3)])
            assert [number for number, _ in results] == [0, 1, 2]
            assert results[0][1] == threading.get_ident()
            assert len({thread for _, thread in results}) == 3
        assert crew.run([lambda: "alone"]) == ["alone"]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_is_raised_when_all_have_ended(failing):
    ended = []

    def task(number):
        if number == failing:
            raise ZeroDivisionError(number)
        ended.append(number)

    with Crew(Threads(2, 1)) as crew:
        with pytest.raises(ZeroDivisionError, match=str(failing)):
            crew.run([lambda: task(0), lambda: task(1)])
        assert ended == [1 - failing]
        assert crew.run([lambda: 1, lambda: 2]) == [1, 2]


@pytest.mark.usefixtures("four_threads")
def test_torch_gets_its_threads_back():
    with Crew(Threads(2, 1)) as crew:
        assert crew.run([torch.get_num_threads] * 2) == [1, 1]
    assert torch.get_num_threads() == 4
    with Crew(Threads(1, 2)):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_the_number_of_threads_grows_with_the_work():
    crew, inner = (
        threads_module.WORK_OF_A_THREAD,
        threads_module.WORK_OF_A_TORCH_THREAD,
    )
    assert Threads.of(0, CPU, splits=True) == (1, 1)
    assert Threads.of(2.5 * inner, CPU, splits=True) == (1, 2)
    assert Threads.of(2.5 * inner, CPU, splits=False) == (1, 1)
    assert Threads.of(3.5 * crew, CPU, splits=False) == (3, 1)
    assert Threads.of(1e12, CPU, splits=True) == (4, 1)
    assert Threads.of(1e12, torch.device("cuda"), splits=True) == (1, 1)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("repeats", "crew"), [(1, 1), (40, 4)])
def test_a_small_fit_computes_with_one_thread_and_a_large_one_with_all(
    small, repeats, crew
):
    X, y = np.tile(small[0], (repeats, 1)), np.tile(small[1], repeats)
    before, watch = threading.active_count(), Watch()
    fit(X, y, hidden_units=64, max_epochs=2, callbacks=[watch])
    assert watch.seen == [(before - 1 + crew, 1)] * 2


@pytest.mark.usefixtures("four_threads")
def test_a_fit_that_fails_gives_the_threads_back(small):
    with pytest.raises(ValueError, match="training loss became"):
        fit(*small, lr=1e30)
    assert torch.get_num_threads() == 4


SHARED = {
    "full batch": {},
    "momentum": {"momentum": 0.9},
    "batches": {"optimizer": "adam", "lr": 0.01, "batch_size": 50},
    "batches smaller than the crew": {"batch_size": 3, "lr": 0.01},
    "dropout": {"dropout": 0.4},
    "dropout in batches": {"dropout": 0.4, "batch_size": 50},
    "early stopping": {"early_stopping": True},
    "a callable": {"optimizer": lambda p, **kw: torch.optim.SGD(p, **kw)},
    "callbacks": {"callbacks": [Callback()], "batch_size": 50},
}


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("params", SHARED.values(), ids=SHARED)
def test_a_fit_by_many_threads_is_that_by_one(small, eager, set_threads, params, kind):
    X, y = kind(np.where(np.abs(small[0]) > 0.3, small[0], 0)), small[1]
    validation = {} if "early_stopping" in params else {"X_val": X, "y_val": y}
    before, watch = threading.active_count(), Watch()
    fit(X, y, callbacks=[watch], max_epochs=1)
    assert watch.seen == [(before + 3, 1)]  # or else this would compare nothing
    shared = fit(X, y, **validation, **params)
    set_threads(1)
    alone = fit(X, y, **validation, **params)
    torch.testing.assert_close(weights(shared), weights(alone), rtol=1e-9, atol=1e-12)
    for row, expected in zip(shared.history_, alone.history_, strict=True):
        for name in ("train_loss", "train_acc", "valid_loss", "valid_acc"):
            assert row[name] == pytest.approx(expected[name], rel=1e-9)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, torch.from_numpy])
def test_predictions_by_many_threads_are_those_by_one(
    small, eager, set_threads, monkeypatch, kind
):
    monkeypatch.setattr(predictions, "FEW_FLOATS", 0)
    X, y = small
    clf = fit(X, y)
    shared = clf.predict_proba(kind(X)), clf.predict(kind(X))
    set_threads(1)
    alone = clf.predict_proba(kind(X)), clf.predict(kind(X))
    np.testing.assert_allclose(shared[0], alone[0], atol=1e-12)
    np.testing.assert_array_equal(shared[1], alone[1])


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("rows", [60, 80])
def test_callbacks_get_logits_of_as_many_rows_as_a_thread_takes(
    small, monkeypatch, rows
):
    monkeypatch.setattr(threads_module, "WORK_OF_A_THREAD", 1)
    X, y = small
    params = {"batch_size": rows, "max_epochs": 2, "callbacks": [Callback()]}
    n_valid = rows // 4
    clf = fit(X, y, X[:n_valid], y[:n_valid], **params)
    torch.testing.assert_close(
        weights(clf), weights(fit(X, y, **params | {"callbacks": None}))
    )


@pytest.mark.usefixtures("four_threads")
def test_torch_gets_its_threads_back_when_the_end_is_interrupted_too(monkeypatch):
    join = threads_module._Worker.join

    def interrupted(worker):
        join(worker)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads_module._Worker, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), Crew(Threads(2, 1)):
        pass
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_a_crew_that_can_not_be_complete_goes_home(monkeypatch):
    start = threads_module._Worker.start
    started = []

    def fail_at_the_second(worker):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(worker)
        start(worker)

    monkeypatch.setattr(threads_module._Worker, "start", fail_at_the_second)
    with pytest.raises(RuntimeError, match="can't start"), Crew(Threads(3, 1)):
        pass
    assert len(started) == 1
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_all_threads_are_sent_home_before_one_is_waited_for(monkeypatch):
    join = threads_module._Worker.join

    def interrupted(worker):
        raise KeyboardInterrupt

    monkeypatch.setattr(threads_module._Worker, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), Crew(Threads(4, 1)) as crew:
        pass
    for worker in crew._workers:
        join(worker)
