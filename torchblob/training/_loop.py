"""Train one network: epochs, batches, validation, schedule and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from torchblob.training._early_stopping import EarlyStopping
from torchblob.training._samples import BLOCK, Batch, Samples
from torchblob.training._threads import enough_threads

if TYPE_CHECKING:
    from torchblob.training._net import BlobNet

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
}
"""Name of a schedule -> the factor of the learning rate after a share of the training.

The cosine is that of Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with
Warm Restarts, ICLR 2017, without restarts.
"""

# Each use of randomness has a stream of its own, so that one does not shift another.
SHUFFLE_STREAM, DROPOUT_STREAM = 1, 2


class EpochWatcher(Protocol):
    """Someone outside who is told of each epoch and may end the training."""

    def begin(self) -> None:
        """Before an epoch."""

    def end(self) -> bool:
        """After an epoch; returns True to stop."""


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
    """

    train: Samples
    epochs: int
    valid: Samples | None = None
    valid_name: str = "Test"
    lr_schedule: str | None = None
    stopping: EarlyStopping | None = None
    score: Callable[[], float] | None = None
    watcher: EpochWatcher | None = None


def train(net: BlobNet, task: Task) -> None:
    """Train `net`'s module in place; write a row of `net.history` an epoch.

    Raises
    ------
    FloatingPointError
        If the training loss turns infinite or NaN.
    """
    loop = _Loop(net, task)
    try:
        with torch.no_grad(), enough_threads(loop.work):
            for epoch in range(task.epochs):
                if loop.run_epoch(epoch):
                    break
    finally:
        loop.close()


class _Loop:
    """The training of one network."""

    def __init__(self, net: BlobNet, task: Task) -> None:
        self.net, self.task = net, task
        self.kernel = net.make_kernel()
        n = len(task.train)
        self.size = min(net.batch_size, n)
        self.n_batches = math.ceil(n / self.size)
        # The full batch is the same in each epoch, with the rows in their order.
        self.full_batch = Batch(task.train, slice(0, n)) if self.size == n else None
        self.validation = None
        if task.valid is not None:
            self.validation = Batch(task.valid, slice(0, len(task.valid)))
        self.work = min(self.size, BLOCK) * self.kernel.n_weights
        # Accuracy costs a pass over the logits: only for those who will see it.
        self.with_hits = bool(net.verbose or net.callbacks_ or task.valid is not None)
        self.base_rates = [group["lr"] for group in net.optimizer_.param_groups]
        self.best: dict[str, float] = {}

    def close(self) -> None:
        """Leave the net as it should be between trainings."""
        if self.task.stopping is not None:
            self.task.stopping.restore(self.net.module_)
        if self.task.lr_schedule is not None:
            self._set_rates(1.0)
        self.net.optimizer_.zero_grad(set_to_none=True)

    def run_epoch(self, epoch: int) -> bool:
        """Train, evaluate and record one epoch; return whether it is to be the last."""
        net, task = self.net, self.task
        if task.watcher is not None:
            task.watcher.begin()
        datasets = net.callback_datasets(task)
        net.notify("on_epoch_begin", **datasets)
        self._give_gradients()
        row = self._train_epoch(epoch)
        if not math.isfinite(row["train_loss"]):
            raise FloatingPointError(
                f"the training loss became {row['train_loss']} in epoch {epoch + 1}"
            )
        if self.validation is not None:
            row |= self._validate(self.validation)
        stop = False
        if task.stopping is not None:
            if task.score is not None:
                row["valid_score"] = task.score()
            watched = "valid_score" if task.score is not None else "valid_loss"
            task.stopping.update(row[watched], net.module_)
            stop = task.stopping.exhausted
        net.history[-1].update(row)
        net.history[-1].update(_compare(row, self.best))
        if net.verbose and epoch % int(net.verbose) == 0:
            print(format_epoch(len(net.history) - 1, row, task.valid_name))
        if task.watcher is not None:
            stop |= task.watcher.end()
        net.notify("on_epoch_end", **datasets)
        return stop

    def _give_gradients(self) -> None:
        """Show the optimizer the kernel's gradients of what is not frozen."""
        parameters = self.net.module_.parameters()
        for parameter, gradient in zip(parameters, self.kernel.gradients, strict=True):
            parameter.grad = gradient if parameter.requires_grad else None

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Pass once over the training rows; return the mean loss (and accuracy).

        Both are those of the weights before each step, as the tutorial prints them.
        """
        dropout = None
        if self.kernel.dropout:
            dropout = _generator(self.net, DROPOUT_STREAM, self.net.device)
        records = []
        for i, batch in enumerate(self._batches()):
            if self.task.lr_schedule is not None:
                progress = (epoch + i / self.n_batches) / self.task.epochs
                self._set_rates(SCHEDULES[self.task.lr_schedule](progress))
            records += [batch.weight, *self._step(batch, dropout)]
        # One transfer an epoch: on a GPU each waits for all the work before it.
        values = torch.stack(records).tolist()
        width = len(values) // self.n_batches
        weights, *columns = (values[i::width] for i in range(width))
        names = ["train_loss", "train_acc"][: len(columns)]
        return {
            name: sum(w * mean for w, mean in zip(weights, column, strict=True))
            / sum(weights)
            for name, column in zip(names, columns, strict=True)
        }

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        if self.full_batch is not None:
            yield self.full_batch
            return
        n = len(self.task.train)
        generator = _generator(self.net, SHUFFLE_STREAM, "cpu")
        order = torch.randperm(n, generator=generator).to(self.net.device)
        for index in torch.split(order, self.size):
            yield Batch(self.task.train, index)

    def _set_rates(self, factor: float) -> None:
        """Set the learning rates to `factor` of what they were at the beginning."""
        groups = self.net.optimizer_.param_groups
        for group, rate in zip(groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    def _step(
        self, batch: Batch, dropout: torch.Generator | None
    ) -> list[torch.Tensor]:
        """Make one step of the optimizer.

        Returns
        -------
        list of torch.Tensor of shape ()
            The weighted mean of the batch's losses and, if `with_hits`, the share of
            its weight that is classified right.
        """
        net = self.net
        if net.callbacks_:
            rows = batch.rows()
            net.notify("on_batch_begin", batch=rows, training=True)
            y_pred = self._logits(batch)
        calls = []

        def closure() -> torch.Tensor:
            means: list[torch.Tensor] = []
            for x, y, w in batch.parts():
                masks = None if dropout is None else self._masks(len(y), dropout)
                part = self.kernel.accumulate(
                    x, y, w, masks=masks, first=not means, with_hits=self.with_hits
                )
                means = _sums(means, part)
            calls.append(means)
            if net.callbacks_:
                net.notify(
                    "on_grad_computed",
                    named_parameters=list(net.module_.named_parameters()),
                    batch=rows,
                    training=True,
                )
            return means[0]

        net.optimizer_.step(closure)
        # An optimizer may call the closure more than once (LBFGS): the first call is
        # the one at the weights the batch began with.
        means = calls[0]
        if net.callbacks_:
            net.history.record_batch("train_loss", means[0].item())
            net.history.record_batch("train_batch_size", len(rows[1]))
            net.notify(
                "on_batch_end", batch=rows, training=True, loss=means[0], y_pred=y_pred
            )
        return means

    def _masks(self, n: int, generator: torch.Generator) -> list[torch.Tensor]:
        """Draw what the units of each hidden layer are multiplied by, (units, n).

        torch's own dropout draws from the global generator, which a fit leaves alone.
        """
        keep = 1 - self.net.module_.dropout
        masks = [bias.new_empty((len(bias), n)) for bias in self.kernel.biases[:-1]]
        return [mask.bernoulli_(keep, generator=generator).div_(keep) for mask in masks]

    def _validate(self, batch: Batch) -> dict[str, float]:
        """Return loss and accuracy on the validation rows."""
        net = self.net
        if net.callbacks_:
            rows = batch.rows()
            net.notify("on_batch_begin", batch=rows, training=False)
            y_pred = self._logits(batch)
        means: list[torch.Tensor] = []
        for x, y, w in batch.parts():
            means = _sums(means, self.kernel.evaluate(x, y, w))
        loss, accuracy = torch.stack(means).tolist()
        if net.callbacks_:
            net.history.record_batch("valid_loss", loss)
            net.history.record_batch("valid_batch_size", len(rows[1]))
            net.notify(
                "on_batch_end", batch=rows, training=False, loss=means[0], y_pred=y_pred
            )
        return {"valid_loss": loss, "valid_acc": accuracy}

    def _logits(self, batch: Batch) -> torch.Tensor:
        """Return the logits of a batch, (n_samples, n_classes), for callbacks."""
        return torch.cat(
            [self.kernel.logits(x).mT.clone() for x, _, _ in batch.parts()]
        )


def _sums(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the sums of the entries of two lists, of which the first may be empty."""
    return [x + y for x, y in zip(a, b, strict=True)] if a else b


def _compare(row: dict[str, float], best: dict[str, float]) -> dict[str, bool]:
    """Return, as "..._best", which values beat all before them; update `best`.

    Callbacks of skorch watch these, such as Checkpoint "valid_loss_best".
    """
    is_best = {}
    for name, sign in (("train_loss", -1), ("valid_loss", -1), ("valid_score", 1)):
        if name in row:
            value = sign * row[name]
            is_best[f"{name}_best"] = value > best.get(name, -math.inf)
            best[name] = max(value, best.get(name, -math.inf))
    return is_best


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


def _generator(net: BlobNet, stream: int, device: str) -> torch.Generator:
    """Return a use's generator in this epoch, a function of seed, use and epoch."""
    words = np.random.SeedSequence((net.seed, stream, len(net.history)))
    seed = int(words.generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed)
