"""What a network is to be trained on, and what comes of it epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from torchblob.training._early_stopping import EarlyStopping
from torchblob.training._samples import Samples
from torchblob.training._sections import is_uniform

if TYPE_CHECKING:
    from torchblob.training._net import BlobNet

ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
)
"""Optimizers that treat each weight by itself, so that many networks can share one."""

# Each use of randomness has a stream of its own, so that one does not shift another.
SHUFFLE_STREAM, DROPOUT_STREAM = 1, 2

BEST = (
    ("train_loss", "train_loss_best", -1),
    ("valid_loss", "valid_loss_best", -1),
    ("valid_acc", "valid_acc_best", 1),
    ("valid_score", "valid_score_best", 1),
)
"""Values of which the history says when they are the best, and the sign of better."""


class DivergedError(Exception):
    """A training loss or weights turned infinite or NaN."""


class StopTraining(KeyboardInterrupt):
    """A callback asked to stop, which skorch's callbacks do by KeyboardInterrupt.

    A user's Ctrl-C while a callback runs can't be told from that.
    """


class EpochWatcher(Protocol):
    """Someone outside who is told of each epoch and may end the training."""

    def begin(self) -> None:
        """Before an epoch."""

    def end(self) -> bool:
        """After an epoch; returns True to stop."""


class Keeper(Protocol):
    """Someone outside who keeps the state of a training."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to keep it."""

    def keep(self, net: BlobNet, stopping: EarlyStopping | None) -> None:
        """Keep it after an epoch."""

    def finish(self, net: BlobNet, stopping: EarlyStopping | None) -> None:
        """Keep it after the last epoch."""


@dataclass(frozen=True)
class Task:
    """What one network is to be trained on, and how long.

    Parameters
    ----------
    train : Samples
        Rows to learn from.
    epochs : int
        Passes over them, at most.
    valid : Samples, default=None
        Rows to evaluate after each epoch.
    valid_name : str, default="Test"
        What the printed log calls them.
    lr_schedule : {"cosine", "linear"}, default=None
        Anneals the learning rate to zero over `epochs`; None keeps it constant.
    stopping : EarlyStopping, default=None
        Decides on the validation loss or score after each epoch.
    score : callable, default=None
        Returns the validation score of the network as it is now, for `stopping`.
    watcher : EpochWatcher, default=None
        Told of each epoch.
    checkpoint : Keeper, default=None
        Keeps the state of the training.
    first_epoch : int, default=0
        How many of the epochs are done, and in the history, already.
    """

    train: Samples
    epochs: int
    valid: Samples | None = None
    valid_name: str = "Test"
    lr_schedule: str | None = None
    stopping: EarlyStopping | None = None
    score: Callable[[], float] | None = None
    watcher: EpochWatcher | None = None
    checkpoint: Keeper | None = None
    first_epoch: int = 0


class Member:
    """One network of a stack, and what is kept of it alone.

    Attributes
    ----------
    epoch : int
        Epochs that are recorded.
    watched : bool
        Whether someone looks at each epoch before the next begins.
    done : bool
        Whether the last epoch that is recorded was the last of all.
    error : Exception or None
        What went wrong: a DivergedError if the loss or weights turned infinite or NaN.
    prints : bool
        Whether it prints its log, if the net's `verbose` asks for one.
    """

    def __init__(self, net: BlobNet, task: Task) -> None:
        self.net, self.task = net, task
        self.epoch = task.first_epoch
        self.watched = bool(
            net.callbacks_
            or net.verbose
            or task.stopping
            or task.watcher
            or task.checkpoint
        )
        self.done = False
        self.error: Exception | None = None
        self.prints = True
        self._epochs_before = len(net.history) - task.first_epoch
        self._best = _best_of(net.history)

    @property
    def has_best_weights(self) -> bool:
        """Whether the network gets weights of an earlier epoch back."""
        stopping = self.task.stopping
        return stopping is not None and stopping.best_weights is not None

    def kind(self) -> Any:
        """Return what must be equal in networks that train together.

        Settings of the optimizer need not be: it has groups of parameters for that.
        """
        net, task = self.net, self.task
        if self.trains_alone():
            return id(net)
        module = net.module_
        n_batches = self.n_batches()
        return repr(
            [
                [layer.weight.shape for layer in module.linear_layers],
                [module.activation, module.dropout, net.criterion_.label_smoothing],
                [net.dtype, net.device, net.optimizer, int(net.verbose)],
                [n_batches, net.batch_size if n_batches > 1 else None],
                [task.epochs, task.lr_schedule, task.valid is None, self.watched],
                [
                    isinstance(rows.X, torch.Tensor)
                    for rows in (task.train, task.valid)
                    if rows is not None
                ],
            ]
        )

    def trains_alone(self) -> bool:
        """Return whether it can't train with others."""
        return (
            not self.shares_optimizer()
            or bool(self.net.optimizer_.state)
            or self.task.checkpoint is not None
        )

    @property
    def runs_other_code(self) -> bool:
        """Whether its training calls what is not this package's."""
        task = self.task
        return bool(self.net.callbacks_ or task.score or task.watcher)

    def settings(self) -> dict[str, Any]:
        """Return the settings of the network's optimizer, with its rate as it is."""
        _, settings = self.net.get_params_for_optimizer("optimizer", [])
        return {**settings, "lr": self.net.optimizer_.param_groups[0]["lr"]}

    def n_bytes(self) -> int:
        """Return about how much memory training takes beside other networks.

        Features count twice, where they are and copied into a stack, and parameters
        with two gradients and what an optimizer remembers.
        """
        n_bytes = 0
        for rows in (self.task.train, self.task.valid):
            if rows is not None:
                values = rows.X if isinstance(rows.X, torch.Tensor) else rows.X.data
                n_bytes += 2 * values.nbytes + rows.y.nbytes + rows.weight.nbytes
        parameters = self.net.module_.parameters()
        return n_bytes + 5 * sum(parameter.nbytes for parameter in parameters)

    def n_batches(self) -> int:
        """Return the number of batches of an epoch."""
        return math.ceil(len(self.task.train) / self.net.batch_size)

    def shares_optimizer(self) -> bool:
        """Return whether one optimizer can do for this network and others.

        One that a callback or a callable of the user's may depend on stays as it is,
        and so does one whose parameters differ: some are frozen, or have made fewer
        steps.
        """
        net = self.net
        return (
            any(net.optimizer is known for known in ELEMENTWISE)
            and not net.callbacks_
            and len(net.optimizer_.param_groups) == 1
            and is_uniform(net.optimizer_)
        )

    def seed(self, stream: int, epoch: int) -> int:
        """Return a use's seed in an epoch, a function of the net's seed and both."""
        number = self._epochs_before + epoch
        words = np.random.SeedSequence((self.net.seed, stream, number))
        return int(words.generate_state(1, np.uint64)[0])

    def attempt(self, act: Callable[..., None], *args: Any) -> None:
        """Do what belongs to this network alone; an error ends its training only."""
        if self.done:
            return
        try:
            act(*args)
        except Exception as error:
            self.error, self.done = error, True

    def begin_epoch(self) -> None:
        """Tell who wants to know that an epoch begins."""
        if self.task.watcher is not None:
            self.task.watcher.begin()
        if self.net.callbacks_:
            self.net.notify("on_epoch_begin", **self.net.callback_datasets(self.task))

    def record(self, names: Sequence[str], epochs: Sequence[Sequence[float]]) -> None:
        """Take what some epochs gave, and decide whether the last was the last of all.

        Parameters
        ----------
        names : sequence of str
            What the values are called.
        epochs : sequence of sequences of float
            The values of each epoch. If someone looks at each, it is but one.
        """
        for values in epochs:
            self.epoch += 1
            row = dict(zip(names, values, strict=True))
            for name, of in (("train_loss", "training"), ("valid_loss", "validation")):
                if not math.isfinite(row.get(name, 0.0)):
                    self.fail(f"the {of} loss became {row[name]} in epoch {self.epoch}")
                    self.done = True
                    return
            if self.watched:
                self._record_watched(row)
            else:
                self._append(row)
        self.done |= self.epoch == self.task.epochs

    @property
    def is_to_be_kept(self) -> bool:
        """Whether it is time to keep its state."""
        checkpoint = self.task.checkpoint
        return checkpoint is not None and not self.done and checkpoint.is_due

    def keep(self) -> None:
        """Keep its state, which must be in the net and its optimizer."""
        if self.task.checkpoint is not None:
            self.task.checkpoint.keep(self.net, self.task.stopping)

    def fail(self, what: str) -> None:
        """Note an error, if it is the first."""
        if self.error is None:
            self.error = DivergedError(what)

    def _record_watched(self, row: dict[str, Any]) -> None:
        net, task = self.net, self.task
        if task.stopping is not None and task.score is not None:
            row["valid_score"] = task.score()
        self._append(row)
        if task.stopping is not None:
            watched = "valid_score" if task.score is not None else "valid_loss"
            task.stopping.update(row[watched], net.module_)
            self.done |= task.stopping.exhausted
        number = len(net.history) - 1
        if net.verbose and self.prints and number % int(net.verbose) == 0:
            print(format_epoch(number, row, task.valid_name))
        if task.watcher is not None:
            self.done |= task.watcher.end()
        if net.callbacks_:
            net.notify("on_epoch_end", **net.callback_datasets(task))

    def _append(self, row: dict[str, Any]) -> None:
        """Add a row to the history, with "..._best" for values that beat all before.

        Callbacks of skorch watch these, such as Checkpoint "valid_loss_best".
        """
        history, best = self.net.history, self._best
        for name, flag, sign in BEST:
            if name in row:
                value = sign * row[name]
                row[flag] = value > best.get(name, -math.inf)
                if row[flag]:
                    best[name] = value
        if self.net.callbacks_:  # skorch began the row, at the epoch's begin
            history[-1].update(row)
        else:
            history.append({"batches": [], "epoch": len(history) + 1, **row})


def _best_of(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the best of each value in earlier trainings, as skorch's scores go on."""
    best = {}
    for name, flag, sign in BEST:
        if history and flag in history[-1]:
            of_best = next((row for row in reversed(history) if row.get(flag)), None)
            if of_best is not None:
                best[name] = sign * of_best[name]
    return best


def format_epoch(epoch: int, row: dict[str, float], valid_name: str) -> str:
    """Return an epoch's line of the log, in the words of the PyTorch tutorials.

    Examples
    --------
    >>> format_epoch(10, {"train_loss": 0.144, "train_acc": 0.99125}, "Test")
    'Epoch: 10 | Loss: 0.1440, Acc: 99.12%'
    """
    line = f"Epoch: {epoch} | Loss: {row['train_loss']:.4f}"
    line += f", Acc: {row['train_acc'] * 100:.2f}%"
    if "valid_loss" in row:
        line += f" | {valid_name} loss: {row['valid_loss']:.4f}"
        line += f", {valid_name} acc: {row['valid_acc'] * 100:.2f}%"
    return line
