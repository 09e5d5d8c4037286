"""Fits that go on where they were when their process died."""

from __future__ import annotations

import copy
import hashlib
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchblob._facts import (
    MalformedError,
    NotStorableError,
    check_names,
    field,
    number,
)
from torchblob._files import path_of
from torchblob._model_file import (
    BEST,
    Model,
    decode,
    encode,
    encode_classes,
    model_of,
    read,
    write,
)
from torchblob._tasks import FRAMES_OF_WITH_CALLBACKS
from torchblob.training import (
    BlobNet,
    EarlyStopping,
    Task,
    best_number,
    dense_rows,
    remember,
)

if TYPE_CHECKING:
    from torchblob._classifier import TorchBlobClassifier

SECONDS = 1.0
"""Time between two writes, at least."""

SHARE = 0.05
"""Share of the time that writes take, at most."""

ROWS = 1000
"""Rows, evenly spaced, whose features tell whether the data are the same."""

UNIMPORTANT = ("callbacks", "device", "verbose")
"""Parameters that may be others when a fit goes on."""

TRAINING = ("data", "epochs_before", "is_over", "stopping")
"""What is kept of a training."""

OTHER = {
    "data": "on other data, weights or validation data (each fit needs its own file)",
    "epochs_before": "that went on from another one",
}
"""What a fit is if one of these differs."""


class Checkpoint:
    """The state of a fit, in a file that is written as it goes.

    The file is that of the classifier as it is, and has what else the training needs.

    Parameters
    ----------
    path : str or os.PathLike
        Where. A file that is there is of the same fit, in a process that has died.
    estimator : TorchBlobClassifier
        That is fitted, with `classes_`.

    Raises
    ------
    ValueError
        If the file is not of a fit with the same parameters and classes.
    OSError
        If it can't be read.

    Attributes
    ----------
    seed, dtype : int or None, str or None
        Of the network, if the fit goes on.
    is_over : bool
        Whether the fit that goes on was over, and has only its result to give.
    """

    def __init__(
        self, path: str | os.PathLike[str], estimator: TorchBlobClassifier
    ) -> None:
        self._path = path_of(path, f"{type(estimator).__name__}.fit, as checkpoint,")
        self._estimator = estimator
        self._kept: Model | None = None
        self.seed: int | None = None
        self.dtype: str | None = None
        self.is_over = False
        self._due, self._has_warned = 0.0, False
        self._training: dict[str, Any] = {}
        if self._path.exists():
            with self._about_the_file():
                self._kept = read(self._path)
                self._check_kept(self._kept.header)

    def _check_kept(self, header: dict[str, Any]) -> None:
        """Check that what is kept is of a fit with the same parameters and classes."""
        if "training" not in header:
            raise MalformedError("it is a model that was saved, which it would replace")
        training = field(header, "training", dict)
        params = field(header, "params", dict)
        for name, value in self._estimator.get_params(deep=False).items():
            now = encode(value, name, with_code=True)
            if name not in UNIMPORTANT and now != params.get(name):
                before, now = _shown(params.get(name)), _shown(now)
                raise MalformedError(
                    f"it is of a fit with {name}={before:.80}, now {now:.80}"
                )
        classes = encode_classes(self._estimator.classes_)
        if classes != header.get("classes"):
            raise MalformedError("it is of a fit with other classes")
        self.is_over = field(training, "is_over", bool)
        of_net = field(field(header, "net", dict), "params", dict)
        self.seed = number(of_net, "seed", int)
        self.dtype = field(field(header, "net", dict), "dtype", str)

    def start(self, net: BlobNet, task: Task) -> Task:
        """Begin to keep a training, or go on with the one that is kept.

        Parameters
        ----------
        net : BlobNet
            That is about to be trained. It becomes what it was, if it goes on.
        task : Task
            What it trains on.

        Returns
        -------
        Task
            Of what is left of the training.

        Raises
        ------
        ValueError
            If the file is of other data, or can't be used.
        OSError
            If it can't be written.
        """
        self._training = {"data": _digest(task), "epochs_before": len(net.history)}
        if self._kept is None:
            try:
                self._write(net, task.stopping)
            except NotStorableError as error:
                raise ValueError(
                    f"{type(self._estimator).__name__}.fit can keep numbers and names "
                    f"in a checkpoint, and {error}. Fit without a checkpoint."
                ) from error
            return replace(task, checkpoint=self)
        with self._about_the_file():
            first = self._go_on(self._kept, net, task)
        if net.callbacks and not self.is_over:
            warnings.warn(
                f"{type(self._estimator).__name__}.fit goes on after epoch {first}; "
                "its callbacks begin anew: no checkpoint has what they remembered.",
                stacklevel=4 + FRAMES_OF_WITH_CALLBACKS,
            )
        return replace(task, checkpoint=self, first_epoch=first)

    def _go_on(self, kept: Model, net: BlobNet, task: Task) -> int:
        """Make a net what it was; return how many epochs of its training are done."""
        header, tensors = kept
        training = field(header, "training", dict)
        check_names(training, TRAINING, "training")
        for name, value in self._training.items():
            if field(training, name, str, int) != value:
                raise MalformedError(f"it is of a fit {OTHER[name]}")
        if self.seed != net.seed:
            raise MalformedError(f"it is of a fit {OTHER['epochs_before']}")
        remember(net, kept.memory)
        first: int = len(net.history) - self._training["epochs_before"]
        if not (0 <= first < task.epochs or (self.is_over and first == task.epochs)):
            raise MalformedError(
                f"its history has {first} of {task.epochs} epochs of the fit"
            )
        stopping = task.stopping
        if stopping is not None:
            best = {
                name.removeprefix(BEST): of
                for name, of in tensors.items()
                if name.startswith(BEST)
            }
            stopping.resume(field(training, "stopping", dict), best, net.module_)
            if stopping.n_epochs != first:
                raise MalformedError(f"{stopping.n_epochs} of {first} epochs count")
        return first

    @property
    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._due

    def finish(self, net: BlobNet, stopping: EarlyStopping | None) -> None:
        """Write the result, as :meth:`keep` writes the state."""
        self.is_over = True
        self.keep(net, stopping)

    def keep(self, net: BlobNet, stopping: EarlyStopping | None) -> None:
        """Write the state after an epoch; where that fails, warn once, and go on.

        Parameters
        ----------
        net : BlobNet
            As it is, with what its optimizer remembers.
        stopping : EarlyStopping or None
            Its state.
        """
        try:
            self._write(net, stopping)
        except (OSError, NotStorableError) as error:
            if not self._has_warned:
                warnings.warn(
                    f"{type(self._estimator).__name__}.fit could not write its "
                    f"checkpoint, and trains on without: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._has_warned = True

    def _write(self, net: BlobNet, stopping: EarlyStopping | None) -> None:
        begun = time.monotonic()
        try:
            self._write_now(net, stopping)
        finally:
            now = time.monotonic()
            self._due = now + max(SECONDS, (now - begun) / SHARE)

    def _write_now(self, net: BlobNet, stopping: EarlyStopping | None) -> None:
        fitted = copy.copy(self._estimator)
        fitted.net_ = net
        fitted.best_epoch_ = best_number(stopping, self._training["epochs_before"])
        training = {**self._training, "is_over": self.is_over, "stopping": None}
        best: dict[str, torch.Tensor] = {}
        if stopping is not None:
            training["stopping"], best = stopping.state()
        header, tensors = model_of(fitted, with_code=True)
        tensors |= {BEST + name: weight.cpu() for name, weight in best.items()}
        write(Model({**header, "training": training}, tensors), self._path)

    @contextmanager
    def _about_the_file(self) -> Iterator[None]:
        """Say of which file an error in the block is."""
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{type(self._estimator).__name__}.fit can't go on from the checkpoint "
                f"{os.fspath(self._path)!r}: {error}. Pass another path, or delete the "
                "file to start anew."
            ) from error


def _shown(value: Any) -> str:
    """Return a parameter that is kept, as a user wrote it; of code, the name."""
    if isinstance(value, dict) and "code" in value:
        return str(value["code"])
    return repr(decode(value, "it"))


def _digest(task: Task) -> str:
    """Return a digest of labels, weights and some rows, which tells data apart."""
    digest = hashlib.sha256()
    for samples in (task.train, task.valid):
        if samples is not None:
            at = np.unique(np.linspace(0, len(samples) - 1, ROWS).astype(int))
            rows = dense_rows(samples.X, torch.from_numpy(at).to(samples.y.device))
            digest.update(repr((tuple(samples.X.shape), rows.dtype)).encode())
            for values in (rows, samples.y, samples.weight):
                digest.update(values.cpu().numpy().tobytes())
    return digest.hexdigest()
