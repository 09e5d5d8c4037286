"""
The tutorial: from blobs to a decision boundary
===============================================

The multi-class part of a well-known PyTorch tutorial, with its training loop replaced
by :class:`~torchblob.TorchBlobClassifier`. The printed table is that of the tutorial,
digit for digit.
"""

# %%
# Four blobs of 250 points each, a fifth of them for the test, as torch tensors.

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_blobs
from sklearn.model_selection import train_test_split

from torchblob import TorchBlobClassifier

X, y = make_blobs(n_samples=1000, centers=4, cluster_std=1.5, random_state=42)
X_blob = torch.from_numpy(X).type(torch.float)
y_blob = torch.from_numpy(y).type(torch.LongTensor)
X_train, X_test, y_train, y_test = train_test_split(
    X_blob, y_blob, test_size=0.2, random_state=42
)

# %%
# The tutorial's recorded run has its two ReLU lines commented out, so its network is
# linear: ``activation="identity"``. The tutorial remarks that they belong in, and the
# classifier's default is ``"relu"``.

clf = TorchBlobClassifier(
    activation="identity", random_state=42, verbose=10, device="cpu"
)
clf.fit(X_train, y_train, X_val=X_test, y_val=y_test)

# %%
# What it learned: the class of each point of a grid, below the rows it was trained on
# and those it was not. The limits and the colors are shared by both panels.

low, high = X.min(axis=0) - 1, X.max(axis=0) + 1
grid = np.meshgrid(*np.linspace(low, high, 300).T)
regions = clf.predict(np.stack(grid, axis=-1).reshape(-1, 2)).reshape(300, 300)

fig, axes = plt.subplots(1, 2, figsize=(12, 5), sharex=True, sharey=True)
colors = np.array(["tab:blue", "tab:orange", "tab:green", "tab:red"])
for ax, title, X_part, y_part in (
    (axes[0], "Train", X_train, y_train),
    (axes[1], "Test", X_test, y_test),
):
    ax.pcolormesh(*grid, regions, cmap=ListedColormap(colors), alpha=0.3)
    ax.scatter(*X_part.T, c=colors[y_part], s=18, edgecolors="white", linewidths=0.5)
    ax.set_title(f"{title}: accuracy {clf.score(X_part, y_part):.1%}")
    ax.set_xlabel("feature 0")
axes[0].set_ylabel("feature 1")
fig.tight_layout()

# %%
# Under ``make demo`` the picture goes to a file; the gallery shows it here.

if "__file__" in globals():
    picture = Path(__file__).with_suffix(".png")
    fig.savefig(picture, dpi=120)
    print(f"The picture is in {os.path.relpath(picture)}")
