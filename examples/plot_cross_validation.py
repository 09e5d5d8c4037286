"""
A good model without choosing anything
======================================

Raw columns go in; settings are chosen by cross-validation, and five networks answer
together, each of which has seen other rows. They know what they don't know.
"""

# %%
# Breast tumours, described by 30 numbers of their cell nuclei: areas of hundreds beside
# fractions of hundredths. Nothing is scaled first.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.model_selection import train_test_split

from torchblob import TorchBlobClassifierCV

X, y = load_breast_cancer(return_X_y=True)
print("largest value of a column: from", X.max(0).min(), "to", X.max(0).max())
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
clf = TorchBlobClassifierCV(device="cpu", random_state=0, verbose=1)
clf.fit(X_train, y_train)
print(f"test accuracy: {clf.score(X_test, y_test):.1%}")

# %%
# What was tried
# --------------
#
# Two sizes of networks on standardized columns, and one on columns that are cut into
# linear pieces too. A bar is the mean score over the folds, the line its spread.

results = clf.cv_results_
names = [
    f"{params['hidden_units']}, {params['encoding']}" for params in results["params"]
]
colors = ["tab:orange" if rank == 1 else "0.7" for rank in results["rank_test_score"]]
_, ax = plt.subplots(figsize=(7, 2.2), layout="constrained")
ax.barh(
    names,
    results["mean_test_score"],
    xerr=results["std_test_score"],
    color=colors,
    ecolor="0.3",
)
ax.invert_yaxis()
ax.set(xlim=(0.9, 1.0), xlabel="accuracy in cross-validation")

# %%
# Two kinds of doubt
# ------------------
#
# Two moons that overlap. Between them a row can be of either class, which the networks
# know: all say 50 %. Far outside, where there were no rows, each draws the border in
# its own way. The probabilities don't tell these apart, the disagreement does. It is no
# alarm for all that is new, though: on either side of the border the networks go on
# alike, and agree.

X, y = make_moons(400, noise=0.25, random_state=0)
clf = TorchBlobClassifierCV(device="cpu", random_state=0).fit(X, y)
x1, x2 = np.meshgrid(np.linspace(-3, 4, 150), np.linspace(-2.5, 3, 150))
plane = np.column_stack([x1.ravel(), x2.ravel()])
confidence = clf.predict_proba(plane).max(1)
disagreement = clf.disagreement(plane)

figure, axes = plt.subplots(
    1, 2, figsize=(10, 4.2), sharex=True, sharey=True, layout="constrained"
)
for ax, values, title in zip(
    axes,
    [1 - confidence, disagreement],
    ["doubt: 1 - largest probability", "disagreement (nats)"],
    strict=True,
):
    picture = ax.contourf(x1, x2, values.reshape(x1.shape), 15, cmap="cividis")
    figure.colorbar(picture, ax=ax)
    ax.scatter(*X.T, c=y, cmap="gray", edgecolor="k", s=12, linewidth=0.4)
    ax.set_title(title)

# %%
# Is it right as often as it says?
# --------------------------------
#
# Its probabilities are divided by a temperature that was fitted to the answers on rows
# that a network was not trained on. Label smoothing, which helps the accuracy, made
# them too modest before.

X, y = make_moons(3000, noise=0.4, random_state=0)
X_new, y_new = make_moons(20000, noise=0.4, random_state=1)
_, ax = plt.subplots(figsize=(4.6, 4.6), layout="constrained")
for calibrate, name in ((False, "as trained"), (True, "calibrated, the default")):
    one = TorchBlobClassifierCV(calibrate=calibrate, device="cpu", random_state=0)
    proba = one.fit(X, y).predict_proba(X_new)[:, 1]
    CalibrationDisplay.from_predictions(y_new, proba, n_bins=10, name=name, ax=ax)
plt.show()
