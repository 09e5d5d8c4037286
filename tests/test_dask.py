"""Searches on a Dask cluster: the same results, and what a worker holds is a stack."""

import sys
import threading
from types import ModuleType

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score

from torchblob import TorchBlobClassifier
from torchblob.training import _dask, _layout

distributed = pytest.importorskip("distributed")

N_THREADS = 6
GRID = {"hidden_units": [2, 4], "lr": [0.03, 0.1, 0.3]}

# What tasks that run in this process wait for: pickled by reference.
together = threading.Barrier(N_THREADS)
fitted = threading.Event()


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 8}
    return TorchBlobClassifier(**defaults | params)


def fit_together(clf, X, y):
    """Fit when all threads of the worker have come this far."""
    together.wait(60)
    return clf.fit(X, y)


def wait_until_fitted():
    return fitted.wait(60)


def fit_and_tell(clf, X, y):
    clf.fit(X, y)
    fitted.set()


def accuracy_after_another_fit(clf, X, y):
    make().fit(X, y)
    return clf.score(X, y)


async def fit_in_event_loop(clf, X, y):
    return clf.fit(X, y)


def cluster(n_workers, **params):
    return distributed.LocalCluster(n_workers, dashboard_address=":0", **params)


@pytest.fixture
def client():
    """Return the client of a worker in this process, whose stacks can be counted."""
    with (
        cluster(1, threads_per_worker=N_THREADS, processes=False) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@pytest.fixture
def patient(monkeypatch):
    """Let fits wait for those of all threads, however busy this machine is."""
    for name in ("PATIENCE", "STEP"):
        monkeypatch.setattr(_dask, name, 60.0)


def test_a_search_on_processes_finds_what_it_finds_without(small):
    def search():
        return GridSearchCV(make(), GRID).fit(*small)

    alone = search()
    with (
        cluster(2, threads_per_worker=4) as workers,
        distributed.Client(workers),
        joblib.parallel_config(backend="dask"),
    ):
        on_workers = search()
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        assert np.array_equal(on_workers.cv_results_[key], alone.cv_results_[key])
    assert np.array_equal(
        on_workers.predict_proba(small[0]), alone.predict_proba(small[0])
    )


def test_fits_that_a_worker_holds_at_once_train_as_a_stack(
    small, client, stacks, patient
):
    rates = np.geomspace(0.01, 0.3, N_THREADS)
    futures = [client.submit(fit_together, make(lr=lr), *small) for lr in rates]
    found = client.gather(futures)
    assert stacks == [N_THREADS]
    for clf, lr in zip(found, rates, strict=True):
        alone = make(lr=lr).fit(*small)
        np.testing.assert_allclose(
            clf.predict_proba(small[0]), alone.predict_proba(small[0]), rtol=1e-5
        )


def test_a_search_trains_in_stacks(small, client, stacks):
    with joblib.parallel_config(backend="dask"):
        GridSearchCV(make(), GRID, refit=False).fit(*small)
    assert sum(stacks) == 30
    assert len(stacks) < 30


def test_a_search_within_a_search_ends(small, client):
    search = GridSearchCV(make(), {"lr": [0.1, 0.3]}, cv=3)
    with joblib.parallel_config(backend="dask"):
        on_workers = cross_val_score(search, *small, cv=3)
    assert np.array_equal(on_workers, cross_val_score(search, *small, cv=3))


def test_a_fit_does_not_wait_for_tasks_that_train_no_network(small, client):
    fitted.clear()
    waiting = client.submit(wait_until_fitted, pure=False)
    client.submit(fit_and_tell, make(), *small).result()
    assert waiting.result()


def test_a_fit_in_the_event_loop_of_a_worker_does_not_wait(small, client, stacks):
    client.submit(fit_in_event_loop, make(), *small).result()
    assert stacks == [1]


def test_a_fit_that_fails_at_a_worker_is_that_fits_alone(small, client):
    rates = [0.1, 1e30] + [0.2] * (N_THREADS - 2)
    futures = [
        client.submit(fit_together, make(lr=lr), *small, pure=False) for lr in rates
    ]
    errors = [future.exception() for future in futures]
    assert "lr" in str(errors.pop(1))
    assert errors == [None] * (N_THREADS - 1)


def test_a_stack_that_fails_at_a_worker_raises_in_each_of_its_tasks(
    small, client, monkeypatch
):
    def fail(members):
        raise MemoryError("no memory is left")

    monkeypatch.setattr(_dask, "train", fail)
    futures = [
        client.submit(fit_together, make(lr=0.1 * (1 + k)), *small)
        for k in range(N_THREADS)
    ]
    for future in futures:
        with pytest.raises(MemoryError, match="no memory"):
            future.result()


def test_memory_bounds_the_stack_of_a_worker(small, client, stacks, monkeypatch):
    monkeypatch.setattr(_dask, "free_bytes", lambda device: 0)
    futures = [
        client.submit(fit_together, make(lr=0.1 * (1 + k)), *small)
        for k in range(N_THREADS)
    ]
    client.gather(futures)
    assert stacks == [1] * N_THREADS


def test_fits_that_begin_one_after_another_meet(small, client, stacks, monkeypatch):
    for name in ("SETTLE", "PATIENCE", "STEP"):
        monkeypatch.setattr(_dask, name, 1.0)
    rates = [0.1, 0.2, 0.3]
    client.gather([client.submit(make(lr=lr).fit, *small) for lr in rates])
    assert stacks == [3]


def test_networks_that_share_no_stack_train_in_their_own_at_a_worker(
    small, client, stacks, patient
):
    widths = [2, 4] * (N_THREADS // 2)
    futures = [
        client.submit(fit_together, make(hidden_units=width), *small, pure=False)
        for width in widths
    ]
    client.gather(futures)
    assert stacks == [N_THREADS // 2] * 2


def test_networks_that_fill_a_core_train_in_the_threads_of_their_tasks(
    small, client, stacks, monkeypatch
):
    monkeypatch.setattr(_layout, "WORK_OF_A_THREAD", 1)
    futures = [
        client.submit(fit_together, make(lr=0.1 * (1 + k)), *small)
        for k in range(N_THREADS)
    ]
    client.gather(futures)
    assert stacks == [1] * N_THREADS


def test_a_scorer_may_fit_at_a_worker(small, client):
    clf = make(max_epochs=2, early_stopping=True, scoring=accuracy_after_another_fit)
    future = client.submit(clf.fit, *small)
    assert len(future.result(timeout=30).history_) == 2


def test_a_fit_that_fails_before_its_training_is_not_trained_with_the_next(
    small, client, stacks, monkeypatch
):
    def fail(device):
        raise OSError("the device does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(_dask, "free_bytes", fail)
        with pytest.raises(OSError, match="does not answer"):
            client.submit(make().fit, *small, pure=False).result()
    client.submit(make().fit, *small, pure=False).result()
    assert stacks == [1]


def test_another_module_of_the_name_of_dask_does_no_harm(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed.worker", ModuleType("worker"))
    assert make().fit(*small).n_iter_ == 8
