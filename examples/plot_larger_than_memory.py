"""
Data larger than memory
=======================

A file that doesn't fit into memory can be trained on as it is, on a CPU, as a
memory-mapped array, or on any device chunk by chunk. The table here is small, so that
the page is built in seconds; the code is the same for a hundred gigabytes.
"""

# %%
# A file
# ------
#
# 400,000 rows of 50 features, written in parts, as data that come from somewhere would
# be. ``numpy.lib.format.open_memmap`` makes an array of a file: what is read is loaded,
# and what has not been used for a while is dropped, by the operating system.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.format import open_memmap

from torchblob import TorchBlobClassifier

N_ROWS, N_FEATURES, N_CLASSES, PART = 400_000, 50, 5, 40_000
rng = np.random.default_rng(0)
centers = rng.normal(scale=0.4, size=(N_CLASSES, N_FEATURES))


def draw(n):
    """Return n rows, as from a source that has no end, and their classes."""
    y = rng.integers(N_CLASSES, size=n)
    return (centers[y] + rng.normal(size=(n, N_FEATURES))).astype("float32"), y


folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "X.npy"
X = open_memmap(path, "w+", "float32", (N_ROWS, N_FEATURES))
y = np.empty(N_ROWS, int)
for start in range(0, N_ROWS, PART):
    part = slice(start, start + PART)
    X[part], y[part] = draw(PART)
X.flush()
X_test, y_test = draw(10_000)

# %%
# The whole file
# --------------
#
# ``fit`` takes the array as it is. It walks it in blocks, also to check that all
# numbers are finite, and never copies it. The rows of a batch are read from all over
# the file, for which the disk should be fast; with ``batch_size=None`` each step reads
# all of it in its order.

X = np.load(path, mmap_mode="r")
clf = TorchBlobClassifier(
    32,
    optimizer="adam",
    lr=0.002,
    batch_size=1000,
    max_epochs=3,
    random_state=0,
    device="cpu",
)
clf.fit(X, y)
print(f"Test accuracy: {clf.score(X_test, y_test):.1%}")

# %%
# Predictions are walked in blocks too. What needs memory is their result, so ask for as
# many rows at a time as you have room for, and keep what you need of them.

sure = np.empty(N_ROWS, "float32")
for start in range(0, N_ROWS, PART):
    part = slice(start, start + PART)
    sure[part] = clf.predict_proba(X[part]).max(axis=1)
print(f"{np.mean(sure > 0.9):.0%} of all rows have a class with more than 90 %")

# %%
# How much memory a fit needs was measured: see :doc:`/benchmarks`.

# %%
# Chunks
# ------
#
# Where there is no file, only a source, ``partial_fit`` learns from what has come: one
# epoch of batches on each chunk. The first call must know all classes, since a chunk
# need not have all of them.


def chunks(n_chunks, rows):
    """Yield chunks of rows, each of which is gone when the next comes."""
    for _ in range(n_chunks):
        yield draw(rows)


learner = TorchBlobClassifier(
    32, optimizer="adam", lr=0.002, batch_size=200, random_state=0, device="cpu"
)
accuracies = []
for X_chunk, y_chunk in chunks(20, 2_000):
    learner.partial_fit(X_chunk, y_chunk, classes=range(N_CLASSES))
    accuracies.append(learner.score(X_test, y_test))

_, ax = plt.subplots(layout="constrained")
ax.plot(2_000 * np.arange(1, 21), accuracies, "o-", color="#3f90da", label="by chunks")
ax.axhline(
    clf.score(X_test, y_test), color="0.4", linestyle="--", label="from the whole file"
)
ax.set(xlabel="rows that have come", ylabel="accuracy on other rows")
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.legend(loc="lower right")

# %%
# The file goes with its folder.

del X
folder.cleanup()
