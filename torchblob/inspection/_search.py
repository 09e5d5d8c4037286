"""The candidates of a search, trained once more to see how they train."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from torchblob import TorchBlobClassifier
from torchblob.inspection._plane import as_array
from torchblob.inspection._responses import last_estimator

Candidate = tuple[str, dict[str, Any]]
CURVES = ("train_loss", "valid_loss", "train_acc", "valid_acc")


def candidates_by(search: Any, param: str | None, caller: str) -> list[Candidate]:
    """Return the candidates that differ in a parameter, by name, in its order.

    Those that agree with the best in all other parameters; where no two do, all.
    """
    if not hasattr(search, "estimator") or not hasattr(search, "cv"):
        raise ValueError(
            f"{caller} needs a search, such as a fitted GridSearchCV. Got {search!r}; "
            "from_estimator draws how one classifier was trained."
        )
    check_is_fitted(search)
    settings: list[dict[str, Any]] = []
    for params in search.cv_results_["params"]:
        if params not in settings:  # halving tries the same on more and more rows
            settings.append(params)
    names = sorted({name for params in settings for name in params})
    if param is None:
        varied = [
            name
            for name in names
            if any(params.get(name) != settings[0].get(name) for params in settings)
        ]
        candidates = varied or names
        param = candidates[0] if len(candidates) == 1 else None
    if param not in names:
        raise ValueError(
            f"{caller} needs a parameter of the search, param= one of "
            f"{', '.join(names)}. Got {param!r}."
        )
    best = getattr(search, "best_params_", settings[0])

    def others(params: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in params.items() if name != param}

    chosen = [params for params in settings if others(params) == others(best)]
    chosen = chosen if len(chosen) > 1 else settings
    values: list[Any] = [params.get(param) for params in chosen]
    if all(isinstance(value, int | float | np.number) for value in values):
        order: Any = np.argsort(values, kind="stable")
    else:
        order = range(len(values))
    short = param.split("__")[-1]
    return [(f"{short}={_text(values[i])}", chosen[i]) for i in order]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def curves_in_search(
    search: Any,
    candidates: Sequence[Candidate],
    X: Any,
    y: Any,
    groups: Any,
    caller: str,
) -> dict[str, dict[str, Any]]:
    """Return the curves of candidates, means over the folds, by name.

    Those of which a training fails are left out with a warning, unless all do.
    """
    last, _ = last_estimator(search.estimator)
    if not isinstance(last, TorchBlobClassifier):
        raise ValueError(
            f"{caller} needs a search of a TorchBlobClassifier, also at the end of a "
            f"Pipeline. Got {search!r}."
        )
    cv = check_cv(search.cv, as_array(y), classifier=True)
    folds = list(cv.split(X, y, groups))
    if not folds:
        raise ValueError(
            f"{caller} needs the folds of the search, and its cv={search.cv!r} has "
            "none left. Give it a list instead of an iterator."
        )
    with joblib.parallel_config(backend="torchblob"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the search has warned
        curves = joblib.Parallel()(
            joblib.delayed(_curves)(
                clone(search.estimator).set_params(**clone(params, safe=False)),
                *(_take(part, rows) for rows in fold for part in (X, y)),
            )
            for _, params in candidates
            for fold in folds
        )
    means, n = {}, len(folds)
    for i, (name, _) in enumerate(candidates):
        of_folds = curves[i * n : (i + 1) * n]
        errors = [one for one in of_folds if isinstance(one, ValueError)]
        if not errors:
            means[name] = _mean(of_folds)
        elif i + 1 == len(candidates) and not means:
            raise errors[0]
        else:
            warnings.warn(
                f"{caller} leaves out {name}, of which a training failed: {errors[0]}",
                UserWarning,
                stacklevel=3,
            )
    return means


def _curves(
    estimator: Any, X: Any, y: Any, X_val: Any, y_val: Any
) -> dict[str, Any] | ValueError:
    """Return the curves of a training, or why it failed.

    Validation rows don't change it.
    """
    network = estimator
    while isinstance(network, Pipeline):
        if len(network) > 1:
            steps = network[:-1]
            X = steps.fit_transform(X, y)
            X_val = steps.transform(X_val)
        network = network[-1]
    validation = {} if network.early_stopping else {"X_val": X_val, "y_val": y_val}
    try:
        network.set_params(verbose=0).fit(X, y, **validation)
    except ValueError as error:  # as of a rate that is too high
        return error
    history = network.history_
    return {
        name: np.array([row[name] for row in history])
        for name in CURVES
        if name in history[0]
    }


def _mean(curves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of curves, as far as all of them go."""
    n_epochs = min(len(of_fold["train_loss"]) for of_fold in curves)
    means: dict[str, Any] = {"epochs": np.arange(1, n_epochs + 1)}
    for name in curves[0]:
        means[name] = np.mean([of_fold[name][:n_epochs] for of_fold in curves], axis=0)
    return means


def _take(data: Any, rows: np.ndarray) -> Any:
    """Return some rows of an array, a tensor, a frame or a list."""
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    return (data if hasattr(data, "shape") else np.asarray(data))[rows]
