"""
On a GPU
========

The same lines run on CUDA, on MPS and on the CPU. Which is faster depends on the size
of the network and of the table. Where there is no GPU, this page shows the CPU alone.
"""

# %%
# Which device
# ------------
#
# ``device="auto"``, the default, is CUDA where there is a GPU, else MPS, else the CPU.
# The fitted classifier says which it was.

import time

import joblib
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from torchblob import TorchBlobClassifier

X, y = make_classification(1000, 20, n_informative=10, n_classes=4, random_state=0)
X = X.astype("float32")

clf = TorchBlobClassifier(n_iter_no_change=100, random_state=0).fit(X, y)
print(f"auto: {clf.device_}")

devices = ["cpu"]
devices += ["cuda"] if torch.cuda.is_available() else []
devices += ["mps"] if torch.backends.mps.is_available() else []
print(f"there are: {', '.join(devices)}")

# %%
# A device that is not there is an error, which says what there is.

try:
    TorchBlobClassifier(device="cuda:7").fit(X, y)
except ValueError as error:
    print(error)

# %%
# When it pays
# ------------
#
# A GPU needs some microseconds to begin an operation, whatever its size. So small
# networks on small tables are done sooner on a CPU, and wide ones on many rows on a
# GPU. The first fit on a device is left out, since it loads libraries.


def seconds(device, rows, units):
    """Return the time of a fit of ten epochs, the faster of two."""
    X, y = make_classification(rows, 50, n_informative=10, n_classes=4, random_state=0)
    X = X.astype("float32")
    clf = TorchBlobClassifier(
        units, max_epochs=10, n_iter_no_change=10, device=device, random_state=0
    )
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        clf.fit(X, y)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


rows = [1_000, 10_000, 100_000]
_, ax = plt.subplots(layout="constrained")
for device, style in zip(devices, ("-", "--", ":"), strict=False):
    for units, color in zip(
        (8, 64, 256), ("#3f90da", "#ffa90e", "#832db6"), strict=True
    ):
        times = [seconds(device, n, units) for n in rows]
        label = f"{device}, {units} units"
        ax.plot(rows, times, "o", linestyle=style, color=color, label=label)
ax.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds for ten epochs")
ax.legend()

# %%
# Data that are there already
# ---------------------------
#
# Arrays are copied to the device once for each fit. Tensors that are on it are used
# where they are, and so are those that ``predict`` gets.

on_device = torch.as_tensor(X, device=clf.device_)
labels = clf.fit(on_device, y).predict(on_device)
print(f"{type(labels).__name__} of {len(labels)} labels")

# %%
# Many networks at once
# ---------------------
#
# A search keeps a GPU busier than one small network can: under the backend "torchblob",
# its fits are one stack, in one process.

grid = {"lr": [0.03, 0.1, 0.3], "hidden_units": [16, 32]}
with joblib.parallel_config(backend="torchblob"):
    search = GridSearchCV(clf, grid, cv=3).fit(X, y)
print(f"{search.best_params_}: {search.best_score_:.1%}")

# %%
# A fitted model is saved by ``joblib.dump``. It is loaded to the same device, or, with
# a warning, to the CPU where that is missing.
