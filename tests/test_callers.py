"""Many callers at once: in threads, in processes, before and after a fork."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from helpers import weights
from sklearn.datasets import make_blobs

from torchblob import TorchBlobClassifier

N_CALLERS = 16


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(3000, n_features=6, centers=4, cluster_std=4.0, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


def make(**params):
    defaults = {"device": "cpu", "random_state": 0, "max_epochs": 5}
    return TorchBlobClassifier(**defaults | {"n_iter_no_change": 5} | params)


def at_once(calls):
    """Return the results of calls that begin together, each in a thread of its own."""
    together = threading.Barrier(len(calls), timeout=60)

    def wait_and_call(call):
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))


@pytest.mark.parametrize("method", ["predict_proba", "predict", "decision_function"])
@pytest.mark.parametrize("n_rows", [1, 3000])
def test_many_threads_get_the_answers_that_one_gets(data, method, n_rows):
    X, y = data
    clf = make().fit(X, y)
    parts = [np.roll(X, number, axis=0)[:n_rows] for number in range(N_CALLERS)]
    ask = getattr(clf, method)
    alone = [ask(part) for part in parts]
    for _ in range(5):
        answers = at_once([lambda part=part: ask(part) for part in parts])
        for answer, expected in zip(answers, alone, strict=True):
            np.testing.assert_array_equal(answer, expected)


def test_fits_in_two_threads_do_not_disturb_each_other_or_predictions(data):
    X, y = data
    params = [
        {"batch_size": 100, "dropout": 0.2, "random_state": 1},
        {"hidden_units": 32, "optimizer": "adam", "lr": 0.01, "random_state": 2},
    ]
    alone = [make(**of_one).fit(X, y) for of_one in params]
    fits = [make(**of_one) for of_one in params]
    *_, answer = at_once(
        [*(lambda clf=clf: clf.fit(X, y) for clf in fits), lambda: alone[0].predict(X)]
    )
    for clf, expected in zip(fits, alone, strict=True):
        assert torch.equal(weights(clf), weights(expected))
    np.testing.assert_array_equal(answer, alone[0].predict(X))


@pytest.mark.usefixtures("_loky_ends")
def test_workers_of_loky_fit_and_predict_after_a_fit_here(data):
    X, y = data
    here = make().fit(X, y)
    fitted = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(make(random_state=seed).fit)(X, y) for seed in range(2)
    )
    np.testing.assert_array_equal(fitted[0].predict_proba(X), here.predict_proba(X))
    parts = np.array_split(X, 2)
    asked = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(here.predict_proba)(part) for part in parts
    )
    for part, answer in zip(parts, asked, strict=True):
        np.testing.assert_array_equal(answer, here.predict_proba(part))


FIT_HERE_AND_THERE = """
import multiprocessing, sys
import numpy as np, torch
from torchblob import TorchBlobClassifier

def make():
    return TorchBlobClassifier(256, device="cpu", max_epochs=2, random_state=0)

def fit_and_predict(clf, X, y, answers):
    answers.put((clf.predict_proba(X), make().fit(X, y).predict_proba(X)))

if __name__ == "__main__":
    torch.set_num_threads(2)
    X = np.random.default_rng(0).normal(size=(20_000, 20))
    y = (X[:, 0] > 0).astype(int)
    clf = make().fit(X, y)
    torch.ones(2000, 2000) @ torch.ones(2000, 2000)  # by two threads of OpenMP
    context = multiprocessing.get_context(sys.argv[1])
    answers = context.Queue()
    process = context.Process(target=fit_and_predict, args=(clf, X, y, answers))
    process.start()
    try:
        for answer in answers.get(timeout=60):
            assert np.allclose(answer, clf.predict_proba(X), atol=1e-9)
    finally:
        process.kill()
        process.join()
    print("the same")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_fits_and_predicts_after_a_fit_in_its_parent(method, tmp_path):
    if sys.platform == "win32" and method != "spawn":
        pytest.skip("Windows only spawns")
    script = tmp_path / "fit_here_and_there.py"
    script.write_text(FIT_HERE_AND_THERE)
    run = subprocess.run(
        [sys.executable, str(script), method],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout == "the same\n", run.stderr
