"""
The boundary as it forms
========================

How the regions of a network move while it trains, from the weights that it starts with
to those that it keeps.
"""

# %%
# Four blobs, and a network with two hidden layers of 8 units.

import os
from pathlib import Path

from sklearn.datasets import make_blobs

from torchblob import TorchBlobClassifier
from torchblob.inspection import DecisionBoundaryDisplay

X, y = make_blobs(n_samples=400, centers=4, cluster_std=1.5, random_state=42)
clf = TorchBlobClassifier(random_state=42, device="cpu")

# %%
# A clone is trained; its weights after some of the epochs are kept, and a picture is
# drawn of each. Most happens in the first epochs, so there are more of those.

epochs = [*range(0, 20), *range(20, 50, 3), *range(50, 101, 10)]
animation = DecisionBoundaryDisplay.animate(clf, X, y, frames=epochs, interval=120)

# %%
# A file of it needs nothing but matplotlib, with its writer "pillow" for GIF. In a
# notebook, ``IPython.display.HTML(animation.to_jshtml())`` shows it with buttons.

if "__file__" in globals():
    picture = Path(__file__).with_suffix(".gif")
    animation.save(picture, "pillow", dpi=75)
    print(f"The animation is in {os.path.relpath(picture)}")
