"""
How hidden units, activation and depth shape the boundary
=========================================================

The same data, learned by networks of different shapes: what each of them can draw, and
what it can't.
"""

# %%
# Two spirals, wound into each other: a class each, which no straight line separates.

import matplotlib.pyplot as plt
import numpy as np

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

rng = np.random.default_rng(0)
turns = np.sqrt(rng.uniform(0.05, 1, size=(2, 200))) * 2 * np.pi
angles = turns + np.array([[0.0], [np.pi]])
points = np.stack([turns * np.cos(angles), turns * np.sin(angles)], axis=-1)
X = points.reshape(-1, 2) / 5 + rng.normal(scale=0.04, size=(400, 2))
y = np.repeat(["out", "in"], 200)


def draw(ax, title, **params):
    """Fit a network, draw its regions, and write its accuracy into the title."""
    clf = TorchBlobClassifier(
        optimizer="adam",
        lr=0.01,
        batch_size=50,
        max_epochs=300,
        n_iter_no_change=300,
        random_state=1,
        device="cpu",
    )
    clf.set_params(**params).fit(X, y)
    accuracy = f"{clf.score(X, y):.0%}"
    DecisionBoundaryDisplay.from_estimator(
        clf, X, y, ax=ax, title=f"{title}: {accuracy}", legend=False, first_layer=True
    )


# %%
# Hidden units
# ------------
#
# Each unit of the first layer is a straight line, here dotted, on whose one side it is
# silent. The border has a kink where it crosses one, so two units draw little, and more
# units a finer curve. Two layers of 8, the default, are enough here, just.

_, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
for ax, units in zip(axes, (2, 8, 32), strict=True):
    draw(ax, f"two layers of {units}", hidden_units=units)

# %%
# Activation
# ----------
#
# ReLU draws borders of straight pieces, tanh and SiLU smooth ones. The identity, as in
# the tutorial's recorded run, draws a straight line whatever the number of units.

_, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
for ax, activation in zip(axes, ("identity", "tanh", "silu"), strict=True):
    draw(ax, activation, hidden_units=16, activation=activation)

# %%
# Depth
# -----
#
# With the same number of units, 24, in one, two and three layers. Later layers fold
# what the first has drawn, so fewer lines make as many pieces.

_, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
for ax, widths in zip(axes, ((24,), (12, 12), (8, 8, 8)), strict=True):
    draw(ax, " + ".join(map(str, widths)), hidden_units=widths)

# %%
# On such a picture every choice can be judged by eye. Where there are more features, a
# search in cross-validation decides: see :doc:`plot_search`.
