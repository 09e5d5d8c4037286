"""
How hidden units, activation and depth shape the boundary
=========================================================

The same data, learned by networks of different shapes: what each of them can draw, and
what it can't.
"""

# %%
# Three sets of two classes that no straight line separates: two moons, two circles, and
# two spirals, wound into each other.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_circles, make_moons

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

rng = np.random.default_rng(0)
turns = np.sqrt(rng.uniform(0.05, 1, size=(2, 200))) * 2 * np.pi
angles = turns + np.array([[0.0], [np.pi]])
spirals = np.stack([turns * np.cos(angles), turns * np.sin(angles)], axis=-1)
spirals = spirals.reshape(-1, 2) / 5 + rng.normal(scale=0.04, size=(400, 2))

data = [
    make_moons(400, noise=0.15, random_state=0),
    make_circles(400, noise=0.1, factor=0.5, random_state=0),
    (spirals, np.repeat([0, 1], 200)),
]


def draw(networks):
    """Draw what each network learns of the data, a column for each of them."""
    _, axes = plt.subplots(3, len(networks), figsize=(11, 10), layout="constrained")
    for (X, y), row in zip(data, axes, strict=True):
        for (name, params), ax in zip(networks.items(), row, strict=True):
            clf = TorchBlobClassifier(
                optimizer="adam",
                lr=0.01,
                batch_size=50,
                max_epochs=200,
                n_iter_no_change=200,
                random_state=1,
                device="cpu",
            )
            clf.set_params(**params).fit(X, y)
            DecisionBoundaryDisplay.from_estimator(
                clf,
                X,
                y,
                ax=ax,
                title=f"{name}: {clf.score(X, y):.0%}",
                legend=False,
                first_layer=True,
            )
            ax.set(xticks=[], yticks=[])


# %%
# Hidden units
# ------------
#
# Each unit of the first layer is a straight line, here dotted, on whose one side it is
# silent. The border has a kink where it crosses one, so two units draw little, and more
# units a finer curve. Two layers of 8, the default, are enough here.

draw({f"two layers of {units}": {"hidden_units": units} for units in (2, 8, 32)})

# %%
# Activation
# ----------
#
# ReLU draws borders of straight pieces, tanh and SiLU smooth ones. The identity, as in
# the tutorial's recorded run, draws a straight line whatever the number of units.

draw(
    {
        name: {"hidden_units": 16, "activation": name}
        for name in ("identity", "tanh", "silu")
    }
)

# %%
# Depth
# -----
#
# With the same number of units, 24, in one, two and three layers. Later layers fold
# what the first has drawn, so fewer lines make as many pieces. But a narrow network may
# get stuck where it began: three layers of 8 do, on the moons, from these weights.

draw(
    {
        " + ".join(map(str, widths)): {"hidden_units": widths}
        for widths in ((24,), (12, 12), (8, 8, 8))
    }
)

# %%
# On such a picture every choice can be judged by eye. Where there are more features, a
# search in cross-validation decides: see :doc:`plot_hidden_units`.
