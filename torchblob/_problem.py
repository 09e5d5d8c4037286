"""From an estimator's parameters and checked data to a net and its task.

The one place where a parameter of the estimator becomes one of the training.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import check_scoring
from sklearn.utils import check_random_state

from torchblob._data import (
    Table,
    check_table,
    class_factors,
    encode_labels,
    errors_about,
    is_float64,
    scaled_product,
    to_samples,
    validation_rows,
)
from torchblob._parameters import OPTIMIZERS
from torchblob.nn import hidden_widths
from torchblob.training import (
    BlobNet,
    EarlyStopping,
    Samples,
    Task,
    memory_errors,
    resolve_device,
    resolve_dtype,
)

if TYPE_CHECKING:
    from torchblob._classifier import TorchBlobClassifier


def make_net(
    estimator: TorchBlobClassifier,
    X: Any,
    last: BlobNet | None,
    *,
    seed: int | None = None,
    dtype: str | None = None,
    keep_optimizer: bool = False,
) -> BlobNet:
    """Return a net, ready to train on data like `X`, with `estimator.classes_`.

    Parameters
    ----------
    estimator : TorchBlobClassifier
        Whose parameters it has.
    X : ndarray, CSR matrix or tensor of shape (n_samples, n_features)
        Checked data.
    last : BlobNet or None
        A net to go on from: its weights, history, seed and precision.
    seed : int, default=None
        Of the net; None draws one by `estimator.random_state`.
    dtype : str, default=None
        Its precision; None is `estimator.dtype`.
    keep_optimizer : bool, default=False
        Whether to take over the state of its optimizer too.

    Raises
    ------
    ValueError
        If the device, the precision or the optimizer can't be had, or the weights of
        `last` have other shapes.
    """
    name = type(estimator).__name__
    device = resolve_device(estimator.device, name)
    precision = resolve_dtype(dtype or estimator.dtype, is_float64(X), device, name)
    if last is not None:
        precision, seed = last.dtype, last.seed
    elif seed is None:
        seed = seed_of(estimator.random_state)
    _check_range(estimator, precision)
    optimizer = estimator.optimizer
    optimizer_params: dict[str, Any] = {
        "optimizer__weight_decay": float(estimator.weight_decay)
    }
    if isinstance(optimizer, str):
        if optimizer in ("sgd", "rmsprop"):
            optimizer_params["optimizer__momentum"] = float(estimator.momentum)
        optimizer, settings = OPTIMIZERS[optimizer]
        optimizer_params |= {f"optimizer__{k}": v for k, v in settings.items()}
    net = BlobNet(
        module__input_features=X.shape[1],
        module__output_features=len(estimator.classes_),
        module__hidden_units=hidden_widths(estimator.hidden_units),
        module__activation=estimator.activation,
        module__dropout=float(estimator.dropout),
        optimizer=optimizer,
        **optimizer_params,
        lr=float(estimator.lr),
        criterion__label_smoothing=float(estimator.label_smoothing),
        classes=list(range(len(estimator.classes_))),
        batch_size=int(estimator.batch_size or X.shape[0]),
        iterator_valid__batch_size=sys.maxsize,  # validation rows are one batch
        max_epochs=estimator.max_epochs,
        # A copy, since skorch's trim_for_prediction empties the list.
        callbacks=list(estimator.callbacks or ()),
        device=str(device),
        dtype=precision,
        seed=seed,
        verbose=estimator.verbose,
    )
    try:
        with memory_errors(name):
            net.initialize()
    except (TypeError, ValueError) as error:  # from the optimizer, or a callback
        raise ValueError(f"{name}: {error}") from error
    if last is not None:
        try:
            net.go_on_from(last, keep_optimizer=keep_optimizer)
        except ValueError as error:
            raise ValueError(
                f"{name}: training can't go on from the last fit: {error}. Use fit "
                "with warm_start=False to start anew."
            ) from error
    return net


def _check_range(estimator: TorchBlobClassifier, dtype: torch.dtype) -> None:
    """Check that what multiplies weights and gradients is in the range of `dtype`."""
    largest = torch.finfo(dtype).max
    for param in ("lr", "weight_decay"):
        value = getattr(estimator, param)
        if float(value) > largest:
            raise ValueError(
                f"The {param!r} parameter of {type(estimator).__name__} must be at "
                f"most {largest:.3g}, the largest number of {dtype}. Got {value!r} "
                "instead."
            )


def seed_of(random_state: Any) -> int:
    """Return the seed that `random_state` stands for; None draws a fresh one.

    numpy's global generator, which None stands for elsewhere in scikit-learn, is
    left alone: a fit has no effect on other code's random numbers.
    """
    if isinstance(random_state, Integral):
        return int(random_state)
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return int(check_random_state(random_state).randint(2**31 - 1))


def make_pass(estimator: TorchBlobClassifier, net: BlobNet, table: Table) -> Task:
    """Return one epoch over `table`, without anything that needs to know the end."""
    codes, factors = _encode(estimator, table)
    return Task(_samples(estimator, net, table, codes, factors), epochs=1)


def make_task(
    estimator: TorchBlobClassifier,
    net: BlobNet,
    table: Table,
    validation: Table | None,
    *,
    weighted: bool,
) -> Task:
    """Return what `net` is to train on in a fit, and what decides when it ends.

    Parameters
    ----------
    estimator : TorchBlobClassifier
        With `classes_`.
    net : BlobNet
        What will be trained.
    table : Table
        Checked rows to train on.
    validation : Table or None
        Checked rows to validate on, if there are others than those held out.
    weighted : bool
        Whether a scorer gets the weights of the validation rows.

    Raises
    ------
    ValueError
        If labels are unknown or features not finite.
    """
    codes, factors = _encode(estimator, table)
    valid, valid_samples, valid_name = validation, None, "Test"
    if valid is not None:
        with _about_validation(estimator):
            valid_codes = encode_labels(valid.y, estimator.classes_, "y_val")
            valid_samples = _samples(estimator, net, valid, valid_codes, factors)
    elif estimator.early_stopping:
        fraction = estimator.validation_fraction
        held_out = validation_rows(codes, fraction, net.seed, estimator)
        valid, valid_name = table.where(held_out), "Valid"
        valid_samples = _samples(estimator, net, valid, codes[held_out], factors)
        table, codes = table.where(~held_out), codes[~held_out]
    if valid_samples is not None and not valid_samples.weight.any():
        raise ValueError(
            f"{type(estimator).__name__}: all validation rows are of classes that "
            f"class_weight={estimator.class_weight!r} gives a weight of 0, so there is "
            "no validation loss. Pass X_val and y_val with other classes too, or give "
            "these a positive weight."
        )
    task = Task(
        _samples(estimator, net, table, codes, factors),
        epochs=estimator.max_epochs,
        valid=valid_samples,
        valid_name=valid_name,
        lr_schedule=estimator.lr_schedule,
    )
    if valid is None or not estimator.early_stopping:
        return task
    by_loss = isinstance(estimator.scoring, str) and estimator.scoring == "loss"
    stopping = EarlyStopping(
        estimator.n_iter_no_change, estimator.tol, greater_is_better=not by_loss
    )
    score = None if by_loss else _make_score(estimator, net, valid, weighted)
    return replace(task, stopping=stopping, score=score)


def _encode(
    estimator: TorchBlobClassifier, table: Table
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class index of each row and the factor of each class."""
    classes = estimator.classes_
    codes = encode_labels(table.y, classes, f"{type(estimator).__name__}: y")
    factors = class_factors(
        estimator.class_weight, codes, classes, table.weights, estimator
    )
    return codes, factors


def _samples(
    estimator: TorchBlobClassifier,
    net: BlobNet,
    table: Table,
    codes: np.ndarray,
    factors: np.ndarray,
) -> Samples:
    """Put checked rows where `net` is, in its precision."""
    device = torch.device(net.device)
    return to_samples(table, codes, factors, estimator, net.dtype, device)


def check_validation(
    estimator: TorchBlobClassifier, X_val: Any, y_val: Any, sample_weight_val: Any
) -> Table | None:
    """Return checked validation data, or None if there are none.

    Raises
    ------
    ValueError
        If they are unfit, or some are missing.
    """
    data = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
    given = [name for name, value in data.items() if value is not None]
    if not given:
        return None
    with _about_validation(estimator):
        if X_val is None or y_val is None:
            raise ValueError(
                f"X_val and y_val are needed together. Got only {' and '.join(given)}."
            )
        return check_table(estimator, X_val, y_val, sample_weight_val, reset=False)


def _about_validation(estimator: TorchBlobClassifier) -> AbstractContextManager[None]:
    return errors_about(f"{type(estimator).__name__}.fit, in the validation data")


def _make_score(
    estimator: TorchBlobClassifier, net: BlobNet, valid: Table, weighted: bool
) -> Callable[[], float]:
    """Return a function that scores `net` as it is, as `scoring` says."""
    fitted = copy.copy(estimator)
    fitted.net_ = net
    fitted.__dict__.pop("feature_names_in_", None)  # the rows are arrays by now
    scorer = check_scoring(fitted, estimator.scoring)
    weights = valid.weights
    if weights.max() > sys.float_info.max / len(weights):  # their sum is out of range
        weights = scaled_product(weights, np.ones(1))
    kwargs = {"sample_weight": weights} if weighted else {}

    def score() -> float:
        try:
            return float(scorer(fitted, valid.X, valid.y, **kwargs))
        except ValueError as error:  # not all classes need be there
            raise ValueError(
                f"The 'scoring' parameter of {type(estimator).__name__} must suit the "
                f"validation rows. Got {estimator.scoring!r}, which says: {error}"
            ) from error

    return score
