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

import torch
from sklearn.datasets import make_blobs
from sklearn.model_selection import train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

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
# What it learned: the regions of the four classes, paler where it is less sure, below
# the rows it was trained on and those it was not. Rings are around the rows that it
# gets wrong.

display = DecisionBoundaryDisplay.from_estimator(
    clf, X_train, y_train, X_test=X_test, y_test=y_test
)

# %%
# Under ``make demo`` the picture goes to a file; the gallery shows it here.

if "__file__" in globals():
    picture = Path(__file__).with_suffix(".png")
    display.figure_.savefig(picture, dpi=120)
    print(f"The picture is in {os.path.relpath(picture)}")
