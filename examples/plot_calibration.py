"""
Calibration and uncertainty
===========================

A probability of 90 % should be right nine times out of ten. Whether a network's are can
be measured, and mended; and where it should not be sure at all, an ensemble shows.
"""

# %%
# Is it right as often as it says?
# --------------------------------
#
# Two classes that overlap. A wide network that trains for long gets ever surer of what
# it learned by heart.

import joblib
import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.datasets import make_moons
from sklearn.ensemble import BaggingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

X, y = make_moons(4000, noise=0.4, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=400, random_state=0
)

clf = TorchBlobClassifier(
    hidden_units=64,
    optimizer="adam",
    lr=0.01,
    batch_size=50,
    max_epochs=150,
    n_iter_no_change=150,
    random_state=0,
    device="cpu",
)
candidates = {
    "to its end": clf,
    "label smoothing": clone(clf).set_params(label_smoothing=0.2),
    "early stopping": clone(clf).set_params(early_stopping=True, n_iter_no_change=10),
    "calibrated": CalibratedClassifierCV(clf, ensemble=False),
}

# %%
# A curve below the diagonal at the right, and above it at the left, says more than it
# knows. Smoothed labels temper that, early stopping prevents it, and
# ``CalibratedClassifierCV`` of scikit-learn bends the probabilities afterwards. The log
# loss, on rows that no training has seen, counts what is left.

_, ax = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
with joblib.parallel_config(backend="torchblob"):
    for name, model in candidates.items():
        model.fit(X_train, y_train)
        loss = log_loss(y_test, model.predict_proba(X_test))
        print(f"{name:<16} log loss {loss:.3f}")
        CalibrationDisplay.from_estimator(
            model, X_test, y_test, n_bins=10, name=f"{name} ({loss:.2f})", ax=ax
        )

# %%
# Where is it unsure?
# -------------------
#
# The entropy of the probabilities, in bits, is 0 where the network is sure of one class
# and 1 where both are as likely. The margin, of the larger probability over the other,
# says the same in the other direction.

stopped = candidates["early stopping"]
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
    )

# %%
# Far from the data
# -----------------
#
# A single network is sure of itself far from all that it has seen, since its logits
# grow with the distance. Twenty networks, each trained on rows drawn anew, agree near
# the data and part where there were none, so the band in which their mean is unsure
# widens with the distance. Under the backend "torchblob" they train as one stack.

ensemble = BaggingClassifier(
    clone(clf).set_params(max_epochs=40, n_iter_no_change=40), 20, random_state=0
)
with joblib.parallel_config(backend="torchblob"):
    ensemble.fit(X_train, y_train)

_, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for ax, (name, model) in zip(
    axes, {"one network": clf, "mean of twenty": ensemble}.items(), strict=True
):
    DecisionBoundaryDisplay.from_estimator(
        model,
        X_train,
        y_train,
        response_method="entropy",
        ax=ax,
        eps=2,
        legend=False,
        title=name,
    )
