"""What a fit and predictions of data in a file take of the process's own memory."""

import os
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from torchblob import TorchBlobClassifier

# The file is made for the tests. 5000 is a size that tells, and takes some minutes.
FILE_MEGABYTES = int(os.environ.get("TORCHBLOB_FILE_MEGABYTES", "80"))
FEATURES, PART = 50, 40_000
ROWS = FILE_MEGABYTES * 2**20 // (4 * FEATURES)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def anonymous_megabytes():
    """Return the memory of this process that no file stands for."""
    status = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def growth(run):
    """Return by how many MB memory grows at the most while `run` runs."""
    before = peak = anonymous_megabytes()
    ended = threading.Event()

    def watch():
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    ended.set()
    watcher.join()
    return peak - before


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return features that are mapped from a file, and their labels."""
    path = tmp_path_factory.mktemp("data") / "X"
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=ROWS)
    X = np.memmap(path, np.float32, "w+", shape=(ROWS, FEATURES))
    for start in range(0, ROWS, PART):
        labels = y[start : start + PART, None]
        X[start : start + PART] = rng.standard_normal((len(labels), FEATURES)) + labels
    del X
    yield np.memmap(path, np.float32, "r", shape=(ROWS, FEATURES)), y
    path.unlink()


@pytest.fixture
def clf(file):
    """Return a classifier that was fitted, for what the libraries keep themselves."""
    X, y = file
    clf = TorchBlobClassifier(64, device="cpu", max_epochs=2, random_state=0)
    clf.fit(X[:1000], y[:1000]).predict(X[:1000])
    return clf


def test_a_file_is_read_block_by_block_and_never_copied(file, clf):
    X, y = file
    # Labels, weights and targets take about 40 bytes a row.
    assert growth(lambda: clf.fit(X, y)) < 0.5 * FILE_MEGABYTES
    assert clf.score(X[:1000], y[:1000]) > 0.3
    result = ROWS * 4 * 4 / 2**20
    assert growth(lambda: clf.predict_proba(X)) < result + 0.2 * FILE_MEGABYTES


def test_a_stream_of_parts_takes_the_memory_of_a_part(file, clf):
    X, y = file

    def train():
        for start in range(0, ROWS, PART):
            rows = slice(start, start + PART)
            clf.partial_fit(np.array(X[rows]), y[rows])

    of_a_part = PART * FEATURES * 4 / 2**20
    assert growth(train) < 4 * of_a_part + 10
    assert clf.score(X[:1000], y[:1000]) > 0.3


def test_sparse_rows_are_made_dense_block_by_block():
    rows, features = 40_000, 5_000
    X = sparse.random(
        rows, features, 0.001, format="csr", dtype=np.float32, random_state=0
    )
    y = np.asarray(X[:, :2500].sum(axis=1) > X[:, 2500:].sum(axis=1)).ravel()
    clf = TorchBlobClassifier(16, device="cpu", max_epochs=2, random_state=0)
    clf.fit(X[:100], y[:100])
    dense = rows * features * 4 / 2**20
    assert growth(lambda: clf.fit(X, y)) < 0.1 * dense
    assert growth(lambda: clf.predict_proba(X)) < 0.1 * dense
