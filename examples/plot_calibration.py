"""
Calibration and uncertainty
===========================

A probability of 90 % should be right nine times out of ten. Whether a network's are can
be measured, and mended. An ensemble is less sure of itself where there were no data.
"""

# %%
# Two classes that overlap: 200 rows to train on, and many for the test, so that its
# numbers are steady. A wide network that trains for long gets ever surer of what it
# learned by heart.

import joblib
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.datasets import make_moons
from sklearn.ensemble import BaggingClassifier
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.model_selection import train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

X, y = make_moons(20000, noise=0.4, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=200, random_state=0
)
clf = TorchBlobClassifier(
    hidden_units=64,
    optimizer="adam",
    lr=0.01,
    batch_size=50,
    max_epochs=200,
    n_iter_no_change=200,
    random_state=0,
    device="cpu",
)


def report(model, name):
    """Print how well a classifier's probabilities fit the test rows."""
    proba = model.predict_proba(X_test)[:, 1]
    print(
        f"{name:<16} log loss {log_loss(y_test, proba):.3f}, "
        f"Brier score {brier_score_loss(y_test, proba):.3f}, "
        f"accuracy {model.score(X_test, y_test):.1%}"
    )


# %%
# Is it right as often as it says?
# --------------------------------
#
# Three remedies: label smoothing keeps the network from being quite sure of any row,
# early stopping ends the training before it is, and ``CalibratedClassifierCV`` bends
# the probabilities afterwards. The less the log loss and the Brier score, the better.

models = {
    "to its end": clf,
    "label smoothing": clone(clf).set_params(label_smoothing=0.1),
    "early stopping": clone(clf).set_params(
        early_stopping=True, validation_fraction=0.2, n_iter_no_change=20
    ),
    "calibrated": CalibratedClassifierCV(clone(clf), cv=5),
}
with joblib.parallel_config(backend="torchblob"):
    for name, model in models.items():
        report(model.fit(X_train, y_train), name)

# %%
# How often rows are of the class 1, by the probability that they were given for it. To
# its end, the network says more than it knows: where it is all but sure of either
# class, it is wrong more often than it says. Smoothed labels and early stopping bring
# the curve near the diagonal. The sigmoid that ``CalibratedClassifierCV`` fits corrects
# the ends, and makes the middle too modest.

_, axes = plt.subplots(
    1, 4, figsize=(13, 3.9), sharex=True, sharey=True, layout="constrained"
)
for ax, (name, model) in zip(axes, models.items(), strict=True):
    CalibrationDisplay.from_estimator(
        model, X_test, y_test, n_bins=10, color="#3f90da", ax=ax
    )
    ax.get_legend().remove()
    ax.set(title=name, xlabel="probability of class 1", ylabel="", aspect="equal")
axes[0].set_ylabel("share of class 1 among such rows")

# %%
# Where is it unsure?
# -------------------
#
# The entropy of the probabilities, in bits, is 0 where the network is sure of one class
# and 1 where both are as likely. The margin, by which the larger probability exceeds
# the other, goes the other way. Most rows that it gets wrong, in rings, lie where it is
# unsure.

stopped = models["early stopping"]
_, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for ax, method in zip(axes, ("entropy", "margin"), strict=True):
    DecisionBoundaryDisplay.from_estimator(
        stopped,
        X_train,
        y_train,
        response_method=method,
        ax=ax,
        legend=False,
        title=method,
        vmin=0,
        vmax=1,
    )

# %%
# Far from the data
# -----------------
#
# Twenty such networks, each trained on rows drawn anew, are an ensemble, whose
# probabilities are their means. Under the backend "torchblob" they train as one stack.

ensemble = BaggingClassifier(clone(stopped), n_estimators=20, random_state=0)
with joblib.parallel_config(backend="torchblob"):
    ensemble.fit(X_train, y_train)
report(stopped, "one network")
report(ensemble, "mean of twenty")

# %%
# Logits grow with the distance, so a single network is the surer, the further from all
# that it has seen; its doubt is a narrow band. The twenty agree near the data and part
# where there were none, so their band widens. Where all of them agree, they are as sure
# as one.

both = {"one network": stopped, "mean of twenty": ensemble}
_, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for ax, (name, model) in zip(axes, both.items(), strict=True):
    DecisionBoundaryDisplay.from_estimator(
        model,
        X_train,
        y_train,
        response_method="entropy",
        xlim=(-6, 7),
        ylim=(-6, 6.5),
        ax=ax,
        legend=False,
        title=name,
        vmin=0,
        vmax=1,
    )

# %%
# The mean entropy on circles around the data, by their radius. Past the last row, that
# of one network goes to zero, and that of the twenty stays.

center = X_train.mean(axis=0)
angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
radii = np.linspace(0, 8, 33)
_, ax = plt.subplots(layout="constrained")
for (name, model), color in zip(both.items(), ("#ffa90e", "#3f90da"), strict=True):
    means = [
        entropy(model.predict_proba(center + radius * circle), base=2, axis=1).mean()
        for radius in radii
    ]
    ax.plot(radii, means, color=color, label=name)
last = np.linalg.norm(X_train - center, axis=1).max()
ax.axvline(last, color="0.5", linestyle=":", label="last row")
ax.set(xlabel="distance from the mean of the data", ylabel="mean entropy (bits)")
ax.legend()
