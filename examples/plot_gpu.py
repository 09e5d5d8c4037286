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

import tempfile
import timeit
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from torchblob import TorchBlobClassifier

X, y = make_classification(20_000, 50, n_informative=10, n_classes=4, random_state=0)
X = X.astype("float32")

clf = TorchBlobClassifier(max_epochs=10, random_state=0).fit(X, y)
print(f"auto: {clf.device_}")

devices = ["cpu"]
devices += ["cuda"] if torch.cuda.is_available() else []
devices += ["mps"] if torch.backends.mps.is_available() else []
print(f"there are: {', '.join(devices)}")

# %%
# A device that is not there is an error, which says what there is.

try:
    TorchBlobClassifier(device="cuda:99").fit(X, y)
except ValueError as error:
    print(error)

# %%
# When it pays
# ------------
#
# A GPU needs some microseconds to begin an operation, whatever its size. So small
# networks on small tables are done sooner on a CPU, and wide ones on many rows on a
# GPU. The first run of each is left out, since it may load libraries.


def seconds(run):
    """Return the time that a call takes, the shortest after a first one."""
    return min(timeit.repeat(run, number=1, repeat=4)[1:])


sizes = [200, 2_000, 20_000]
_, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharex=True, layout="constrained")
for device, style in zip(devices, ("o-", "s--"), strict=False):
    for units, color in ((8, "#3f90da"), (64, "#ffa90e"), (256, "#832db6")):
        net = TorchBlobClassifier(units, max_epochs=5, device=device, random_state=0)
        times = [
            (
                seconds(lambda net=net, n=n: net.fit(X[:n], y[:n])),
                seconds(lambda net=net, n=n: net.predict(X[:n])),
            )
            for n in sizes
        ]
        for ax, of_one in zip(axes, zip(*times, strict=True), strict=True):
            ax.plot(sizes, of_one, style, color=color, label=f"{device}, {units} units")
for ax, what in zip(axes, ("fit, five epochs", "predict"), strict=True):
    ax.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds", title=what)
axes[0].legend()

# %%
# Data that are there already
# ---------------------------
#
# Arrays are copied to the device once for each fit. Tensors that are on it are used
# where they are, in ``fit`` and in ``predict``, whose answer is an array of numpy's.

on_device = torch.as_tensor(X, device=clf.device_)
labels = clf.fit(on_device, y).predict(on_device)
print(f"{type(labels).__name__} of {len(labels)} labels")

# %%
# Many networks at once
# ---------------------
#
# A search keeps a GPU busier than one small network can. Under the backend "torchblob",
# fits of networks of the same shape train as one stack, in one process: here 36.

grid = {"lr": [0.03, 0.1, 0.3, 1.0], "weight_decay": [0.0, 0.001, 0.01]}
with joblib.parallel_config(backend="torchblob"):
    search = GridSearchCV(clf, grid, cv=3).fit(X[:2000], y[:2000])
print(f"{search.best_params_} of {len(search.cv_results_['params'])} candidates")

# %%
# From one device to another
# --------------------------
#
# A saved model is loaded to the device that it was trained on. One from CUDA comes to
# the CPU, with a warning, where there is no GPU. Set ``device`` to train on elsewhere.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.joblib"
    joblib.dump(clf, path)
    loaded = joblib.load(path)
print(f"loaded to: {loaded.device_}")

loaded.set_params(device="cpu").partial_fit(X, y)
print(f"trained on: {loaded.device_}")
