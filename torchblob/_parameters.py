"""What each parameter of the estimators may be.

scikit-learn's `_parameter_constraints` holds the types; a range or a set of names is
checked here, in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import get_scorer_names

from torchblob.nn import ACTIVATIONS
from torchblob.training import SCHEDULES

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"foreach": False}),
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "rmsprop": (torch.optim.RMSprop, {"foreach": False}),
}
"""Name of an optimizer -> its class, and the implementation that is the fastest."""

TYPES: dict[str, list[Any]] = {
    "hidden_units": [Integral, "array-like"],
    "activation": [str],
    "dropout": [Real],
    "optimizer": [str, callable],
    "lr": [Real],
    "momentum": [Real],
    "weight_decay": [Real],
    "lr_schedule": [str, None],
    "batch_size": [Integral, None],
    "max_epochs": [Integral],
    "class_weight": [dict, str, None],
    "label_smoothing": [Real],
    "early_stopping": ["boolean"],
    "scoring": [str, callable, None],
    "validation_fraction": [Real],
    "n_iter_no_change": [Integral],
    "tol": [Real],
    "warm_start": ["boolean"],
    "callbacks": ["array-like", None],
    "device": [str, torch.device],
    "dtype": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
"""Parameter -> the types it may have, in the form of `_parameter_constraints`."""

CHOSEN_TYPES: dict[str, list[Any]] = {
    "encoding": [],  # which are all names
    "hidden_units": [Integral, tuple],
    "activation": [],
    "dropout": [Real],
    "lr": [Real],
    "weight_decay": [Real],
    "label_smoothing": [Real],
    "batch_size": [Integral, None],
    "max_epochs": [Integral],
}
"""Parameters that are chosen by cross-validation, and the types of a candidate."""

ENCODINGS = ("standard", "piecewise_linear")

AUTO = ("hidden_units", "encoding", "activation", "lr", "max_epochs")
"""Those of them that may be "auto" or other names."""

CV_TYPES: dict[str, list[Any]] = {
    **{
        param: [*types, np.ndarray, list, *([str] if param in AUTO else [])]
        for param, types in CHOSEN_TYPES.items()
    },
    "class_weight": TYPES["class_weight"],
    "cv": ["cv_object"],
    "scoring": [str, callable, None],
    "refit": ["boolean"],
    "calibrate": ["boolean"],
    "time_limit": [Real, None],
    "device": TYPES["device"],
    "dtype": TYPES["dtype"],
    "random_state": TYPES["random_state"],
    "verbose": TYPES["verbose"],
}
"""The same as `TYPES`, of TorchBlobClassifierCV."""


WIDEST = 2**31
"""Libraries of linear algebra count rows and columns in 32 bits."""


class Rule(NamedTuple):
    """What a value must satisfy beyond its type, and how an error says it."""

    is_met: Callable[[Any], bool]
    needed: str


def _is_widths(value: Any) -> bool:
    values = [value] if isinstance(value, Integral) else value
    return all(
        isinstance(v, Integral) and not isinstance(v, bool) and 0 < int(v) < WIDEST
        for v in values
    )


def _is_callbacks(value: Any) -> bool:
    """Return whether these are callbacks as skorch takes them: alone or named."""
    callbacks = [v[-1] if isinstance(v, tuple) else v for v in value or ()]
    return all(hasattr(callback, "on_train_begin") for callback in callbacks)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int larger than any float
        return False


def _one_of(names: Iterable[str], other: str = "") -> Rule:
    names = sorted(names)
    needed = f"one of {', '.join(map(repr, names))}{other}"
    # What is not a str has passed the check of the type.
    return Rule(lambda v: not isinstance(v, str) or v in names, needed)


_POSITIVE_INT = Rule(lambda v: v >= 1, "an int in the range [1, inf)")
_NON_NEGATIVE = Rule(
    lambda v: v >= 0 and _is_finite(v), "a float in the range [0.0, inf)"
)
_BELOW_ONE = Rule(lambda v: 0 <= v < 1, "a float in the range [0.0, 1.0)")

RULES: dict[str, Rule] = {
    "hidden_units": Rule(
        _is_widths, "an int in the range [1, 2**31) or a sequence of such ints"
    ),
    "encoding": Rule(
        lambda v: v in ENCODINGS, f"one of {', '.join(map(repr, ENCODINGS))}"
    ),
    "activation": _one_of(ACTIVATIONS),
    "dropout": _BELOW_ONE,
    "optimizer": _one_of(OPTIMIZERS, " or a callable"),
    "lr": Rule(lambda v: v > 0 and _is_finite(v), "a float in the range (0.0, inf)"),
    "momentum": _BELOW_ONE,
    "weight_decay": _NON_NEGATIVE,
    "lr_schedule": _one_of(SCHEDULES, " or None"),
    "scoring": Rule(
        lambda v: not isinstance(v, str) or v == "loss" or v in get_scorer_names(),
        "'loss', a name of sklearn.metrics.get_scorer_names(), a callable or None",
    ),
    "batch_size": Rule(lambda v: v is None or v >= 1, "None or an int >= 1"),
    "max_epochs": _POSITIVE_INT,
    "class_weight": _one_of(["balanced"], ", a dict or None"),
    "callbacks": Rule(
        _is_callbacks, "None or a list of callbacks of skorch, or (name, callback)"
    ),
    "label_smoothing": _BELOW_ONE,
    "validation_fraction": Rule(lambda v: 0 < v < 1, "a float in the range (0.0, 1.0)"),
    "n_iter_no_change": _POSITIVE_INT,
    "tol": _NON_NEGATIVE,
    "dtype": _one_of(["auto", "float32", "float64"]),
    "verbose": Rule(lambda v: v >= 0, "an int in the range [0, inf)"),
    "time_limit": Rule(lambda v: v is None or v > 0, "None or a float > 0, in seconds"),
}
"""Parameter -> what its value must satisfy."""


def check_values(params: Mapping[str, Any], name: str) -> None:
    """Check the values of `params`, whose types are right.

    Raises
    ------
    ValueError
        For the first that breaks its rule, with what is needed and what was given.
    """
    for param, value in params.items():
        rule = RULES.get(param)
        if rule is not None and not rule.is_met(value):
            raise ValueError(
                f"The {param!r} parameter of {name} must be {rule.needed}. "
                f"Got {value!r} instead."
            )
