"""TorchBlobClassifier: the scikit-learn side of a network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from torchblob._checkpoint import Checkpoint
from torchblob._convergence import warn_if_unfinished
from torchblob._data import (
    Table,
    check_classes,
    check_features,
    check_table,
    classes_of,
    to_features,
)
from torchblob._estimator import TensorClassifierMixin, like, unchanged_on_error
from torchblob._parameters import TYPES, check_values
from torchblob._problem import check_validation, make_net, make_pass, make_task
from torchblob._tasks import (
    FRAMES_OF_WITH_CALLBACKS,
    CallbackSupportMixin,
    epoch_tasks,
    with_callbacks,
)
from torchblob.nn import BlobModel
from torchblob.training import (
    BlobNet,
    DivergedError,
    Task,
    best_number,
    memory_errors,
    predictions,
)


class TorchBlobClassifier(CallbackSupportMixin, TensorClassifierMixin, BaseEstimator):
    """Neural network classifier (multilayer perceptron) trained by PyTorch.

    It minimizes the softmax cross-entropy of a small network on the CPU or a GPU.
    The defaults are those of the PyTorch tutorial on multi-class blobs: two hidden
    layers of 8 units, 100 steps of gradient descent on all rows at a rate of 0.1.
    Scale the features first, for example by a StandardScaler in a Pipeline.

    Parameters
    ----------
    hidden_units : int or sequence of int, default=8
        An int stands for two hidden layers of that many units, a sequence gives the
        units of each hidden layer, and an empty one leaves a linear model.
    activation : str, default="relu"
        Of the hidden units: "relu", "tanh", "logistic", "identity", "leaky_relu",
        "elu", "gelu" or "silu", as in :mod:`torch.nn`.
    dropout : float in [0, 1), default=0.0
        Probability with which a hidden unit is dropped in a training step.
    optimizer : {"sgd", "adam", "adamw", "rmsprop"} or callable, default="sgd"
        One of :mod:`torch.optim`, or a callable `(params, lr=, weight_decay=)` that
        returns a :class:`torch.optim.Optimizer`.
    lr : float, default=0.1
        Learning rate. 0.1 suits "sgd"; start from 0.001 for the others.
    momentum : float in [0, 1), default=0.0
        Of "sgd" and "rmsprop"; the others don't use it.
    weight_decay : float, default=0.0
        Strength of the L2 penalty (of decoupled decay for "adamw").
    lr_schedule : {"cosine", "linear"}, default=None
        Lowers the learning rate from `lr` to 0 over `max_epochs`, a little in each
        step. None keeps it constant, as :meth:`partial_fit` always does.
    batch_size : int, default=None
        Rows a step, drawn anew in each epoch. None, or more than there are: all rows
        in one step an epoch.
    max_epochs : int, default=100
        Passes over the data.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the loss. "balanced" gives each class the same total
        weight, counting rows by their `sample_weight`.
    label_smoothing : float in [0, 1), default=0.0
        Share of each target that is spread evenly over all classes.
    early_stopping : bool, default=False
        Whether to stop when the validation loss or score no longer improves, and to
        return to the best weights. The validation rows are `X_val`, or else a
        stratified part of the data that is not trained on.
    scoring : str, callable or None, default="loss"
        What early stopping watches: "loss" is the validation loss; else a scorer as
        in scikit-learn, for which None means :meth:`score`.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that early stopping holds out if there is no `X_val`.
    n_iter_no_change : int, default=10
        Epochs in a row without progress after which early stopping ends.
    tol : float, default=1e-4
        Progress is more than this.
    warm_start : bool, default=False
        Whether :meth:`fit` starts from the weights of the last fit. The optimizer
        starts afresh; the history goes on. Layers that have been frozen, by
        `module_.linear_layers[0].requires_grad_(False)`, stay so, as they do in
        :meth:`partial_fit`.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called during training with the skorch net, `net_`. The batches that they
        get may be views of the data, and must not be changed; gradients and weights
        that they keep must be copies, since the next step overwrites them.
    device : str or torch.device, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1", "mps" or a device of torch. "auto"
        is CUDA where there is a GPU, else MPS, else the CPU.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of weights and computation. "auto" is float64 for float64 data on a
        CPU, else float32.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, shuffles, dropout and the validation split. An int
        `s` gives the weights that `torch.manual_seed(s); BlobModel(...)` has. None is
        a fresh seed; the global generators of numpy and torch are never used.
    verbose : int or bool, default=0
        Prints a line in every `verbose`-th epoch. 0 is silent.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had names that are all strings.
    module_ : BlobModel
        The network, on `device_`, with the weights that :meth:`predict` uses.
    net_ : skorch.NeuralNetClassifier
        The skorch net around it; its classes are indices into `classes_`.
    device_ : torch.device
        Where the network is.
    history_ : skorch.history.History
        A row an epoch, each a dict: "epoch", "train_loss", with validation data
        "valid_loss" and "valid_acc" (and "valid_score" where `scoring` is one), and,
        with validation data, `verbose`, callbacks or a checkpoint, "train_acc". Losses
        are means in nats and accuracies shares in [0, 1], both weighted as the loss is.
        Those of the training rows are taken before each step, in the course of the
        epoch.
        "train_loss_best" and so on say whether an epoch's is the best so far.
    best_epoch_ : int or None
        Number of the epoch, as in `history_`, whose weights early stopping kept.
    loss_curve_ : list of float
        The training loss of each epoch.
    n_iter_ : int
        Number of epochs trained.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : The same kind of model in numpy.

    Notes
    -----
    `sample_weight` and `class_weight` weigh the mean that is the loss: a weight of 2
    equals a repeated row, a weight of 0 a removed one. Rows of weight 0 are left out
    before anything else, so a class that has no other rows is not in `classes_`.

    A :class:`~sklearn.exceptions.ConvergenceWarning` says that the training, of more
    than `n_iter_no_change` epochs, came to nothing: its loss is not below that of
    answering with the share of each class. It says too that the training used all of
    `max_epochs` while the loss still fell, over the last `n_iter_no_change` epochs,
    by more than `tol` an epoch and more than a tenth of its mean pace. The second part
    keeps silent about training that is all but done: cross-entropy on classes that
    can be separated falls forever, ever slower.

    With scikit-learn's `array_api_dispatch`, a torch tensor passed as X makes the
    predictions tensors on its device (except string labels, which torch lacks).

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.model_selection import train_test_split
    >>> from torchblob import TorchBlobClassifier
    >>> X, y = make_blobs(1000, centers=4, cluster_std=1.5, random_state=42)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=42)
    >>> clf = TorchBlobClassifier(device="cpu", random_state=42).fit(X_train, y_train)
    >>> clf.predict_proba(X_test).shape
    (250, 4)
    >>> clf.score(X_test, y_test) > 0.98
    True
    """

    net_: BlobNet

    _parameter_constraints = TYPES

    def __init__(
        self,
        hidden_units: Any = 8,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "sgd",
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        lr_schedule: str | None = None,
        batch_size: int | None = None,
        max_epochs: int = 100,
        class_weight: dict[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        early_stopping: bool = False,
        scoring: Any = "loss",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        callbacks: Any = None,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_units = hidden_units
        self.activation = activation
        self.dropout = dropout
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.early_stopping = early_stopping
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> TorchBlobClassifier:
        """Train a network on the data.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Training data; not modified. Numbers, all finite.
        y : array-like or tensor of shape (n_samples,)
            Class labels: strings, ints, bools.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, >= 0; None is 1 for each.
        X_val : like `X`, of shape (n_val, n_features), default=None
            Validation data, evaluated after each epoch and watched by early stopping.
            A Pipeline transforms them as it does `X` only if it is told to, by its
            `transform_input=["X_val"]` with metadata routing.
        y_val : like `y`, of shape (n_val,), default=None
            Their labels.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weight of each of these rows in the validation loss and score, >= 0; None is
            1 for each.
        checkpoint : str or os.PathLike, default=None
            A file that keeps the state of the training as it goes. If the process dies,
            the same call goes on from there, and ends with the same weights to the bit;
            if the fit was over, it returns its result at once. See Notes.

        Returns
        -------
        self : TorchBlobClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described, or the loss turns
            infinite or NaN; if the checkpoint is of another fit. A model fitted before
            stays as it was.
        MemoryError
            If there is no memory for the network or the data.
        OSError
            If the checkpoint can't be read, or not be written at the start.

        Notes
        -----
        The checkpoint is written after an epoch, at most once a second and for at most
        a twentieth of the time. A write that fails later is a warning, and the training
        goes on. The file is one that :func:`torchblob.load` can load, also from another
        process and while the training goes on: it is the classifier as it is, without
        parameters that are code, such as callbacks.

        Parameters, data and `random_state` must be the same when a fit goes on;
        `device`, `verbose` and `callbacks` may differ. What callbacks remember is not
        kept, and a fit that one of them has ended is over; so it is after a Ctrl-C
        while one runs, which can't be told from that. Of the features, a thousand rows
        are compared.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
        TorchBlobClassifier(lr=0.05, optimizer='adam', random_state=0)
        >>> clf.history_[-1, "valid_acc"] > 0.9
        True
        """
        self._check_parameters()
        with unchanged_on_error(self):
            last = self.net_ if self.warm_start and hasattr(self, "net_") else None
            table = check_table(self, X, y, sample_weight, reset=last is None)
            self.classes_ = self._check_classes(table, last)
            kept = None if checkpoint is None else Checkpoint(checkpoint, self)
            seed, dtype = (None, None) if kept is None else (kept.seed, kept.dtype)
            net = make_net(self, table.X, last, seed=seed, dtype=dtype)
            epochs_before = len(net.history)
            validation = check_validation(self, X_val, y_val, sample_weight_val)
            weights = sample_weight if validation is None else sample_weight_val
            weighted = weights is not None
            task = make_task(self, net, table, validation, weighted=weighted)
            if kept is not None:
                task = kept.start(net, task)
            with epoch_tasks(self, net, X, y, sample_weight) as tasks:
                if kept is not None and kept.is_over:
                    self.net_ = net
                else:
                    with self._divergence_explained():
                        self._train(net, replace(task, watcher=tasks))
            self.best_epoch_ = best_number(task.stopping, epochs_before)
        if net.was_interrupted_:
            warnings.warn(
                f"{type(self).__name__}.fit was interrupted; the model is fitted as "
                "far as it came.",
                stacklevel=2 + FRAMES_OF_WITH_CALLBACKS,
            )
        losses = self.loss_curve_[epochs_before:]
        warn_if_unfinished(self, losses, task, 2 + FRAMES_OF_WITH_CALLBACKS)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> TorchBlobClassifier:
        """Train for one epoch on the data, from where the last training ended.

        The optimizer goes on with its state. `early_stopping` and `lr_schedule`, which
        need to know the end, are without effect.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            A part of the data.
        y : array-like or tensor of shape (n_samples,)
            Their labels; not all classes need occur.
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, >= 0; None is 1 for each.

        Returns
        -------
        self : TorchBlobClassifier
            The classifier, trained further.

        Raises
        ------
        ValueError
            As :meth:`fit`; also for labels that are not in `classes`, and for
            `class_weight="balanced"`, since a part does not show the whole.
        KeyboardInterrupt
            At Ctrl-C; the classifier is as it was before the call.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(batch_size=10, random_state=0)
        >>> for rows in np.array_split(np.random.default_rng(0).permutation(150), 3):
        ...     clf = clf.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        >>> clf.n_iter_
        3
        """
        self._check_parameters()
        name = type(self).__name__
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"{name}.partial_fit does not support class_weight='balanced', which "
                "needs all data at once. Pass a dict of weights, for example from "
                "sklearn.utils.compute_class_weight."
            )
        with unchanged_on_error(self):
            last = getattr(self, "net_", None)
            if classes is not None:
                known = check_classes(classes, self)
            elif last is not None:
                known = self.classes_
            else:
                raise ValueError(
                    f"{name}: classes must be passed on the first call to partial_fit: "
                    "all labels that will ever come, for example np.unique(y_all)."
                )
            if last is not None and not np.array_equal(known, self.classes_):
                raise ValueError(
                    f"{name}: `classes={known.tolist()}` is not the same as on last "
                    f"call to partial_fit, was: {self.classes_.tolist()}."
                )
            table = check_table(self, X, y, sample_weight, reset=last is None)
            self.classes_ = known
            net = make_net(self, table.X, last, keep_optimizer=True)
            with self._divergence_explained():
                self._train(net, make_pass(self, net, table))
            if net.was_interrupted_:  # to end a loop of calls too
                raise KeyboardInterrupt
            self.best_epoch_ = None
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the logits, the network's output before softmax.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.

        Returns
        -------
        logits : array of shape (n_samples, n_classes), or (n_samples,) for two classes
            Of each class; for two classes that of the second less that of the first.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite, or
            so large that the network's output is not.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf = clf.fit(X, y)
        >>> clf.decision_function(X[:5]).shape
        (5, 3)
        """
        logits = self._predict(X, predictions.identity)
        if len(self.classes_) == 2:
            logits = logits[:, 1] - logits[:, 0]
        return like(X, logits)

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
            If the data have other features than those fitted, or are not finite, or
            so large that the network's output is not.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf = clf.fit(X, y)
        >>> clf.predict(X[[0, 149]])
        array([0, 2])
        """
        codes = self._predict(X, predictions.argmax)
        return self._labels_like(X, codes)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class.

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
            If the data have other features than those fitted, or are not finite, or
            so large that the network's output is not.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf = clf.fit(X, y)
        >>> clf.predict_proba(X[:5]).sum(axis=1).round(6)
        array([1., 1., 1., 1., 1.])
        """
        return like(X, self._predict(X, predictions.softmax))

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like, DataFrame, CSR matrix or tensor of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_probabilities : array of shape (n_samples, n_classes)
            In the order of `classes_`; finite where the probability rounds to 0.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If the data have other features than those fitted, or are not finite, or
            so large that the network's output is not.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from torchblob import TorchBlobClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0)
        >>> clf = clf.fit(X, y)
        >>> bool((clf.predict_log_proba(X) <= 0).all())
        True
        """
        return like(X, self._predict(X, predictions.log_softmax))

    @property
    def module_(self) -> BlobModel:
        """The network."""
        check_is_fitted(self)
        return self.net_.module_

    @property
    def device_(self) -> torch.device:
        """Where the network is."""
        return next(self.module_.parameters()).device

    @property
    def history_(self) -> History:
        """A row an epoch."""
        check_is_fitted(self)
        return self.net_.history

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of each epoch."""
        return [row["train_loss"] for row in self.history_]

    @property
    def n_iter_(self) -> int:
        """Number of epochs trained."""
        return len(self.history_)

    def _check_parameters(self) -> None:
        """Check the parameters, which stay as they were given."""
        self._validate_params()  # types, from `_parameter_constraints`
        check_values(vars(self), type(self).__name__)

    def _check_classes(self, table: Table, last: BlobNet | None) -> np.ndarray:
        """Return the classes of the labels, which must be those of `last` if given."""
        classes = classes_of(table.y, self)
        if last is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"{type(self).__name__}(warm_start=True) needs the classes of the last "
                f"fit, {self.classes_.tolist()}. Got {classes.tolist()}; set "
                "warm_start=False to start anew."
            )
        return classes

    def _fit_checked(self, table: Table, validation: Table | None) -> None:
        """Train on rows that are checked already, and warn of nothing.

        Parameters
        ----------
        table : Table
            Rows to train on; with weights of 0 too.
        validation : Table or None
            Rows for early stopping, of the same classes.

        Raises
        ------
        DivergedError
            If the loss turns infinite or NaN.
        """
        self.n_features_in_ = table.X.shape[1]
        self.classes_ = np.unique(table.y)
        net = make_net(self, table.X, None)
        task = make_task(self, net, table, validation, weighted=False)
        self._train(net, task)
        self.best_epoch_ = best_number(task.stopping, 0)

    def _train(self, net: BlobNet, task: Task) -> None:
        """Train `net` and make it this classifier's."""
        with memory_errors(type(self).__name__):
            net.partial_fit(task.train.X, task.train.y, task=task)
        self.net_ = net

    @contextmanager
    def _divergence_explained(self) -> Iterator[None]:
        """Say in an error about a loss that is not finite what to do."""
        try:
            yield
        except DivergedError as error:
            raise ValueError(
                f"{type(self).__name__}: {error}. Lower lr, now {self.lr}, or scale "
                "the features, for example by a StandardScaler in a Pipeline."
            ) from error

    def _predict(
        self, X: Any, write: Callable[[torch.Tensor, torch.Tensor], None]
    ) -> torch.Tensor:
        """Return what a function of `predictions` makes of the logits of data."""
        check_is_fitted(self)
        features = check_features(self, X, reset=False)
        features = to_features(features, self.net_.dtype, self)
        try:
            with memory_errors(type(self).__name__):
                return predictions.predict(self.module_, features, write)
        except predictions.NotFiniteError as error:
            raise ValueError(
                f"{type(self).__name__}: the network's output for some rows of X is "
                "infinite or NaN, since their features or the weights are too large. "
                "Scale the features, for example by a StandardScaler in a Pipeline, or "
                f"lower lr, now {self.lr}."
            ) from error
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.net_.device == "cpu":
                raise
            raise RuntimeError(
                f"{type(self).__name__}: the network is on the device "
                f"{self.net_.device!r}, which failed: {error}. If the device has gone, "
                "load the classifier in a new process, by torchblob.load(path, "
                "device='cpu') or from a pickle, or fit it again."
            ) from error
