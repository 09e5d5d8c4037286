"""Searches whose fits train together: the same results, and nothing is left behind."""

import gc
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from helpers import ctrl_c_after
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.ensemble import (
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from torchblob import TorchBlobClassifier
from torchblob.training import _rendezvous
from torchblob.training._jobs import Job

SECONDS = 60


@pytest.fixture(autouse=True)
def _watchdog():
    """End a test that hangs, by what no code takes for an error of its own."""

    def give_up(*args):
        pytest.fail(f"the test took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    threads, filters = set(threading.enumerate()), warnings.filters
    contents, show = list(warnings.filters), warnings.showwarning
    frozen = gc.get_freeze_count()
    yield
    assert gc.get_freeze_count() == frozen
    assert set(threading.enumerate()) <= threads
    assert warnings.filters is filters
    assert warnings.filters == contents
    assert warnings.showwarning is show


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(120, centers=3, n_features=4, cluster_std=4.0, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 8}
    return TorchBlobClassifier(**defaults | params)


def together(**params):
    return joblib.parallel_config(backend="torchblob", **params)


not_finite = pytest.mark.filterwarnings("ignore:One or more of the test scores")

GRID = {"hidden_units": [2, 4], "lr": [0.03, 0.1, 0.3]}


class OnePixel(ClassifierMixin, BaseEstimator):
    """A classifier that trains no network."""

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.most_ = self.classes_[counts.argmax()]
        return self

    def predict(self, X):
        return np.full(len(X), self.most_)


def outcome_of(found):
    """Return what a search found, but not how long it took."""
    if not isinstance(found, dict):
        return found
    skipped = {"params", "param_callbacks"}
    return {k: v for k, v in found.items() if "time" not in k and k not in skipped}


def search(estimator, X, y):
    return estimator.fit(X, y).cv_results_


def proba(estimator, X, y):
    return estimator.fit(X, y).predict_proba(X)


USES = {
    "grid": lambda X, y: search(GridSearchCV(make(), GRID, refit=False), X, y),
    "random": lambda X, y: search(
        RandomizedSearchCV(make(), GRID, n_iter=4, random_state=0), X, y
    ),
    "halving": lambda X, y: search(
        HalvingGridSearchCV(make(), GRID, random_state=0, min_resources=60), X, y
    ),
    "cross_validate": lambda X, y: cross_validate(
        make(), X, y, scoring=["accuracy", "neg_log_loss"], return_train_score=True
    ),
    "cross_val_predict": lambda X, y: cross_val_predict(
        make(), X, y, method="predict_proba"
    ),
    "learning_curve": lambda X, y: learning_curve(make(), X, y)[1:3],
    "validation_curve": lambda X, y: validation_curve(
        make(), X, y, param_name="hidden_units", param_range=[2, 4, 8]
    ),
    "bagging": lambda X, y: proba(
        BaggingClassifier(make(), n_estimators=7, random_state=0), X, y
    ),
    "voting": lambda X, y: proba(
        VotingClassifier(
            [("a", make()), ("b", LogisticRegression()), ("c", make(hidden_units=4))],
            voting="soft",
        ),
        X,
        y,
    ),
    "stacking": lambda X, y: proba(
        StackingClassifier(
            [("net", make()), ("forest", RandomForestClassifier(5, random_state=0))]
        ),
        X,
        y,
    ),
    "one vs rest": lambda X, y: proba(OneVsRestClassifier(make()), X, y),
    "calibrated": lambda X, y: proba(CalibratedClassifierCV(make()), X, y),
    "permutation": lambda X, y: permutation_test_score(
        make(), X, y, n_permutations=5, random_state=0
    ),
    "multi-output": lambda X, y: (
        MultiOutputClassifier(make()).fit(X, np.c_[y, y > 0]).predict(X)
    ),
    "pipeline": lambda X, y: search(
        GridSearchCV(
            make_pipeline(StandardScaler(), make()),
            {"torchblobclassifier__hidden_units": [2, (3, 4), ()]},
        ),
        X,
        y,
    ),
    "kinds": lambda X, y: search(
        GridSearchCV(
            make(),
            {
                "optimizer": ["sgd", "adam"],
                "batch_size": [None, 32],
                "max_epochs": [3, 5],
                "early_stopping": [False, True],
                "callbacks": [None, [Callback()]],
            },
            cv=2,
        ),
        X,
        y,
    ),
    "no networks": lambda X, y: cross_val_score(OnePixel(), X, y),
    "nested": lambda X, y: cross_val_score(
        GridSearchCV(make(), GRID, cv=3), X, y, cv=3
    ),
    "thrice nested": lambda X, y: cross_val_score(
        GridSearchCV(
            BaggingClassifier(make(max_epochs=2), n_estimators=3, random_state=0),
            {"max_samples": [0.5, 1.0]},
            cv=2,
        ),
        X,
        y,
        cv=2,
    ),
}


@pytest.mark.parametrize("n_jobs", [None, 3])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_goes_through_joblib_gives_the_same_as_without(data, use, n_jobs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = outcome_of(use(*data))
        with together(n_jobs=n_jobs):
            found = outcome_of(use(*data))
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        pairs = [(found[key], expected[key]) for key in expected]
    else:
        pairs = [(found, expected)]
    for value, of_expected in pairs:
        if isinstance(value, tuple):
            value, of_expected = np.hstack(value), np.hstack(of_expected)
        if np.asarray(of_expected).dtype.kind == "f":
            np.testing.assert_allclose(value, of_expected, rtol=1e-9)
        else:
            np.testing.assert_array_equal(value, of_expected)


def test_the_fits_of_a_search_train_in_stacks_by_shape(data, stacks):
    with together():
        GridSearchCV(make(), GRID, cv=5, refit=False).fit(*data)
    assert stacks == [15, 15]


def test_fits_of_nested_searches_meet(data, stacks):
    with together():
        cross_val_score(
            GridSearchCV(make(), GRID, cv=2, refit=False),
            *data,
            cv=3,
            scoring=lambda *args: 0.0,
        )
    assert stacks == [18, 18]


@pytest.mark.parametrize(
    ("params", "largest"),
    [({"n_jobs": 7}, 7), ({"max_bytes": 1}, 1), ({"n_jobs": 1}, 1)],
)
def test_the_size_of_a_stack_is_bounded(data, stacks, params, largest):
    with together(**params):
        cross_val_score(make(), *data, cv=15)
    assert max(stacks) == largest
    assert sum(stacks) == 15


@not_finite
def test_one_fit_that_fails_is_one_score_that_is_missing(data):
    grid = {"lr": [0.1, 1e200, 0.3]}
    with (
        together(),
        pytest.warns(FitFailedWarning, match=r"(?s)5 fits failed.*loss became"),
    ):
        found = GridSearchCV(make(), grid).fit(*data)
    scores = found.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [False, True, False]
    assert found.best_params_["lr"] in (0.1, 0.3)


@not_finite
def test_a_scorer_that_fails_for_one_network_leaves_the_others_of_its_stack(
    data, stacks
):
    def score(estimator, X, y):
        if estimator.lr == 0.2:
            raise ZeroDivisionError("nothing to score")
        return estimator.score(X, y)

    clf = make(early_stopping=True, scoring=score)
    with together(), pytest.warns(FitFailedWarning, match="(?s).*nothing to score"):
        found = GridSearchCV(clf, {"lr": [0.1, 0.2, 0.3]}, refit=False).fit(*data)
    assert stacks[0] == 15
    scores = found.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [False, True, False]


def test_an_error_that_is_not_to_be_caught_ends_the_search(data):
    with together(), pytest.raises(ValueError, match="training loss became"):
        GridSearchCV(make(), {"lr": [0.1, 1e200]}, error_score="raise").fit(*data)


@not_finite
def test_an_error_of_a_callback_is_that_of_its_fit(data):
    class Fail(Callback):
        def on_batch_end(self, net, **kwargs):
            raise ZeroDivisionError("callback")

    grid = {"callbacks": [None, [Fail()], [Callback()]]}
    with together(), pytest.warns(FitFailedWarning, match="(?s).*ZeroDivisionError"):
        found = GridSearchCV(make(), grid, refit=False).fit(*data)
    scores = found.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [False, True, False]


def test_a_callback_may_end_its_own_fit(data):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    grid = {"callbacks": [None, [Stop()]]}
    expected = GridSearchCV(make(), grid, refit=False).fit(*data).cv_results_
    with together():
        found = GridSearchCV(make(), grid, refit=False).fit(*data).cv_results_
    key = "mean_test_score"
    np.testing.assert_array_equal(found[key], expected[key])


def test_warnings_reach_the_caller_as_often_as_without(data):
    counts = []
    for n_jobs in (1, None, 3):
        with together(n_jobs=n_jobs), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            cross_val_score(make(max_epochs=12, lr=1e-9), *data)
        counts.append([warning.category for warning in seen])
    assert counts == [[ConvergenceWarning] * 5] * 3


@not_finite
def test_warnings_that_are_errors_are_those_of_their_fits():
    data = make_blobs(120, centers=3, random_state=0)
    clf = make(max_epochs=60, tol=1.0)
    with together(), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.simplefilter("error", ConvergenceWarning)
        found = GridSearchCV(clf, {"lr": [1e-9, 0.5]}, refit=False).fit(*data)
    assert "5 fits failed out of a total of 10" in str(seen[0].message)
    assert "ConvergenceWarning" in str(seen[0].message)
    scores = found.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == [True, False]


@pytest.mark.usefixtures("_ctrl_c_interrupts")
@pytest.mark.parametrize("where", ["training", "task", "nested"])
def test_ctrl_c_ends_a_search_at_once(data, where):
    class Slow(OnePixel):
        def fit(self, X, y):
            for _ in range(30):
                time.sleep(0.01)
            return super().fit(X, y)

    work = {
        "training": GridSearchCV(make(max_epochs=10**7), GRID),
        "task": GridSearchCV(Slow(), {}, cv=KFold(100)),
        "nested": GridSearchCV(GridSearchCV(make(max_epochs=10**7), GRID), {}),
    }
    begin = time.monotonic()
    with together(), pytest.raises(KeyboardInterrupt), ctrl_c_after(1):
        work[where].fit(*data)
    assert time.monotonic() - begin < 5
    with together():  # and the next works
        assert np.isfinite(cross_val_score(make(), *data)).all()


def test_ctrl_c_before_a_task_has_begun_ends_a_search_at_once(data, monkeypatch):
    def interrupted(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(_rendezvous, "GRACE", 2.0 * SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(Job, "go_on", interrupted)
        with together(), pytest.raises(KeyboardInterrupt):
            cross_val_score(make(), *data)
    with together():  # and the next works
        assert np.isfinite(cross_val_score(make(), *data)).all()


def test_searches_in_two_threads_do_not_disturb_each_other(data):
    def run(seed):
        with together():
            clf = make(random_state=seed)
            return GridSearchCV(clf, GRID, refit=False).fit(*data).cv_results_

    expected = [run(seed)["mean_test_score"] for seed in range(3)]
    # Filters of warnings, which scikit-learn sets in each task, are global.
    with warnings.catch_warnings(), ThreadPoolExecutor(3) as pool:
        for found, scores in zip(pool.map(run, range(3)), expected, strict=True):
            np.testing.assert_array_equal(found["mean_test_score"], scores)


def test_fits_in_threads_that_a_task_starts_train_alone(data, stacks):
    def task(seed):
        with ThreadPoolExecutor(1) as pool:
            clf = make(random_state=seed)
            return pool.submit(clf.fit, *data).result().score(*data)

    with together():
        scores = joblib.Parallel()(joblib.delayed(task)(k) for k in range(3))
    assert scores == [make(random_state=k).fit(*data).score(*data) for k in range(3)]
    assert stacks == [1] * 6


def test_a_task_may_select_the_backend_itself(data, stacks):
    def task(seed):
        with together():
            return cross_val_score(make(random_state=seed), *data, cv=4)

    expected = [task(seed) for seed in range(3)]
    stacks.clear()
    with together():
        found = joblib.Parallel()(joblib.delayed(task)(seed) for seed in range(3))
    np.testing.assert_array_equal(found, expected)
    assert stacks == [12]


def test_tasks_may_be_made_by_fits_and_by_searches(data, stacks):
    def make_tasks(seed):
        for k in range(9):
            yield joblib.delayed(pow)(k, 2)
            make(random_state=seed).fit(*data)

    def task(seed):
        return joblib.Parallel(n_jobs=2, pre_dispatch=4)(make_tasks(seed))

    with together():
        found = joblib.Parallel()(joblib.delayed(task)(seed) for seed in range(3))
        assert found == [[k * k for k in range(9)]] * 3
        scores = joblib.Parallel()(
            joblib.delayed(np.mean)(cross_val_score(make(), *data)) for _ in range(3)
        )
    assert scores == [cross_val_score(make(), *data).mean()] * 3


def test_an_open_parallel_serves_other_tasks_and_what_makes_them():
    def task(k):
        return powers(joblib.delayed(pow)(k, n) for n in (1, 2))

    def make_tasks():
        for k in range(3):
            yield joblib.delayed(task)(*powers([joblib.delayed(pow)(k, 1)]))

    with together(), joblib.Parallel() as powers:
        found = joblib.Parallel(pre_dispatch=1)(make_tasks())
        assert found == [[0, 0], [1, 1], [2, 4]]


def test_results_are_not_kept(data):
    class Result:
        pass

    with together():
        results = joblib.Parallel()(joblib.delayed(Result)() for _ in range(3))
        alive = [weakref.ref(result) for result in results]
        del results
        gc.collect()
        assert [ref() for ref in alive] == [None] * 3


def test_results_come_in_the_order_of_the_tasks():
    with together():
        tasks = (joblib.delayed(pow)(k, 2) for k in range(1000))
        assert joblib.Parallel()(tasks) == [k * k for k in range(1000)]
    with joblib.Parallel(backend="torchblob", n_jobs=5) as parallel:
        for n in (3, 0, 20):
            found = parallel(joblib.delayed(abs)(-k) for k in range(n))
            assert found == list(range(n))


def test_a_parallel_that_has_failed_can_be_used_again():
    with joblib.Parallel(backend="torchblob", n_jobs=5) as parallel:
        with pytest.raises(ZeroDivisionError):
            parallel(joblib.delayed(divmod)(1, k) for k in (3, 2, 1, 0, 1))
        assert parallel([joblib.delayed(abs)(-1)]) == [1]


def test_a_task_that_is_cancelled_trains_no_more_and_leaves_its_memory(data, stacks):
    def fit_and_fail():
        make().fit(*data)
        raise ZeroDivisionError

    def fit_again_and_again():
        make().fit(*data)
        try:
            make().fit(*data)  # waits to be trained when the other task has failed
        finally:
            make().fit(*data)

    def task():
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(
                joblib.delayed(part)() for part in (fit_and_fail, fit_again_and_again)
            )
        joblib.Parallel()(joblib.delayed(make().fit)(*data) for _ in range(2))

    # A second fit may begin while one waits, but not while two do.
    with together(max_bytes=20_000):
        joblib.Parallel()([joblib.delayed(task)()])
    assert stacks == [2, 2]


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_a_task_that_outlives_an_interrupt_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(_rendezvous, "GRACE", 0.0)
    goes_on = threading.Event()

    def interrupt_and_go_on():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        goes_on.wait(SECONDS)

    rendezvous = _rendezvous.Rendezvous(most_jobs=1)
    try:
        job = rendezvous.submit(interrupt_and_go_on, None)
        with pytest.raises(KeyboardInterrupt):
            job.get()
        with pytest.raises(RuntimeError, match="no task can go on"):
            job.get()
    finally:
        goes_on.set()
        job.join()
        rendezvous.close()


def test_a_search_tells_how_far_it_is(data, capsys):
    with together(n_jobs=8, verbose=10):
        GridSearchCV(make(), GRID, refit=False, verbose=3).fit(*data)
    out, err = capsys.readouterr()
    assert "totalling 30 fits" in out
    assert out.count("[CV 1/5] END") == 6
    assert "[torchblob]: Trained a stack of 8 in" in err
    assert "Done  30 out of  30" in err


def test_a_stack_prints_one_log(data, capsys):
    with together():
        cross_val_score(make(verbose=4, max_epochs=8), *data)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("5 networks, means | Epoch: 4 | Loss: ")


def test_the_threads_of_torch_are_given_back(data, set_threads):
    set_threads(2)
    with together():
        cross_val_score(
            make(hidden_units=64), *[np.tile(data[0], (50, 1)), np.tile(data[1], 50)]
        )
    assert torch.get_num_threads() == 2


def test_a_number_of_jobs_of_zero_is_refused(data):
    with together(n_jobs=0), pytest.raises(ValueError, match="n_jobs == 0"):
        cross_val_score(make(), *data)


@pytest.mark.parametrize("max_bytes", [0, -1, "2GB", 2.5e9, float("nan")])
def test_a_bound_of_memory_that_is_none_is_refused(max_bytes):
    with pytest.raises(ValueError, match=r"torchblob.* needs max_bytes.* Got"):
        together(max_bytes=max_bytes)


def test_an_error_of_joblib_names_the_backend_as_the_user_does(data):
    with together(), pytest.raises(ValueError, match='Backend "torchblob" does not'):
        joblib.Parallel(return_as="generator")(joblib.delayed(len)([]) for _ in "ab")


def test_memory_that_is_free_is_known_or_four_gigabytes(monkeypatch):
    assert _rendezvous.free_bytes(torch.device("cpu")) > 2**20
    if sys.platform == "linux":
        assert _rendezvous.free_bytes(torch.device("cpu")) < 2**50
    monkeypatch.delattr(os, "sysconf", raising=False)  # as on Windows
    assert _rendezvous.free_bytes(torch.device("cpu")) == 4 * 2**30
