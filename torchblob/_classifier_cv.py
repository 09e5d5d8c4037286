"""TorchBlobClassifierCV: a network chosen by cross-validation, and its ensemble."""

from __future__ import annotations

import copy
import functools
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from numbers import Integral
from operator import itemgetter
from typing import Any, cast

import numpy as np
import torch
from scipy import sparse
from scipy.special import entr, log_softmax
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.metrics import accuracy_score, check_scoring
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from torchblob._candidates import make_candidates
from torchblob._data import (
    Table,
    check_features,
    check_table,
    class_factors,
    classes_of,
    encode_labels,
    is_float64,
    plain_labels,
    scaled_product,
    to_features,
)
from torchblob._estimator import TensorClassifierMixin, like, unchanged_on_error
from torchblob._folds import (
    CrossValidation,
    Outcome,
    Scoreboard,
    Trial,
    log_proba_of,
    out_of_fold,
    splits_of,
)
from torchblob._parameters import CHOSEN_TYPES, CV_TYPES, check_values
from torchblob._problem import seed_of
from torchblob._temperature import fit_temperature
from torchblob.training import DivergedError, resolve_device, resolve_dtype


class TorchBlobClassifierCV(TensorClassifierMixin, BaseEstimator):
    """Neural networks chosen by cross-validation, which predict together.

    A classifier for tables of numbers as they come: columns of any unit and with long
    tails need no scaling first. Every candidate is trained once for each fold, on all
    other rows, the networks of all folds side by side as one stack; the fold's own
    rows choose the epoch and score the candidate. The networks of the best candidate
    then predict by their average.

    A parameter from `hidden_units` to `max_epochs` is a value, or a list or array of
    candidates; all combinations are tried.

    Parameters
    ----------
    hidden_units : int, tuple of int, list of these, or "auto", default="auto"
        As in :class:`TorchBlobClassifier`: an int stands for two hidden layers of that
        many units, a tuple gives the units of each hidden layer. "auto" is
        `[64, (128,)]` for the standard encoding and 64 for the other.
    encoding : {"standard", "piecewise_linear"}, list of these, or "auto", \
default="auto"
        What the networks see of a column. "standard" is one number, standardized and
        with far values drawn in. "piecewise_linear" adds up to 8 more, one for each bin
        of equal numbers of rows: 0 below the bin, 1 above it, linear within (Gorishniy,
        Rubachev and Babenko, NeurIPS 2022). "auto" tries both, or only the first for
        sparse data and for more than 256 columns.
    activation : str, list of str, or "auto", default="auto"
        Of the hidden units, as in :class:`TorchBlobClassifier`. "auto" is "silu" for
        the standard encoding and "relu" for the other.
    dropout : float in [0, 1) or list of float, default=0.0
        Probability with which a hidden unit is dropped in a training step.
    lr : float, list of float, or "auto", default="auto"
        Learning rate of AdamW, which falls to 0 as a cosine. "auto" is 0.02 for the
        standard encoding and 0.004 for the other.
    weight_decay : float or list of float, default=0.01
        Decoupled decay of the weights.
    label_smoothing : float in [0, 1) or list of float, default=0.1
        Share of each target that is spread evenly over all classes.
    batch_size : int, None or list of these, default=128
        Rows a step, drawn anew in each epoch; None is all rows.
    max_epochs : int, list of int, or "auto", default="auto"
        Passes over the data, of which the best is kept. "auto" makes 2000 steps, but
        at least 10 epochs and at most 200.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the loss, as in :class:`TorchBlobClassifier`.
    cv : int, splitter or iterable, default=5
        The folds. An int is that many folds, shuffled, each class in proportion; others
        are as in :class:`~sklearn.model_selection.GridSearchCV`. None is 5.
    scoring : str, callable or None, default=None
        What the best candidate has most of, on average over the folds: a scorer as in
        scikit-learn; None is the accuracy.
    refit : bool, default=False
        Whether to train a single network on all rows, with the settings of the best
        candidate and the mean of its folds' numbers of epochs, to predict instead of
        the networks of the folds. It is smaller and predicts faster, but less well.
    calibrate : bool, default=True
        Whether to divide the logits of each network by a temperature, `temperature_`,
        that makes its probabilities fit the labels of rows that it was not trained on.
        Their mean, where they disagree, is a little less sure than that.
    time_limit : float or None, default=None
        Seconds after which no other candidate begins. The first is always tried;
        `cv_results_` has those that were.
    device : str or torch.device, default="auto"
        Where to compute, as in :class:`TorchBlobClassifier`.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the networks. "auto" is float64 for float64 data on a CPU, else
        float32, which is as good and up to twice as fast.
    random_state : int, RandomState instance or None, default=None
        Determines the folds, initial weights and shuffles. None is a fresh seed.
    verbose : int or bool, default=0
        Whether to print a line for each candidate.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    members_ : list of Pipeline
        What predicts: for each fold an encoder of the columns and a
        :class:`TorchBlobClassifier`; with `refit` just one of these. They take the
        columns as they come, without names.
    device_ : torch.device
        Where the networks are.
    best_params_ : dict
        The settings of the best candidate, for another TorchBlobClassifierCV, or, but
        for the encoding, for a TorchBlobClassifier.
    best_score_ : float
        Its mean score over the folds, of networks one by one.
    best_index_ : int
        Its index in `cv_results_`.
    cv_results_ : dict of ndarrays
        Scores and times of all candidates that were tried, as in
        :class:`~sklearn.model_selection.GridSearchCV`. As networks train together, the
        time of a fit is the share of one in the time of all.
    oof_proba_ : ndarray of shape (n_samples, n_classes)
        Out-of-fold probabilities: what the best candidate's networks that were not
        trained on a row say of it, on average. NaN for rows of no fold, or of weight 0.
    temperature_ : float
        What the logits are divided by; 1 without `calibrate`.
    n_splits_ : int
        Number of folds.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had names that are all strings.

    See Also
    --------
    TorchBlobClassifier : A single network, with all its settings.
    sklearn.linear_model.LogisticRegressionCV : The linear model in this manner.

    Notes
    -----
    `best_score_` and `oof_proba_` are a little better than what new rows will get: the
    same rows have chosen the epochs and the candidate. They are a little worse in that
    a single network does less well than the average. To know, hold out rows.

    Scores are those of networks one by one, at the temperature of their candidate. Row
    weights weigh the scale and the bins of the columns, losses, temperature and, if the
    scorer takes them, scores: a weight of 2 equals a repeated row in the same fold,
    as long as all rows make one batch; a weight of 0 equals a removed row.

    The training takes the memory of the encoded rows of each fold: 5 to 45 times that
    of the table, with five folds and depending on the encoding.

    The default recipe is the outcome of trials on 12 data sets; the page on benchmarks
    has the figures.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from torchblob import TorchBlobClassifierCV
    >>> X, y = load_wine(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = TorchBlobClassifierCV(device="cpu", random_state=0).fit(X_train, y_train)
    >>> clf.score(X_test, y_test) > 0.95
    True
    >>> len(clf.members_), len(clf.cv_results_["params"])
    (5, 3)
    """

    _parameter_constraints = CV_TYPES

    def __init__(
        self,
        hidden_units: Any = "auto",
        *,
        encoding: Any = "auto",
        activation: Any = "auto",
        dropout: Any = 0.0,
        lr: Any = "auto",
        weight_decay: Any = 0.01,
        label_smoothing: Any = 0.1,
        batch_size: Any = 128,
        max_epochs: Any = "auto",
        class_weight: dict[Any, float] | str | None = None,
        cv: Any = 5,
        scoring: Any = None,
        refit: bool = False,
        calibrate: bool = True,
        time_limit: float | None = None,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_units = hidden_units
        self.encoding = encoding
        self.activation = activation
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.calibrate = calibrate
        self.time_limit = time_limit
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None
    ) -> TorchBlobClassifierCV:
        """Try the candidates, and keep the networks of the best.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Training data; not modified. Numbers, all finite.
        y : array-like or tensor of shape (n_samples,)
            Class labels: strings, ints, bools.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, >= 0; None is 1 for each.
        groups : array-like of shape (n_samples,), default=None
            Which rows belong together, for a `cv` that keeps groups apart.

        Returns
        -------
        self : TorchBlobClassifierCV
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described; if the rows outside of a
            fold are all of one class; if no candidate could be trained. A model fitted
            before stays as it was.
        MemoryError
            If there is no memory for the networks or the data.
        KeyboardInterrupt
            At Ctrl-C; the classifier is as it was before the call.

        Warns
        -----
        sklearn.exceptions.FitFailedWarning
            If the loss of a candidate has turned infinite or NaN. Its scores are NaN.
        sklearn.exceptions.ConvergenceWarning
            If the best candidate does no better than answers with the share of each
            class, by its loss on the rows of the folds.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifierCV
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifierCV([4, 16], encoding="standard", random_state=0)
        >>> clf = clf.fit(X, y)
        >>> clf.cv_results_["param_hidden_units"].tolist()
        [4, 16]
        >>> clf.oof_proba_.shape
        (150, 3)
        """
        begin = time.monotonic()
        self._check_parameters()
        name = type(self).__name__
        with unchanged_on_error(self):
            if groups is not None and (
                self.cv is None or isinstance(self.cv, Integral)
            ):
                raise ValueError(
                    f"{name} needs a cv that keeps groups apart if it gets groups. Got "
                    f"cv={self.cv}: use sklearn.model_selection.GroupKFold(5), for "
                    "example."
                )
            given = check_table(self, X, y, sample_weight, reset=True)
            table = self._ready(given)
            self.classes_ = classes_of(table.y, self)
            codes = encode_labels(table.y, self.classes_, f"{name}: y")
            factors = class_factors(
                self.class_weight, codes, self.classes_, table.weights, self
            )
            seed = seed_of(self.random_state)
            labels = plain_labels(y).ravel()  # of all rows, also those of weight 0
            splits = splits_of(self.cv, table, (X, labels, groups), seed, name)
            device = resolve_device(self.device, name)
            folds = CrossValidation(
                table,
                loss_weights=scaled_product(table.weights, factors[codes]),
                splits=splits,
                classes=self.classes_,
                dtype=resolve_dtype(self.dtype, is_float64(given.X), device, name),
                device=device,
                seeds=np.random.SeedSequence(seed).generate_state(len(splits) + 1),
            )
            candidates = make_candidates(
                vars(self),
                name,
                n_samples=max(len(train) for train, _ in splits),
                n_features=table.X.shape[1],
                is_sparse=sparse.issparse(table.X),
            )
            weighted = sample_weight is not None
            board = self._try(candidates, folds, begin, weighted=weighted)
            self._keep(board, folds, len(labels))
        return self

    def predict(self, X: Any) -> Any:
        """Return the class with the largest probability; ties go to the first.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.

        Returns
        -------
        labels : array of shape (n_samples,)
            Entries of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifierCV
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifierCV(8, encoding="standard", random_state=0)
        >>> clf.fit(X, y).predict(X[[0, 149]])
        array([0, 2])
        """
        codes = torch.from_numpy(self._log_proba(X).argmax(1))
        return self._labels_like(X, codes)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, the mean over the members.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            In the order of `classes_`; rows sum to 1.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifierCV
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifierCV(8, encoding="standard", random_state=0)
        >>> clf.fit(X, y).predict_proba(X[:5]).sum(axis=1).round(6)
        array([1., 1., 1., 1., 1.])
        """
        return like(X, torch.from_numpy(np.exp(self._log_proba(X))))

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_probabilities : array of shape (n_samples, n_classes)
            In the order of `classes_`; finite where the probability rounds to 0, and
            -inf for a class that no member was trained on.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifierCV
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifierCV(8, encoding="standard", random_state=0)
        >>> bool((clf.fit(X, y).predict_log_proba(X) < 0).all())
        True
        """
        return like(X, torch.from_numpy(self._log_proba(X)))

    def disagreement(self, X: Any) -> Any:
        """Return how far the members differ in what they say of each row.

        A row of which all say "half this, half that" is hard, but known to be; where
        one is sure of this and another of that, the networks have seen too little like
        it. Probabilities alone don't tell these apart.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.

        Returns
        -------
        disagreement : array of shape (n_samples,)
            The entropy of the mean probabilities less the mean entropy of those of
            each member, in nats: 0 where all say the same, and at most the logarithm of
            the number of classes. It is the Jensen-Shannon divergence of the members,
            also called mutual information or epistemic uncertainty (Smith and Gal,
            Understanding Measures of Uncertainty for Adversarial Example Detection,
            UAI 2018).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite, or
            there is only one member.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifierCV
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifierCV(8, encoding="standard", random_state=0)
        >>> clear, doubtful = clf.fit(X, y).disagreement(X[[0, 70]])
        >>> bool(clear < doubtful)
        True
        """
        check_is_fitted(self)
        if len(self.members_) < 2:
            raise ValueError(
                f"{type(self).__name__}.disagreement needs two members or more. Got "
                "one: fit with refit=False."
            )
        proba = np.exp(list(self._each(X)))
        of_mean, of_each = entr(proba.mean(0)).sum(1), entr(proba).sum(2)
        difference = np.maximum(of_mean - of_each.mean(0), 0)
        return like(X, torch.from_numpy(difference))

    @property
    def device_(self) -> torch.device:
        """Where the networks are."""
        check_is_fitted(self)
        return self.members_[0]["network"].device_

    def _check_parameters(self) -> None:
        """Check the parameters, but for those of candidates."""
        self._validate_params()  # types, from `_parameter_constraints`
        name = type(self).__name__
        checked_otherwise = {*CHOSEN_TYPES, "scoring"}
        params = {p: v for p, v in vars(self).items() if p not in checked_otherwise}
        check_values(params, name)
        try:
            check_scoring(self, self.scoring)
        except ValueError as error:
            raise ValueError(
                f"The 'scoring' parameter of {name} must be a name of "
                "sklearn.metrics.get_scorer_names(), a callable (estimator, X, y) or "
                f"None. Got {self.scoring!r} instead."
            ) from error

    def _ready(self, table: Table) -> Table:
        """Return checked rows with features on the host and weights of at most 1."""
        features = self._features(table.X, table.rows)
        weights = scaled_product(table.weights, np.ones(1))
        table = Table(features, table.y, weights, table.rows)
        # Some may be too small beside the others to count.
        return table if weights.all() else table.where(weights > 0)

    def _features(self, X: Any, rows: np.ndarray | None = None) -> Any:
        """Return checked features as an array or a CSR matrix on the host.

        In float64 unless they are shorter floats: before a column is scaled, its
        values may differ in the last digits of large numbers.
        """
        host = torch.device("cpu")
        if isinstance(X, torch.Tensor):
            X = X.to(host)
        is_short = X.dtype in (np.float16, np.float32, torch.float16, torch.float32)
        dtype = torch.float32 if is_short else torch.float64
        features = to_features(X, dtype, self, host, rows)
        return features if sparse.issparse(features) else features.numpy()

    def _try(
        self,
        candidates: list[dict[str, Any]],
        folds: CrossValidation,
        begin: float,
        *,
        weighted: bool,
    ) -> Scoreboard:
        """Return how candidates do on the folds, as many as there is time for.

        Parameters
        ----------
        candidates : list of dict
            The settings of each.
        folds : CrossValidation
            Trains them.
        begin : float
            When the time began, by `time.monotonic`.
        weighted : bool
            Whether scores are weighted.
        """
        name, n_folds = type(self).__name__, len(folds.splits)
        board = Scoreboard()
        for batch in self._batches(candidates):
            start = time.monotonic()
            is_late = self.time_limit is not None and start - begin > self.time_limit
            if is_late and board.best is not None:
                self._say(
                    f"{len(candidates) - len(board)} of {len(candidates)} candidates "
                    f"not tried: time_limit={self.time_limit} is over"
                )
                break
            results = folds.train(batch)
            fit_time = (time.monotonic() - start) / (len(batch) * n_folds)
            for candidate, outcomes in zip(batch, results, strict=True):
                if isinstance(outcomes, DivergedError):
                    warnings.warn(
                        f"{name}: {outcomes}, for the candidate {candidate}. It is "
                        "left out; lower its lr.",
                        FitFailedWarning,
                        stacklevel=3,
                    )
                    nothing = np.full(n_folds, np.nan)
                    trial = Trial(candidate, [], 1.0, nothing, nothing, fit_time)
                else:
                    trial = self._judge(candidate, outcomes, folds, fit_time, weighted)
                board.add(trial)
                self._say(
                    f"{len(board)}/{len(candidates)} "
                    f"{_differences(candidate, candidates)}: "
                    f"score {trial.scores.mean():.4f} +- {trial.scores.std():.4f} "
                    f"({fit_time * n_folds:.1f} s)"
                )
        if board.best is None:
            raise ValueError(
                f"{name} needs a candidate that can be trained and has a score. Got "
                f"none of {len(board)}: lower lr, or use another scoring."
            )
        self._say(f"best: {_differences(board.best.candidate, candidates)}")
        return board

    def _judge(
        self,
        candidate: dict[str, Any],
        outcomes: list[Outcome],
        folds: CrossValidation,
        fit_time: float,
        weighted: bool,
    ) -> Trial:
        """Return how good the networks of a candidate are on their folds."""
        temperature = 1.0
        if self.calibrate:
            temperature = fit_temperature(*out_of_fold(outcomes, folds))
        scores, times = [], []
        for outcome, (_, valid) in zip(outcomes, folds.splits, strict=True):
            start = time.perf_counter()
            scores.append(self._score(outcome, temperature, folds, valid, weighted))
            times.append(time.perf_counter() - start)
        return Trial(
            candidate,
            outcomes,
            temperature,
            np.array(scores),
            np.array(times),
            fit_time,
        )

    def _score(
        self,
        outcome: Outcome,
        temperature: float,
        folds: CrossValidation,
        valid: np.ndarray,
        weighted: bool,
    ) -> float:
        """Return the score of a network on the rows of its fold."""
        table = folds.table
        y, weights = table.y[valid], table.weights[valid]
        if self.scoring is None:
            predicted = self.classes_[outcome.log_proba.argmax(1)]
            return float(accuracy_score(y, predicted, sample_weight=weights))
        alone = copy.copy(self)  # as it would be with this network only
        alone.members_, alone.temperature_ = [outcome.member], temperature
        alone.__dict__.pop("feature_names_in_", None)  # the rows are arrays by now
        X, scorer = table.X[valid], check_scoring(alone, self.scoring)
        try:
            if weighted:
                with suppress(TypeError):  # not every scorer takes weights
                    return float(scorer(alone, X, y, sample_weight=weights))
            return float(scorer(alone, X, y))
        except (TypeError, ValueError) as error:  # not all classes need be there
            raise ValueError(
                f"The 'scoring' parameter of {type(self).__name__} must suit the rows "
                f"of each fold, of the classes {np.unique(y).tolist()} here. Got "
                f"{self.scoring!r}, which says: {error} Use fewer folds if a rare "
                "class is missing, or another scoring."
            ) from error

    def _batches(
        self, candidates: list[dict[str, Any]]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield candidates that are worth training together, or one by one in haste."""
        if self.time_limit is not None:
            yield from ([candidate] for candidate in candidates)
            return
        for _, batch in groupby(candidates, itemgetter("encoding", "hidden_units")):
            yield list(batch)

    def _say(self, message: str) -> None:
        if self.verbose:
            print(f"[{type(self).__name__}] {message}")

    def _keep(self, board: Scoreboard, folds: CrossValidation, n_samples: int) -> None:
        """Make the networks of the best candidate this classifier's.

        Parameters
        ----------
        board : Scoreboard
            Which is the best.
        folds : CrossValidation
            The rows that they were trained on.
        n_samples : int
            Number of all rows, also of those of weight 0.
        """
        best = cast(Trial, board.best)
        self.cv_results_ = board.results()
        self.n_splits_ = len(folds.splits)
        self.best_index_ = board.best_index
        self.best_params_ = dict(best.candidate)
        self.best_score_ = float(best.scores.mean())
        self.temperature_ = best.temperature
        self._warn_if_useless(*out_of_fold(best.outcomes, folds))
        rows = folds.table.rows[np.concatenate([valid for _, valid in folds.splits])]
        log_proba = np.concatenate([outcome.log_proba for outcome in best.outcomes])
        proba = np.exp(self._tempered(log_proba))
        self.oof_proba_ = np.zeros((n_samples, len(self.classes_)), proba.dtype)
        np.add.at(self.oof_proba_, rows, proba)
        with np.errstate(invalid="ignore"):  # rows of no fold
            self.oof_proba_ /= np.bincount(rows, minlength=n_samples)[:, None]
        self.members_ = [outcome.member for outcome in best.outcomes]
        if self.refit:
            n_epochs = round(np.mean([outcome.n_epochs for outcome in best.outcomes]))
            try:
                self.members_ = [folds.train_on_all(best.candidate, n_epochs)]
            except DivergedError as error:
                raise ValueError(
                    f"{type(self).__name__}: {error}, when the best candidate was "
                    "trained on all rows. Lower lr, or use refit=False."
                ) from error

    def _warn_if_useless(
        self, log_proba: np.ndarray, codes: np.ndarray, weights: np.ndarray
    ) -> None:
        """Warn if rows outside of the training could as well be answered unseen."""
        if not len(codes):
            return
        of_label = self._tempered(log_proba)[np.arange(len(codes)), codes]
        loss = -np.average(of_label, weights=weights)
        shares = np.bincount(codes, weights) / weights.sum()
        of_shares = entr(shares).sum()
        if loss < of_shares:
            return
        warnings.warn(
            f"{type(self).__name__}: the networks have not learned. Their out-of-fold "
            f"loss, {loss:.4g}, is not below {of_shares:.4g}, that of answering with "
            "the share of each class. Unless the features say nothing about the "
            f"classes, change lr, now {self.best_params_['lr']}, or raise max_epochs, "
            f"now {self.best_params_['max_epochs']}.",
            ConvergenceWarning,
            stacklevel=4,
        )

    def _tempered(self, log_proba: np.ndarray) -> np.ndarray:
        """Return logarithms of probabilities, (n_samples, n_classes), tempered."""
        return log_softmax(log_proba / self.temperature_, axis=1)

    def _each(self, X: Any) -> Iterator[np.ndarray]:
        """Yield what each member says of rows, (n_samples, n_classes)."""
        check_is_fitted(self)
        features = self._features(check_features(self, X, reset=False))
        for member in self.members_:
            yield self._tempered(log_proba_of(member, features, self.classes_))

    def _log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithms of the mean probabilities, (n_samples, n_classes)."""
        total = functools.reduce(np.logaddexp, self._each(X))
        return total - math.log(len(self.members_))


def _differences(
    candidate: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]
) -> str:
    """Return what tells a candidate from the others."""
    differing = [
        f"{param}={value!r}"
        for param, value in candidate.items()
        if any(other[param] != value for other in candidates)
    ]
    return ", ".join(differing) or "the only candidate"
