"""Which networks TorchBlobClassifierCV chooses from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from torchblob._classifier import TorchBlobClassifier
from torchblob._parameters import AUTO, CHOSEN_TYPES, RULES, check_values

RECIPES: dict[str, dict[str, Any]] = {
    "standard": {"hidden_units": [64, (128,)], "activation": "silu", "lr": 0.02},
    "piecewise_linear": {"hidden_units": 64, "activation": "relu", "lr": 0.004},
}
"""What "auto" is with each encoding of the columns.

The second size, one wide layer, costs little on standardized columns. On the many of
the other encoding it would cost the most, and is hardly ever the best.
"""

MOST_ENCODED = 256
"""Columns up to which the second encoding, which makes up to nine of one, is tried."""

STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 2000, 10, 200
"""Steps of training to aim at, and the epochs that this may mean."""


def make_candidates(
    params: Mapping[str, Any],
    name: str,
    *,
    n_samples: int,
    n_features: int,
    is_sparse: bool,
) -> list[dict[str, Any]]:
    """Return the settings of each network to try.

    Parameters
    ----------
    params : dict
        The parameters of the estimator, of which those that are chosen may be lists.
    name : str
        Of the estimator, for errors.
    n_samples : int
        Rows that a network trains on, which decide on its number of epochs.
    n_features : int
        Columns of the data.
    is_sparse : bool
        Whether these are sparse, and can't be encoded.

    Returns
    -------
    list of dict
        Each with a value for every parameter that is chosen; those with the same
        encoding follow each other.

    Raises
    ------
    ValueError
        If a list is empty, or an entry of it no value for the parameter; if two
        candidates are the same; if sparse data are to be encoded.
    """
    lists = {param: _values(param, params[param], name) for param in CHOSEN_TYPES}
    encodings = lists.pop("encoding")
    if encodings == ["auto"]:
        encodes = not is_sparse and n_features <= MOST_ENCODED
        encodings = list(RECIPES) if encodes else ["standard"]
    elif is_sparse and "piecewise_linear" in encodings:
        raise ValueError(
            f"{name} needs a dense X for encoding='piecewise_linear'. Got a sparse "
            "matrix: use encoding='standard', or X.toarray()."
        )
    candidates: list[dict[str, Any]] = []
    for encoding in encodings:
        choices = dict(lists)
        for param, value in RECIPES[encoding].items():
            if choices[param] == ["auto"]:
                choices[param] = value if isinstance(value, list) else [value]
        for values in itertools.product(*choices.values()):
            candidate = {
                "encoding": encoding,
                **dict(zip(choices, values, strict=True)),
            }
            if candidate["max_epochs"] == "auto":
                candidate["max_epochs"] = _epochs(n_samples, candidate["batch_size"])
            if candidate in candidates:
                raise ValueError(
                    f"{name} needs candidates that differ. Got {candidate} twice. A "
                    "list holds candidates; the units of several hidden layers are a "
                    "tuple, as in hidden_units=(64, 64) or [32, (64, 64)]."
                )
            candidates.append(candidate)
    return candidates


def _values(param: str, value: Any, name: str) -> list[Any]:
    """Return the candidates for a parameter, each of which is checked."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list):
        values = [values]
    is_name = len(values) == 1 and isinstance(values[0], str)
    if param in AUTO and is_name and values[0] == "auto":
        return values
    others = "a list of such values or 'auto'" if param in AUTO else "or a list of such"
    try:
        if not values:
            raise ValueError("there is nothing to choose from")
        for entry in values:
            if param != "encoding":
                TorchBlobClassifier(**{param: entry})._check_parameters()
            check_values({param: entry}, name)
    except ValueError as error:
        raise ValueError(
            f"The {param!r} parameter of {name} must be {RULES[param].needed}, "
            f"{others}. Got {value!r} instead."
        ) from error
    if param == "hidden_units":  # of which lists may be entries
        return [tuple(v) if isinstance(v, list) else v for v in values]
    return values


def _epochs(n_samples: int, batch_size: int | None) -> int:
    steps = math.ceil(n_samples / min(batch_size or n_samples, n_samples))
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(STEPS / steps)))
