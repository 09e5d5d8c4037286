"""Candidates on the folds of a cross-validation, whose networks train together."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.ma import MaskedArray
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline

from torchblob._classifier import TorchBlobClassifier
from torchblob._data import Table, errors_about
from torchblob._encoder import ColumnEncoder
from torchblob.training import DivergedError

PATIENCE = 0.3
"""Share of the epochs without progress after which a network stops."""

BLOCK_FLOATS = 2**21
"""Numbers that are encoded at a time for predictions: at most 9 times as many."""

Split = tuple[np.ndarray, np.ndarray]
"""The rows of a table to train on, and those of the fold, as indices."""


def splits_of(
    cv: Any, table: Table, data: tuple[Any, Any, Any], seed: int, name: str
) -> list[Split]:
    """Return the folds of a table, of which rows of weight 0 are no part.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        As scikit-learn has it, but an int's folds are shuffled.
    table : Table
        Checked rows.
    data : tuple
        X and groups as the user passed them, and labels, for a splitter or an iterable,
        whose indices count all rows.
    seed : int
        Of the shuffle.
    name : str
        Of the estimator, for errors.

    Raises
    ------
    ValueError
        If there is no fold, a fold has no rows, or the rest not two classes.
    """
    with errors_about(f"{name}, with cv={cv!r}"):
        if cv is None or isinstance(cv, Integral):
            folds = StratifiedKFold(
                5 if cv is None else cv, shuffle=True, random_state=seed
            )
            splits = list(folds.split(np.zeros(len(table.y)), table.y))
        else:
            X, y, groups = data
            place = np.full(len(y), -1)
            place[table.rows] = np.arange(len(table.rows))
            splits = [
                tuple(place[part][place[part] >= 0] for part in split)
                for split in check_cv(cv, y, classifier=True).split(X, y, groups)
            ]
        for number, (train, valid) in enumerate(splits):
            if len(valid) == 0 or len(np.unique(table.y[train])) < 2:
                raise ValueError(
                    "each fold needs rows of its own, and two classes in the other "
                    f"rows. Fold {number} has {len(valid)} rows, and the others are of "
                    f"the classes {np.unique(table.y[train]).tolist()}: use fewer "
                    "folds, or leave rare classes out."
                )
        if not splits:
            raise ValueError("at least one fold is needed. Got none.")
    return splits


@dataclass(frozen=True)
class Outcome:
    """What became of a network that was trained on the rows outside of a fold.

    Parameters
    ----------
    member : Pipeline
        The encoder of the columns and the network.
    log_proba : ndarray of shape (n_valid, n_classes)
        Logarithm of the probability of each class, -inf for a class that was not
        trained on, for the rows of the fold.
    score : float
        How good that is.
    score_time : float
        Seconds that it took to find out.
    """

    member: Pipeline
    log_proba: np.ndarray
    score: float
    score_time: float

    @property
    def n_epochs(self) -> int:
        """The epochs that gave the network its weights."""
        network = self.member["network"]
        return int(network.best_epoch_ or network.n_iter_)


@dataclass(frozen=True)
class CrossValidation:
    """Rows, their folds, and how candidates are judged on them.

    Parameters
    ----------
    table : Table
        Rows, with an array or a CSR matrix as `X`.
    splits : list of Split
        The folds.
    classes : ndarray of shape (n_classes,)
        All labels.
    factors : ndarray of shape (n_classes,)
        Weight of each class in the losses, beside those of its rows.
    score : callable (member, table, log_proba) -> float
        Judges what a member says of the rows of a table.
    params : dict
        Parameters of all networks.
    dtype : numpy dtype
        Of the encoded columns.
    seeds : ndarray of int
        Of the network of each fold, and of one that is trained on all rows.
    """

    table: Table
    splits: list[Split]
    classes: np.ndarray
    factors: np.ndarray
    score: Callable[[Pipeline, Table, np.ndarray], float]
    params: Mapping[str, Any]
    dtype: Any
    seeds: np.ndarray

    def train(
        self, candidates: Sequence[Mapping[str, Any]]
    ) -> list[list[Outcome] | DivergedError]:
        """Return what becomes of each candidate on all folds; one may diverge."""
        tasks = [
            delayed(self._train_fold)(candidate, number)
            for candidate in candidates
            for number in range(len(self.splits))
        ]
        # Whatever backend is chosen outside: stacks are what makes this fast.
        outcomes = iter(Parallel(backend="torchblob", n_jobs=-1)(tasks))
        results: list[list[Outcome] | DivergedError] = []
        for _ in candidates:
            of_one = [next(outcomes) for _ in self.splits]
            failed = [o for o in of_one if isinstance(o, DivergedError)]
            results.append(failed[0] if failed else of_one)
        return results

    def train_on_all(self, candidate: Mapping[str, Any], n_epochs: int) -> Pipeline:
        """Return a network that is trained on all rows, for so many epochs.

        Raises
        ------
        DivergedError
            If its loss turns infinite or NaN.
        """
        member = self._make(dict(candidate) | {"max_epochs": n_epochs}, self.seeds[-1])
        self._fit(member, np.arange(len(self.table.y)))
        return member

    def _train_fold(
        self, candidate: Mapping[str, Any], number: int
    ) -> Outcome | DivergedError:
        train, valid = self.splits[number]
        member = self._make(candidate, self.seeds[number])
        try:
            self._fit(member, train, valid)
        except DivergedError as error:
            return error
        begin = time.perf_counter()
        rows = _rows(self.table, valid)
        log_proba = aligned_log_proba(member, rows.X, self.classes)
        score = self.score(member, rows, log_proba)
        return Outcome(member, log_proba, score, time.perf_counter() - begin)

    def _make(self, candidate: Mapping[str, Any], seed: int) -> Pipeline:
        settings = dict(candidate)
        encoder = ColumnEncoder(settings.pop("encoding"), dtype=self.dtype)
        network = TorchBlobClassifier(
            **settings,
            **self.params,
            optimizer="adamw",
            lr_schedule="cosine",
            random_state=int(seed),
        )
        return Pipeline([("encoder", encoder), ("network", network)])

    def _fit(
        self, member: Pipeline, train: np.ndarray, valid: np.ndarray | None = None
    ) -> None:
        """Fit encoder and network to rows; the loss of others chooses the epoch."""
        encoder, network = member["encoder"], member["network"]
        y, weights = self.table.y[train], self.table.weights[train]
        X = self.table.X[train]
        X = encoder.fit(X, sample_weight=weights).transform(X)
        is_known = np.isin(self.classes, y)
        if (self.factors != 1).any():
            factors = zip(self.classes[is_known], self.factors[is_known], strict=True)
            network.set_params(class_weight=dict(factors))
        others: dict[str, Any] = {}
        if valid is not None:
            has_loss = self.classes[is_known & (self.factors > 0)]
            valid = valid[np.isin(self.table.y[valid], has_loss)]
        if valid is not None and len(valid):
            patience = max(1, round(PATIENCE * network.max_epochs))
            network.set_params(early_stopping=True, n_iter_no_change=patience, tol=0.0)
            held_out = _rows(self.table, valid)
            others["X_val"] = encoder.transform(held_out.X)
            others["y_val"] = held_out.y
            others["sample_weight_val"] = held_out.weights
        with warnings.catch_warnings():
            # Whether to train for longer is not the user's concern here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                network.fit(X, y, weights, **others)
            except ValueError as error:
                if isinstance(error.__cause__, DivergedError):
                    raise error.__cause__ from None
                raise


def _rows(table: Table, at: np.ndarray) -> Table:
    return Table(table.X[at], table.y[at], table.weights[at], table.rows[at])


def aligned_log_proba(member: Pipeline, X: Any, classes: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities, -inf for classes that a member lacks.

    Parameters
    ----------
    member : Pipeline
        A fitted classifier of some of the classes.
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        Rows.
    classes : ndarray of shape (n_classes,)
        All classes, sorted.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
    """
    step = max(1, BLOCK_FLOATS // X.shape[1])
    blocks = [X[start : start + step] for start in range(0, X.shape[0], step)]
    log_proba = np.concatenate([member.predict_log_proba(rows) for rows in blocks])
    if len(member.classes_) == len(classes):
        return log_proba
    aligned = np.full((len(log_proba), len(classes)), -np.inf, log_proba.dtype)
    aligned[:, np.searchsorted(classes, member.classes_)] = log_proba
    return aligned


class Scoreboard:
    """Scores and times of the candidates that were tried.

    Parameters
    ----------
    n_splits : int
        Number of folds.

    Attributes
    ----------
    candidates : list of dict
        Their settings.
    best_index : int
        The first of those with the highest mean score; -1 while none has one.
    best : list of Outcome
        What became of it, on each fold.
    """

    def __init__(self, n_splits: int) -> None:
        self.n_splits = n_splits
        self.candidates: list[Mapping[str, Any]] = []
        self.best_index = -1
        self.best: list[Outcome] = []
        self._scores: list[np.ndarray] = []
        self._fit_times: list[np.ndarray] = []
        self._score_times: list[np.ndarray] = []

    @property
    def best_score(self) -> float:
        """The mean score of the best candidate."""
        return float(self._scores[self.best_index].mean()) if self.best else -math.inf

    def add(
        self,
        candidate: Mapping[str, Any],
        outcomes: list[Outcome] | None,
        fit_time: float,
    ) -> np.ndarray:
        """Note what became of a candidate on each fold; return its scores.

        Parameters
        ----------
        candidate : dict
            Its settings.
        outcomes : list of Outcome or None
            Of each fold; None if it could not be trained.
        fit_time : float
            Seconds that the training of one of its networks took.
        """
        scores = score_times = np.full(self.n_splits, np.nan)
        if outcomes is not None:
            scores = np.array([outcome.score for outcome in outcomes])
            score_times = np.array([outcome.score_time for outcome in outcomes])
        if outcomes is not None and scores.mean() > self.best_score:  # which NaN is not
            self.best_index, self.best = len(self.candidates), outcomes
        self.candidates.append(candidate)
        self._scores.append(scores)
        self._fit_times.append(np.full(self.n_splits, fit_time))
        self._score_times.append(score_times)
        return scores

    def results(self) -> dict[str, Any]:
        """Return all of it in the form of GridSearchCV's `cv_results_`."""
        results: dict[str, Any] = {}
        times = {"fit_time": self._fit_times, "score_time": self._score_times}
        for name, values in times.items():
            results[f"mean_{name}"] = np.mean(values, axis=1)
            results[f"std_{name}"] = np.std(values, axis=1)
        for param in self.candidates[0]:
            column = np.empty(len(self.candidates), dtype=object)
            for at, candidate in enumerate(self.candidates):
                column[at] = candidate[param]  # one by one: tuples stay tuples
            results[f"param_{param}"] = MaskedArray(column, mask=False)
        results["params"] = [dict(candidate) for candidate in self.candidates]
        scores = np.array(self._scores)
        for number, of_fold in enumerate(scores.T):
            results[f"split{number}_test_score"] = of_fold
        means = results["mean_test_score"] = scores.mean(axis=1)
        results["std_test_score"] = scores.std(axis=1)
        worst_last = np.where(np.isnan(means), np.inf, -means)
        ranks = rankdata(worst_last, method="min").astype(np.int32)
        results["rank_test_score"] = ranks
        return results
