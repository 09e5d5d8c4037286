"""Axes for the panels of a picture."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_panels(n: int, size: tuple[float, float], *, shared: bool = True) -> list[Axes]:
    """Return axes of a new figure, in a grid that is about square.

    Parameters
    ----------
    n : int
        How many.
    size : tuple of two floats
        Width and height of each, in inches.
    shared : bool, default=True
        Whether they have the same limits.
    """
    import matplotlib.pyplot as plt

    n_columns = math.ceil(math.sqrt(n))
    n_rows = math.ceil(n / n_columns)
    _, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(size[0] * n_columns, size[1] * n_rows),
        sharex=shared,
        sharey=shared,
        layout="constrained",
    )
    axes = list(np.ravel(axes))
    for ax in axes[n:]:
        ax.remove()
    return axes[:n]


def given_panels(axes: Any, n: Container[int], needs: str, instead: str) -> list[Axes]:
    """Return axes that are given, if there are as many as an error says it needs.

    Raises
    ------
    ValueError
        If their number is not one of `n`.
    """
    axes = list(np.ravel(axes))
    if len(axes) not in n:
        raise ValueError(f"{needs}. Got {len(axes)}; {instead}.")
    return axes
