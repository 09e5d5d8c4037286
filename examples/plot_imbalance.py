"""
Class weights on imbalanced data
================================

Where one class is rare, a classifier is right most of the time by never naming it.
Weights of classes change what the training counts, and a threshold changes what is made
of the probabilities.
"""

# %%
# One row in twenty-five is of the rare class, and the classes overlap.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score
from sklearn.model_selection import FixedThresholdClassifier, train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

X, y = make_blobs([4800, 200], centers=[[0, 0], [1.8, 1.8]], random_state=0)
names = np.array(["common", "rare"])
X_train, X_test, y_train, y_test = train_test_split(
    X, names[y], test_size=0.5, stratify=y, random_state=0
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
    of_rare = {"pos_label": "rare", "zero_division": 0.0}
    print(
        f"{name:<22} recall {recall_score(y_test, y_pred, **of_rare):.2f}, "
        f"precision {precision_score(y_test, y_pred, **of_rare):.2f}, "
        f"balanced accuracy {balanced_accuracy_score(y_test, y_pred):.2f}"
    )


# %%
# Weights
# -------
#
# "balanced" gives both classes the same total weight, and a dict any other. The more
# the rare class weighs, the more of it is found, and the more often it errs.

weights = {
    "none": None,
    "rare counts 5 times": {"rare": 5.0},
    "balanced": "balanced",
}
fitted = {
    name: clone(clf).set_params(class_weight=weight).fit(X_train, y_train)
    for name, weight in weights.items()
}
for name, model in fitted.items():
    report(model, name)

_, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for (name, model), ax in zip(fitted.items(), axes, strict=True):
    DecisionBoundaryDisplay.from_estimator(
        model, X_train, y_train, ax=ax, title=name, legend=ax is axes[0]
    )

# %%
# Probabilities
# -------------
#
# A network that was trained with weights answers as if the rare class were as frequent
# as it weighs. The means of its probabilities tell.

print(f"share of the rare class: {np.mean(y_test == 'rare'):.2f}")
for name, model in fitted.items():
    print(f"{name:<22} says {model.predict_proba(X_test)[:, 1].mean():.2f} on average")

# %%
# Thresholds
# ----------
#
# Where probabilities should stay true, leave the weights alone and name the rare class
# from a lower probability on. At its share of the rows, that is much the same border as
# with balanced weights, without another training.

moved = FixedThresholdClassifier(
    fitted["none"],
    threshold=np.mean(y_train == "rare"),
    pos_label="rare",
    response_method="predict_proba",
).fit(X_train, y_train)
report(moved, "threshold at the share")

_, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for ax, (name, model) in zip(
    axes, {"balanced": fitted["balanced"], "threshold": moved}.items(), strict=True
):
    DecisionBoundaryDisplay.from_estimator(
        model,
        X_train,
        y_train,
        ax=ax,
        title=name,
        legend=ax is axes[0],
        response_method="predict",
    )
