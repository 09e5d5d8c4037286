"""
A search in a stack
===================

A grid search over the width of the network and its learning rate, on the digits of
scikit-learn, with and without the joblib backend "torchblob", under which its fits
train together.
"""

# %%
# 1797 images of 8 x 8 pixels, a quarter of them for the test.

import time

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import TrainingCurveDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

clf = TorchBlobClassifier(
    optimizer="adam",
    batch_size=128,
    max_epochs=20,
    n_iter_no_change=20,
    random_state=0,
    device="cpu",
)
grid = {"hidden_units": [2, 4, 8, 16, 32], "lr": [0.003, 0.01, 0.03, 0.1]}

# %%
# 20 candidates and 5 folds are 100 fits. One after another, each leaves the machine
# idle most of the time; under the backend, the fits of each width train as one stack,
# and the scores are the same.

searches = {}
for backend in ("one by one", "torchblob"):
    search = GridSearchCV(clf, grid, cv=5)
    begin = time.perf_counter()
    if backend == "torchblob":
        with joblib.parallel_config(backend="torchblob"):
            search.fit(X_train, y_train)
    else:
        search.fit(X_train, y_train)
    print(f"{backend}: {time.perf_counter() - begin:.2f} s, {search.best_params_}")
    searches[backend] = search.cv_results_["mean_test_score"]

assert np.allclose(*searches.values(), atol=0.01)

# %%
# The accuracy in cross-validation, a line for each rate. Few units can't tell ten
# digits apart, and more than 16 add little. Rates of 0.01 and 0.03 suit most widths.

scores = search.cv_results_["mean_test_score"].reshape(5, 4)
spread = search.cv_results_["std_test_score"].reshape(5, 4)
_, ax = plt.subplots(layout="constrained")
for rate, score, std in zip(grid["lr"], scores.T, spread.T, strict=True):
    (line,) = ax.plot(grid["hidden_units"], score, "o-", label=f"lr={rate}")
    ax.fill_between(grid["hidden_units"], score - std, score + std, alpha=0.15)
ax.set_xscale("log", base=2)
ax.set_xlabel("units of each hidden layer")
ax.set_ylabel("accuracy, mean and spread of 5 folds")
ax.legend()

# %%
# The search has fitted the best candidate again, on all training rows. Its accuracy on
# the test rows is one that no choice has seen.

print(f"Test accuracy: {search.score(X_test, y_test):.1%}")
TrainingCurveDisplay.from_estimator(search)
