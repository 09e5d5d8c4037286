"""
Early stopping and schedules
============================

A wide network learns noise by heart if it is given the time. Early stopping ends the
training where rows that it has not seen are classified best, and a schedule lowers the
learning rate on the way.
"""

# %%
# Two moons with so much noise that they overlap: nobody can be right about all of them.

import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay, TrainingCurveDisplay

X, y = make_moons(400, noise=0.35, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)

# %%
# To its end
# ----------
#
# With ``X_val`` and ``y_val`` the history has the loss of these rows too. It falls for
# a while, then rises, while that of the training rows goes on falling.

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
clf.fit(X_train, y_train, X_val=X_test, y_val=y_test)
TrainingCurveDisplay.from_estimator(clf)

# %%
# Stopped
# -------
#
# ``early_stopping=True`` holds some of the training rows out, and watches their loss.
# When it has not fallen for ``n_iter_no_change`` epochs, the training ends, and the
# best weights come back: those of the epoch that is marked.

stopped = clone(clf).set_params(
    early_stopping=True, validation_fraction=0.2, n_iter_no_change=20
)
stopped.fit(X_train, y_train)
print(f"{stopped.n_iter_} epochs, of which {stopped.best_epoch_} was the best")
TrainingCurveDisplay.from_estimator(stopped)

# %%
# Its border is smooth, where that of the other goes around single points.

_, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
for ax, model, name in zip(
    axes, (clf, stopped), ("to its end", "stopped"), strict=True
):
    DecisionBoundaryDisplay.from_estimator(
        model,
        X_train,
        y_train,
        ax=ax,
        legend=False,
        title=f"{name}: test accuracy {model.score(X_test, y_test):.1%}",
    )

# %%
# A score
# -------
#
# What is watched can also be a score, by a name of scikit-learn's or as a scorer.
# The classes are about as frequent here, so the balanced accuracy is about the one that
# is drawn. It moves in steps of a row and counts no doubts: its best epoch is another
# than that of the loss.

by_score = clone(stopped).set_params(scoring="balanced_accuracy")
by_score.fit(X_train, y_train)
print(f"{by_score.n_iter_} epochs, of which {by_score.best_epoch_} was the best")
TrainingCurveDisplay.from_estimator(by_score)

# %%
# Schedules
# ---------
#
# At a constant rate, steps of batches keep the losses jumping about to the end. A
# schedule lowers the rate to zero over all epochs, so the steps get smaller and the
# curves come to rest. Both ways down, along a line or a cosine, end much alike here.

plain = TorchBlobClassifier(
    hidden_units=16,
    optimizer="adam",
    lr=0.05,
    batch_size=20,
    max_epochs=60,
    n_iter_no_change=60,
    random_state=0,
    device="cpu",
)
schedules = {"constant": None, "linear": "linear", "cosine": "cosine"}
colors = {"constant": "#ffa90e", "linear": "#3f90da", "cosine": "#832db6"}
fitted = {
    name: clone(plain)
    .set_params(lr_schedule=schedule)
    .fit(X_train, y_train, X_val=X_test, y_val=y_test)
    for name, schedule in schedules.items()
}
_, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
for ax, schedule in zip(axes, ("linear", "cosine"), strict=True):
    for name in ("constant", schedule):
        TrainingCurveDisplay.from_estimator(
            fitted[name], name=name, ax=ax, color=colors[name]
        )
