"""
Choosing hidden units
=====================

How many units does a network need? A grid search tries them in cross-validation, and
two pictures show what it found: the scores, and how each candidate trained.
"""

# %%
# 1797 images of digits, a quarter of them for the test. Pixels go from 0 to 16, and
# networks learn best from numbers of about 1.

import joblib
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import (
    GridSearchCV,
    ValidationCurveDisplay,
    train_test_split,
)

from torchblob import TorchBlobClassifier
from torchblob.inspection import TrainingCurveDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

clf = TorchBlobClassifier(
    optimizer="adam",
    lr=0.01,
    batch_size=128,
    max_epochs=25,
    n_iter_no_change=25,
    random_state=0,
    device="cpu",
)
widths = [2, 4, 8, 16, 32, 64]

# %%
# An int stands for two layers of that many units. Each candidate is trained on five
# folds, and the fits of a candidate train side by side under the backend "torchblob".

with joblib.parallel_config(backend="torchblob"):
    search = GridSearchCV(clf, {"hidden_units": widths}, cv=5).fit(X_train, y_train)

for width, score in zip(widths, search.cv_results_["mean_test_score"], strict=True):
    print(f"{width:>3} units: {score:.1%}")
print(f"Test accuracy with {search.best_params_}: {search.score(X_test, y_test):.1%}")

# %%
# The validation curve: with few units the network can't tell the digits apart, not even
# those that it has seen. From some width on, it knows the training rows by heart, and
# what more units add on others is little.

_, ax = plt.subplots(layout="constrained")
with joblib.parallel_config(backend="torchblob"):
    ValidationCurveDisplay.from_estimator(
        clf,
        X_train,
        y_train,
        param_name="hidden_units",
        param_range=widths,
        cv=5,
        ax=ax,
        score_name="accuracy",
    )
ax.set_xscale("log", base=2)
ax.set_xticks(widths, widths)

# %%
# How they trained, as means of the folds. The losses of narrow networks still fall, but
# slowly. The solid and dashed lines of wide ones part: there the rest is a matter of
# the data, not of the network.

TrainingCurveDisplay.from_search(search, X_train, y_train)

# %%
# Other parameters go into the same grid. With several, ``param`` says by which the
# curves are drawn.

with joblib.parallel_config(backend="torchblob"):
    search = GridSearchCV(
        clf, {"hidden_units": [16, 64], "lr": [0.001, 0.003, 0.01, 0.03, 0.1]}, cv=5
    ).fit(X_train, y_train)
print(search.best_params_)
TrainingCurveDisplay.from_search(search, X_train, y_train, param="lr")
