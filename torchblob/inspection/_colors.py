"""Colours of classes that readers with any colour vision can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

TEN = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Ten colours from M. A. Petroff, Accessible Color Sequences for Data Visualization,
https://arxiv.org/abs/2107.02270."""

VISIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [  # protanopia
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [  # deuteranopia
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [  # tritanopia
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)
"""What is seen of linear RGB with each vision, from G. M. Machado, M. M. Oliveira and
L. A. F. Fernandes, A Physiologically-based Model for Simulation of Color Vision
Deficiency, IEEE TVCG 15 (2009), 1291-1298, for severity 1."""

TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""From linear RGB to Oklab, in which distances are about those that are seen, from
B. Ottosson, A perceptual color space for image processing,
https://bottosson.github.io/posts/oklab."""


def class_colors(colors: str | Sequence[Any] | None, n_classes: int) -> np.ndarray:
    """Return a colour for each class.

    Parameters
    ----------
    colors : str, sequence of matplotlib colours, or None
        The name of a colormap, a colour for each class, or None for those of Petroff
        and, for more than ten classes, others that lie far from them and each other.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of shape (n_classes, 3)
        RGB, 0 to 1.

    Raises
    ------
    ValueError
        If it is no colormap, or not a colour for each class.
    """
    import matplotlib as mpl
    from matplotlib.colors import is_color_like, to_rgb

    name = "DecisionBoundaryDisplay: multiclass_colors"
    if colors is None:
        return distinct_colors(n_classes)
    if isinstance(colors, str):
        if colors not in mpl.colormaps:
            raise ValueError(
                f"{name} must be the name of a colormap of matplotlib's, such as "
                f"'tab10', or a list of colours. Got {colors!r}."
            )
        cmap = mpl.colormaps[colors]
        if n_classes > cmap.N:
            raise ValueError(
                f"{name} needs a colour for each of {n_classes} classes, and the "
                f"colormap {colors!r} has {cmap.N}. Choose another, or give a list."
            )
        # Of a list of colours, the first; of a gradient, all over it.
        at = range(n_classes) if cmap.N < 256 else np.linspace(0, 1, n_classes)
        return np.array([cmap(i)[:3] for i in at])
    if len(colors) != n_classes or not all(map(is_color_like, colors)):
        raise ValueError(
            f"{name} must be a colour for each of {n_classes} classes, such as 'red' "
            f"or '#3f90da'. Got {colors!r}."
        )
    return np.array([to_rgb(color) for color in colors])


def distinct_colors(n: int) -> np.ndarray:
    """Return `n` colours, (n, 3), of which each lies far from those before it.

    Far for normal vision and for each kind of colour blindness alike: the distance of
    two colours is the least of those that are seen.
    """
    ten = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in TEN])
    if n <= len(ten):
        return ten[:n]
    candidates, seen = _candidates()
    chosen = list(ten)
    distance = np.min([_distance(seen, _seen(color)) for color in ten], axis=0)
    while len(chosen) < n:
        best = int(distance.argmax())
        chosen.append(candidates[best])
        distance = np.minimum(distance, _distance(seen, seen[:, best]))
    return np.array(chosen)


@cache
def _candidates() -> tuple[np.ndarray, np.ndarray]:
    """Return colours that are neither too dark nor too light, and how they are seen."""
    levels = np.linspace(0, 1, 18)
    colors = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    seen = _seen(colors)
    lightness = seen[0, :, 0]
    visible = (lightness > 0.35) & (lightness < 0.9)
    return colors[visible], seen[:, visible]


def _seen(colors: np.ndarray) -> np.ndarray:
    """Return sRGB colours, (..., 3), in Oklab as each vision sees them, (4, ..., 3)."""
    linear = np.where(
        colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4
    )
    by_vision = np.stack([(linear @ vision.T).clip(0, 1) for vision in VISIONS])
    return np.cbrt(by_vision @ TO_LMS.T) @ TO_OKLAB.T


def _distance(seen: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Return the distances of colours as seen, (4, n, 3), from one, (4, 3)."""
    return np.linalg.norm(seen - one[:, None], axis=-1).min(axis=0)
