"""
Class weights on imbalanced data
================================

Where one class is rare, a classifier is right most of the time by never naming it.
Weights of classes change what the training counts, and a threshold changes what is made
of the probabilities.
"""

# %%
# Three rows in a hundred are of the rare class, and the classes overlap. A tenth of the
# rows is for training; the many for the test make its numbers steady.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score
from sklearn.model_selection import FixedThresholdClassifier, train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

X, y = make_blobs([48500, 1500], centers=[[0, 0], [1.8, 1.8]], random_state=0)
y = np.array(["common", "rare"])[y]
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=5000, stratify=y, random_state=0
)
clf = TorchBlobClassifier(
    optimizer="adam",
    lr=0.01,
    batch_size=100,
    max_epochs=20,
    n_iter_no_change=20,
    random_state=0,
    device="cpu",
)


def report(model, name):
    """Print what a classifier finds of the rare class, and how often it is right."""
    y_pred = model.predict(X_test)
    print(
        f"{name:<22} recall {recall_score(y_test, y_pred, pos_label='rare'):.2f}, "
        f"precision {precision_score(y_test, y_pred, pos_label='rare'):.2f}, "
        f"balanced accuracy {balanced_accuracy_score(y_test, y_pred):.2f}"
    )


# %%
# Weights
# -------
#
# "balanced" gives both classes the same total weight, and a dict any other. The more
# the rare class weighs, the further its region reaches: more of it is found, and more
# of what is named rare is not.

weights = {
    "no weights": None,
    "rare counts 5 times": {"rare": 5.0},
    "balanced": "balanced",
}
fitted = {
    name: clone(clf).set_params(class_weight=weight).fit(X_train, y_train)
    for name, weight in weights.items()
}
for name, model in fitted.items():
    report(model, name)

shown = {"X": X_test[:1500], "y": y_test[:1500], "xlim": (-4, 5), "ylim": (-5, 5)}
_, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for (name, model), ax in zip(fitted.items(), axes, strict=True):
    DecisionBoundaryDisplay.from_estimator(
        model, **shown, ax=ax, title=name, legend=False
    )
axes[0].legend(loc="lower right")

# %%
# Probabilities
# -------------
#
# A network that was trained with weights answers as if the rare class were as frequent
# as it weighs. Of the rows that it calls rare with a probability of one half, far fewer
# than half are; without weights, the line stays near the diagonal.

_, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
colors = ("#3f90da", "#ffa90e", "#832db6")
for (name, model), color in zip(fitted.items(), colors, strict=True):
    CalibrationDisplay.from_estimator(
        model, X_test, y_test, pos_label="rare", n_bins=6, name=name, color=color, ax=ax
    )
ax.set(xlabel="probability of the rare class", ylabel="share of it among such rows")
ax.legend(loc="upper left")

# %%
# Thresholds
# ----------
#
# Where probabilities should stay true, leave the weights alone and name the rare class
# from a lower probability on. ``FrozenEstimator`` keeps the network as it is, so that
# nothing is trained again. With the share of the rare class as the threshold, the
# border runs much as with balanced weights where the rows are.

moved = FixedThresholdClassifier(
    FrozenEstimator(fitted["no weights"]),
    threshold=np.mean(y_train == "rare"),
    pos_label="rare",
    response_method="predict_proba",
).fit(X_train, y_train)
report(moved, "threshold at the share")

_, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
both = {"balanced": fitted["balanced"], "threshold at the share": moved}
for (name, model), ax in zip(both.items(), axes, strict=True):
    DecisionBoundaryDisplay.from_estimator(
        model, **shown, ax=ax, title=name, legend=False, response_method="predict"
    )
axes[0].legend(loc="lower right")

# %%
# :class:`~sklearn.model_selection.TunedThresholdClassifierCV` finds the threshold that
# is best for a score in cross-validation.
