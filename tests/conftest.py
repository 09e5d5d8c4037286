"""Data that the tests share, and what must hold after each of them."""

import multiprocessing
import os
import signal

# scipy reads it once, at its first import; array_api_dispatch needs it.
os.environ["SCIPY_ARRAY_API"] = "1"

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from joblib.externals.loky import get_reusable_executor
from sklearn import config_context
from sklearn.datasets import make_blobs
from sklearn.model_selection import train_test_split

from torchblob import _data
from torchblob.training import _stack

# What hypothesis draws: the same cases in each run, or with
# `--hypothesis-profile fuzz` many more and always others.
settings.register_profile(
    "tests",
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "fuzz",
    settings.get_profile("tests"),
    max_examples=400,
    derandomize=False,
    print_blob=True,
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def blobs():
    """Return the tutorial's tensors: X_train, X_test, y_train, y_test."""
    X, y = make_blobs(1000, centers=4, cluster_std=1.5, random_state=42)
    X, y = torch.from_numpy(X).float(), torch.from_numpy(y)
    return train_test_split(X, y, test_size=0.2, random_state=42)


@pytest.fixture(scope="session")
def small():
    """Return 120 well separated rows of 3 classes in 4 features, scaled, float64."""
    X, y = make_blobs(120, n_features=4, centers=3, cluster_std=1.0, random_state=0)
    return (X - X.mean(0)) / X.std(0), y


@pytest.fixture
def stacks(monkeypatch):
    """Return a list that gets the number of networks of each stack."""
    numbers = []

    class Counted(_stack._Stack):
        def __init__(self, members, *args):
            numbers.append(len(members))
            super().__init__(members, *args)

    monkeypatch.setattr(_stack, "_Stack", Counted)
    return numbers


@pytest.fixture(scope="session")
def processes():
    """Return a context for processes that start in no time, and may be killed."""
    context = multiprocessing.get_context("forkserver")
    # The second is what torch imports with the first optimizer of a process.
    context.set_forkserver_preload(["torchblob", "torch._dynamo"])
    return context


@pytest.fixture
def _loky_ends():
    """End the processes of joblib's backend "loky" after the test.

    Idle ones would end themselves after five minutes, perhaps just when another test
    gives them work.
    """
    yield
    get_reusable_executor().shutdown(kill_workers=True)


@pytest.fixture
def set_threads():
    """Return torch.set_num_threads, undone when the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def _ctrl_c_interrupts():
    """Let Ctrl-C interrupt, which programs in the background, as in CI, ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def dispatch():
    """Let scikit-learn dispatch arrays to their libraries, if it can."""
    try:
        with config_context(array_api_dispatch=True):
            yield
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def lack_room(monkeypatch):
    """Return a function that lets calls of these numbers find no room for features."""

    def lack_room(numbers):
        to_features, calls = _data.to_features, []

        def without_room(*args, **kwargs):
            calls.append(args)
            if len(calls) - 1 in numbers:
                raise torch.OutOfMemoryError("tried to allocate too much")
            return to_features(*args, **kwargs)

        monkeypatch.setattr(_data, "to_features", without_room)

    return lack_room


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def _global_state_is_left_alone():
    """Check that a test leaves the global random states and torch's threads alone."""
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    yield
    assert torch.equal(torch_state, torch.get_rng_state())
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):  # noqa: NPY002
        assert np.array_equal(before, after)
    assert torch.get_num_threads() == threads
