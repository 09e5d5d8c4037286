"""The candidates of a search, trained once more to see how they train."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted

from torchblob import TorchBlobClassifier
from torchblob.inspection._plane import as_array
from torchblob.inspection._responses import last_estimator

CURVES = ("train_loss", "valid_loss", "train_acc", "valid_acc")


class Candidate(NamedTuple):
    """What a search has tried.

    Parameters
    ----------
    name : str
        What it is called among those that are drawn.
    params : dict
        As the search has set them.
    is_best : bool
        Whether the search has chosen it.
    """

    name: str
    params: dict[str, Any]
    is_best: bool


def candidates_by(search: Any, param: str | None, caller: str) -> list[Candidate]:
    """Return the candidates that differ in a parameter, in its order.

    Those that agree with the best in all other parameters; where no two do, all.
    """
    if not hasattr(search, "estimator") or not hasattr(search, "cv"):
        raise ValueError(
            f"{caller} needs a search, such as a fitted GridSearchCV. Got {search!r}; "
            "from_estimator draws how one classifier was trained."
        )
    check_is_fitted(search)
    given: list[dict[str, Any]] = search.cv_results_["params"]
    names = sorted({name for params in given for name in params})
    # What one of several grids leaves out is as the estimator has it.
    defaults = {
        name: value
        for name, value in search.estimator.get_params().items()
        if name in names
    }

    def key_of(params: dict[str, Any]) -> tuple[str, ...]:
        # Of values that may be arrays or estimators, only texts compare well.
        return tuple(repr((defaults | params).get(name)) for name in names)

    # Halving tries the same on more and more rows.
    tried = {key_of(params): params for params in given}
    varied = [
        name
        for name, texts in zip(names, zip(*tried, strict=True), strict=True)
        if len(set(texts)) > 1
    ]
    if param is None and len(varied or names) == 1:
        (param,) = varied or names
    if param not in names:
        raise ValueError(
            f"{caller} needs a parameter of the search, param= one of "
            f"{', '.join(names)}. Got {param!r}."
        )
    best = key_of(getattr(search, "best_params_", given[0]))
    at = names.index(param)

    def is_like_best(key: tuple[str, ...]) -> bool:
        return (*key[:at], *key[at + 1 :]) == (*best[:at], *best[at + 1 :])

    chosen = [params for key, params in tried.items() if is_like_best(key)]
    chosen = chosen if len(chosen) > 1 else list(tried.values())
    values: list[Any] = [(defaults | params).get(param) for params in chosen]
    if all(isinstance(value, int | float | np.number) for value in values):
        in_order = [chosen[i] for i in np.argsort(values, kind="stable")]
    else:
        in_order = chosen
    shown = _names([defaults | params for params in in_order], param, varied)
    return [
        Candidate(name, params, key_of(params) == best)
        for name, params in zip(shown, in_order, strict=True)
    ]


def _names(
    settings: Sequence[dict[str, Any]], param: str, varied: Sequence[str]
) -> list[str]:
    """Return a name for each setting: as short as tells them apart."""

    def named(params: dict[str, Any], keys: Sequence[str], *, exact: bool) -> str:
        texts = []
        for key in keys:
            value = params.get(key)
            is_long = isinstance(value, float) and not exact
            texts.append(
                f"{key.split('__')[-1]}={f'{value:.4g}' if is_long else value}"
            )
        return ", ".join(texts)

    others = [param, *(name for name in varied if name != param)]
    for keys, exact in (([param], False), ([param], True), (others, False)):
        names = [named(params, keys, exact=exact) for params in settings]
        if len(set(names)) == len(names):
            return names
    return [named(params, others, exact=True) for params in settings]


def curves_of(
    search: Any,
    candidates: Sequence[Candidate],
    X: Any,
    y: Any,
    groups: Any,
    caller: str,
) -> list[tuple[Candidate, dict[str, Any]]]:
    """Return candidates with the curves of their training, means over the folds.

    Those of which a training fails are left out with a warning, unless all do.
    """
    cv = check_cv(search.cv, as_array(y), classifier=True)
    folds = list(cv.split(X, y, groups))
    if not folds:
        raise ValueError(
            f"{caller} needs the folds of the search, and its cv={search.cv!r} has "
            "none left. Give it a list instead of an iterator."
        )
    with joblib.parallel_config(backend="torchblob"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the search has warned
        outcomes = joblib.Parallel()(
            joblib.delayed(_outcome)(
                search.estimator,
                candidate.params,
                *(_take(part, rows) for rows in fold for part in (X, y)),
                caller,
            )
            for candidate in candidates
            for fold in folds
        )
    found = []
    errors: list[tuple[Candidate, Exception]] = []
    for i, candidate in enumerate(candidates):
        of_folds = outcomes[i * len(folds) : (i + 1) * len(folds)]
        failures = [one for one in of_folds if isinstance(one, Exception)]
        if failures:
            errors.append((candidate, failures[0]))
        else:
            found.append((candidate, _mean(of_folds)))
    if not found:
        raise errors[0][1]
    for candidate, error in errors:
        warnings.warn(
            f"{caller} leaves out {candidate.name}, which can't be trained: {error}",
            UserWarning,
            stacklevel=3,
        )
    return found


def _outcome(*args: Any) -> dict[str, Any] | Exception:
    """Return the curves of a training, or why it failed, which ends no other."""
    try:
        return _curves(*args)
    except Exception as error:
        return error


def _curves(
    estimator: Any,
    params: dict[str, Any],
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    caller: str,
) -> dict[str, Any]:
    """Return the curves of a training, which the validation rows don't change."""
    estimator = clone(estimator).set_params(**clone(params, safe=False))
    network, _ = last_estimator(estimator)
    if not isinstance(network, TorchBlobClassifier):
        raise ValueError(
            f"{caller} needs a search of a TorchBlobClassifier, also at the end of a "
            f"Pipeline. Got {estimator!r}."
        )
    while hasattr(estimator, "steps"):
        if len(estimator.steps) > 1:
            before = estimator[:-1]
            X, X_val = before.fit_transform(X, y), before.transform(X_val)
        estimator = estimator[-1]
    # A class that the fold does not train on has no loss.
    is_known = np.flatnonzero(np.isin(as_array(y_val), np.unique(as_array(y))))
    validation = {}
    if len(is_known) and not network.early_stopping:
        validation = {"X_val": _take(X_val, is_known), "y_val": _take(y_val, is_known)}
    history = network.set_params(verbose=0).fit(X, y, **validation).history_
    return {
        name: np.array([row[name] for row in history])
        for name in CURVES
        if name in history[0]
    }


def _mean(curves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of curves, as far as all of them go."""
    n_epochs = min(len(of_fold["train_loss"]) for of_fold in curves)
    means: dict[str, Any] = {"epochs": np.arange(1, n_epochs + 1)}
    for name in set.intersection(*map(set, curves)):
        means[name] = np.mean([of_fold[name][:n_epochs] for of_fold in curves], axis=0)
    return means


def _take(data: Any, rows: np.ndarray) -> Any:
    """Return some rows of an array, a tensor, a frame or a list."""
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    return (data if hasattr(data, "shape") else np.asarray(data))[rows]
