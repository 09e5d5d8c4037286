"""Measure the memory that a fit and predictions of a large file take. Linux only.

    python benchmarks/memory.py [--rows 2000000] [--features 50] [--hidden 64]

The features lie in a memory-mapped file of float32, which is read as it is needed. What
counts is the growth of the process's anonymous memory (not backed by a file), whose
peak a thread watches.
"""

from __future__ import annotations

import argparse
import gc
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from timing import print_machine

from torchblob import TorchBlobClassifier


def anonymous_megabytes() -> float:
    """Return the anonymous memory of this process, in MB of 2**20 bytes."""
    status = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def watched(name: str, run: Callable[[], Any]) -> Any:
    """Return what `run` returns; print how much memory and time it took."""
    gc.collect()
    before = peak = anonymous_megabytes()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    size = (
        f", result {result.nbytes / 2**20:.0f} MB" if hasattr(result, "nbytes") else ""
    )
    print(f"{name:16} peak growth {peak - before:6.0f} MB{size}, {seconds:.1f} s")
    return result


def main() -> None:
    """Read the arguments, write the file, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--hidden", type=int, default=64)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_machine(torch.device("cpu"))
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=args.rows)
    with tempfile.TemporaryDirectory() as folder:
        shape = (args.rows, args.features)
        X = np.memmap(f"{folder}/X", np.float32, "w+", shape=shape)
        for rows in np.array_split(np.arange(args.rows), 100):
            X[rows] = rng.standard_normal((len(rows), args.features)) + y[rows, None]
        X = np.memmap(f"{folder}/X", np.float32, "r", shape=shape)
        print(f"file of {X.nbytes / 2**20:.0f} MB, {args.hidden} hidden units")
        clf = TorchBlobClassifier(args.hidden, device="cpu", random_state=0)
        clf.set_params(max_epochs=3).fit(
            X[:10_000], y[:10_000]
        )  # libraries' own memory
        watched("fit, 3 epochs", lambda: clf.fit(X, y))
        watched("predict_proba", lambda: clf.predict_proba(X))
        watched("predict", lambda: clf.predict(X))


if __name__ == "__main__":
    main()
