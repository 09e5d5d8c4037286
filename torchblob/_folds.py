"""Candidates on the folds of a cross-validation, whose networks train together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.ma import MaskedArray
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline

from torchblob._classifier import TorchBlobClassifier
from torchblob._data import Table
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
    try:
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
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name}, with cv={cv!r:.80}: {error}") from error
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
    """

    member: Pipeline
    log_proba: np.ndarray

    @property
    def n_epochs(self) -> int:
        """The epochs that gave the network its weights."""
        network = self.member["network"]
        return int(network.best_epoch_ or network.n_iter_)


@dataclass
class CrossValidation:
    """Rows, and the folds on which candidates are trained and asked.

    Parameters
    ----------
    table : Table
        Rows, with an array or a CSR matrix as `X`.
    loss_weights : ndarray of shape (n_samples,)
        Weight of each row in the losses, >= 0: its own times that of its class.
    splits : list of Split
        The folds.
    classes : ndarray of shape (n_classes,)
        All labels.
    dtype : torch.dtype
        Precision of columns and networks.
    device : str or torch.device
        Of the networks.
    seeds : ndarray of int
        Of the network of each fold, and of one that is trained on all rows.
    """

    table: Table
    loss_weights: np.ndarray
    splits: list[Split]
    classes: np.ndarray
    dtype: torch.dtype
    device: str | torch.device
    seeds: np.ndarray
    _encoding: str = field(default="", init=False)
    _encoded: list[tuple[ColumnEncoder, Any, Any]] = field(init=False)

    def train(
        self, candidates: Sequence[Mapping[str, Any]]
    ) -> list[list[Outcome] | DivergedError]:
        """Return what becomes of each candidate on all folds; one may diverge.

        Parameters
        ----------
        candidates : list of dict
            Their settings, with the same encoding.
        """
        self._encode_folds(candidates[0]["encoding"])
        tasks = [
            delayed(self._train_fold)(candidate, number)
            for candidate in candidates
            for number in range(len(self.splits))
        ]
        # Whatever is chosen outside: stacks are what makes this fast.
        parallel = Parallel(backend="torchblob", n_jobs=-1, verbose=0)
        outcomes = iter(parallel(tasks))
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
        encoder, X = self._encode(candidate["encoding"], slice(None))
        settings = dict(candidate) | {"max_epochs": n_epochs}
        network = self._make_network(settings, self.seeds[-1])
        _fit(network, self._part(X, slice(None)), None)
        return Pipeline([("encoder", encoder), ("network", network)])

    def _encode_folds(self, encoding: str) -> None:
        """Make the rows of each fold ready, and forget those of another encoding."""
        if encoding == self._encoding:
            return
        self._encoding, self._encoded = encoding, []
        for train, valid in self.splits:
            encoder, X = self._encode(encoding, train)
            X_valid = encoder.encode(self.table.X[valid])
            self._encoded.append((encoder, X, X_valid))

    def _encode(
        self, encoding: str, at: np.ndarray | slice
    ) -> tuple[ColumnEncoder, Any]:
        """Return an encoder that is fitted to rows, and these rows encoded."""
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        encoder, X = ColumnEncoder(encoding, dtype=dtype), self.table.X[at]
        encoder.fit(X, sample_weight=self.table.weights[at])
        return encoder, encoder.encode(X)

    def _train_fold(
        self, candidate: Mapping[str, Any], number: int
    ) -> Outcome | DivergedError:
        train, valid = self.splits[number]
        encoder, X, X_valid = self._encoded[number]
        table, validation = self._part(X, train), self._part(X_valid, valid)
        is_judged = np.isin(validation.y, table.y) & (validation.weights > 0)
        if not is_judged.all():
            validation = validation.where(is_judged)
        network = self._make_network(candidate, self.seeds[number])
        try:
            _fit(network, table, validation if is_judged.any() else None)
        except DivergedError as error:
            return error
        log_proba = _aligned(network, X_valid, self.classes)
        return Outcome(
            Pipeline([("encoder", encoder), ("network", network)]), log_proba
        )

    def _part(self, X: Any, at: np.ndarray | slice) -> Table:
        """Return rows of the table, with encoded columns and weights in the loss."""
        return Table(X, self.table.y[at], self.loss_weights[at], self.table.rows[at])

    def _make_network(
        self, candidate: Mapping[str, Any], seed: int
    ) -> TorchBlobClassifier:
        settings = {param: v for param, v in candidate.items() if param != "encoding"}
        return TorchBlobClassifier(
            **settings,
            optimizer="adamw",
            lr_schedule="cosine",
            device=self.device,
            dtype=str(self.dtype).removeprefix("torch."),
            random_state=int(seed),
        )


def _fit(network: TorchBlobClassifier, table: Table, validation: Table | None) -> None:
    """Train a network; the loss of other rows, if there are any, chooses the epoch."""
    if validation is not None:
        patience = max(1, round(PATIENCE * network.max_epochs))
        network.set_params(early_stopping=True, n_iter_no_change=patience, tol=0.0)
    network._fit_checked(table, validation)


def log_proba_of(member: Pipeline, X: Any, classes: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities that a member gives to rows.

    Parameters
    ----------
    member : Pipeline
        A fitted encoder and a network that knows some of the classes.
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        Checked rows.
    classes : ndarray of shape (n_classes,)
        All classes, sorted.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        -inf for classes that the member does not know.
    """
    encoder, network = member["encoder"], member["network"]
    step = max(1, BLOCK_FLOATS // X.shape[1])
    blocks = (X[start : start + step] for start in range(0, X.shape[0], step))
    return np.concatenate(
        [_aligned(network, encoder.encode(rows), classes) for rows in blocks]
    )


def _aligned(network: TorchBlobClassifier, X: Any, classes: np.ndarray) -> np.ndarray:
    log_proba = network.predict_log_proba(X)
    if len(network.classes_) == len(classes):
        return log_proba
    aligned = np.full((len(log_proba), len(classes)), -np.inf, log_proba.dtype)
    aligned[:, np.searchsorted(classes, network.classes_)] = log_proba
    return aligned


def out_of_fold(
    outcomes: Sequence[Outcome], folds: CrossValidation
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what networks say of the rows of their folds, and what is right.

    Rows of a class that a network was not trained on are left out.

    Returns
    -------
    log_proba : ndarray of shape (n, n_classes)
        Logarithms of probabilities.
    codes : ndarray of shape (n,)
        Class index of each row.
    weights : ndarray of shape (n,)
        Weight of each row in the loss, > 0.
    """
    rows = np.concatenate([valid for _, valid in folds.splits])
    log_proba = np.concatenate([outcome.log_proba for outcome in outcomes])
    codes = np.searchsorted(folds.classes, folds.table.y[rows])
    weights = folds.loss_weights[rows]
    counts = np.isfinite(log_proba[np.arange(len(codes)), codes]) & (weights > 0)
    return log_proba[counts], codes[counts], weights[counts]


@dataclass(frozen=True)
class Trial:
    """How well a candidate did.

    Parameters
    ----------
    candidate : dict
        Its settings.
    outcomes : list of Outcome
        What became of it on each fold; none if it could not be trained.
    temperature : float
        By which its logits are divided.
    scores, score_times : ndarray of shape (n_splits,)
        Its score on each fold, or NaN, and the seconds that took.
    fit_time : float
        Seconds that the training of one of its networks took.
    """

    candidate: Mapping[str, Any]
    outcomes: list[Outcome]
    temperature: float
    scores: np.ndarray
    score_times: np.ndarray
    fit_time: float


class Scoreboard:
    """Scores and times of the candidates that were tried.

    Attributes
    ----------
    best : Trial or None
        The first of those with the highest mean score; None while none has one.
    best_index : int
        Which it was.
    """

    def __init__(self) -> None:
        self.best: Trial | None = None
        self.best_index = -1
        self._rows: list[tuple[Mapping[str, Any], np.ndarray, np.ndarray, float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, trial: Trial) -> None:
        """Note a trial, and keep its networks if it is the best so far."""
        best = -math.inf if self.best is None else self.best.scores.mean()
        if trial.scores.mean() > best:  # which NaN is not
            self.best, self.best_index = trial, len(self)
        self._rows.append(
            (trial.candidate, trial.scores, trial.score_times, trial.fit_time)
        )

    def results(self) -> dict[str, Any]:
        """Return all of it in the form of GridSearchCV's `cv_results_`."""
        candidates, scores, score_times, fit_times = zip(*self._rows, strict=True)
        results: dict[str, Any] = {
            "mean_fit_time": np.array(fit_times),
            "std_fit_time": np.zeros(len(self)),
            "mean_score_time": np.mean(score_times, axis=1),
            "std_score_time": np.std(score_times, axis=1),
        }
        for param in candidates[0]:
            column = np.empty(len(self), dtype=object)
            for at, candidate in enumerate(candidates):
                column[at] = candidate[param]  # one by one: tuples stay tuples
            results[f"param_{param}"] = MaskedArray(column, mask=False)
        results["params"] = [dict(candidate) for candidate in candidates]
        for number, of_fold in enumerate(np.transpose(scores)):
            results[f"split{number}_test_score"] = of_fold
        means = results["mean_test_score"] = np.mean(scores, axis=1)
        results["std_test_score"] = np.std(scores, axis=1)
        worst_last = np.where(np.isnan(means), np.inf, -means)
        ranks = rankdata(worst_last, method="min").astype(np.int32)
        results["rank_test_score"] = ranks
        return results
