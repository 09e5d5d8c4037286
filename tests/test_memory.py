"""What a fit and predictions of data in a file take of the process's own memory."""

import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from torchblob import TorchBlobClassifier

ROWS, FEATURES = 400_000, 50
FILE_MEGABYTES = ROWS * FEATURES * 4 / 2**20


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_is_read_block_by_block_and_never_copied(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=ROWS)
    X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(ROWS, FEATURES))
    for rows in np.array_split(np.arange(ROWS), 20):
        X[rows] = rng.standard_normal((len(rows), FEATURES)) + y[rows, None]
    X = np.memmap(tmp_path / "X", np.float32, "r", shape=(ROWS, FEATURES))
    clf = TorchBlobClassifier(64, device="cpu", max_epochs=2, random_state=0)
    clf.fit(X[:1000], y[:1000])  # what the libraries keep for themselves
    # Labels, weights and targets take about 40 bytes a row.
    assert growth(lambda: clf.fit(X, y)) < 0.5 * FILE_MEGABYTES
    assert clf.score(X[:1000], y[:1000]) > 0.3
    result = ROWS * 4 * 4 / 2**20
    assert growth(lambda: clf.predict_proba(X)) < result + 0.2 * FILE_MEGABYTES
