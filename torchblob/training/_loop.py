"""Train one network: epochs, batches, validation, schedule and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import nn

from torchblob.nn import BlobModel
from torchblob.training._early_stopping import EarlyStopping
from torchblob.training._samples import Samples, blocks

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
    base_rates = [group["lr"] for group in net.optimizer_.param_groups]
    best: dict[str, float] = {}
    try:
        for epoch in range(task.epochs):
            if _run_epoch(net, task, epoch, base_rates, best):
                break
    finally:
        if task.stopping is not None:
            task.stopping.restore(net.module_)
        for group, rate in zip(net.optimizer_.param_groups, base_rates, strict=True):
            if task.lr_schedule is not None:
                group["lr"] = rate
        net.optimizer_.zero_grad(set_to_none=True)


def _run_epoch(
    net: BlobNet,
    task: Task,
    epoch: int,
    base_rates: list[float],
    best: dict[str, float],
) -> bool:
    """Train, evaluate and record one epoch; return whether it is to be the last."""
    if task.watcher is not None:
        task.watcher.begin()
    datasets = net.callback_datasets(task)
    net.notify("on_epoch_begin", **datasets)
    row = _train_epoch(net, task, epoch, base_rates)
    if not math.isfinite(row["train_loss"]):
        raise FloatingPointError(
            f"the training loss became {row['train_loss']} in epoch {epoch + 1}"
        )
    if task.valid is not None:
        row |= _validate(net, task.valid)
    stop = False
    if task.stopping is not None:
        if task.score is not None:
            row["valid_score"] = task.score()
        watched = "valid_score" if task.score is not None else "valid_loss"
        task.stopping.update(row[watched], net.module_)
        stop = task.stopping.exhausted
    net.history[-1].update(row)
    net.history[-1].update(_compare(row, best))
    if net.verbose and epoch % int(net.verbose) == 0:
        print(format_epoch(len(net.history) - 1, row, task.valid_name))
    if task.watcher is not None:
        stop |= task.watcher.end()
    net.notify("on_epoch_end", **datasets)
    return stop


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


def _train_epoch(
    net: BlobNet, task: Task, epoch: int, base_rates: list[float]
) -> dict[str, float]:
    """Pass once over the training rows; return the epoch's mean loss (and accuracy).

    Both are those of the weights before each step, as the tutorial prints them.
    """
    samples = task.train
    size = min(net.batch_size, len(samples))
    n_batches = math.ceil(len(samples) / size)
    # Accuracy costs a pass over the logits: only for those who will see it.
    with_accuracy = bool(net.verbose or net.callbacks_ or task.valid is not None)
    dropout_generator = None
    if any(isinstance(layer, nn.Dropout) for layer in net.module_.linear_layer_stack):
        dropout_generator = _generator(net, DROPOUT_STREAM, samples.weight.device)
    sums = []
    for i, index in enumerate(_batches(net, len(samples), size)):
        if task.lr_schedule is not None:
            factor = SCHEDULES[task.lr_schedule]((epoch + i / n_batches) / task.epochs)
            for group, rate in zip(
                net.optimizer_.param_groups, base_rates, strict=True
            ):
                group["lr"] = rate * factor
        sums += _train_batch(net, samples, index, dropout_generator, with_accuracy)
    # One transfer an epoch: on a GPU each one waits for the work before it.
    total, *means = torch.stack(sums).view(n_batches, -1).sum(0).tolist()
    names = ["train_loss", "train_acc"][: len(means)]
    return {name: mean / total for name, mean in zip(names, means, strict=True)}


def _batches(net: BlobNet, n: int, size: int) -> Iterator[slice | torch.Tensor]:
    """Yield the row indices of each batch; a full batch keeps the rows' order."""
    if size == n:
        yield slice(0, n)
        return
    generator = _generator(net, SHUFFLE_STREAM, torch.device("cpu"))
    yield from torch.split(torch.randperm(n, generator=generator).to(net.device), size)


def _train_batch(
    net: BlobNet,
    samples: Samples,
    index: slice | torch.Tensor,
    dropout_generator: torch.Generator | None,
    with_accuracy: bool,
) -> list[torch.Tensor]:
    """Make one step of the optimizer on the batch `index`.

    Returns
    -------
    list of torch.Tensor of shape ()
        Sums over the batch: of the weights, of weight times loss, and, if
        `with_accuracy`, of the weights of the rows that are classified right.
    """
    if net.callbacks_:
        batch = samples.take(index)[:2]
        net.notify("on_batch_begin", batch=batch, training=True)
    # A batch whose rows all have a class of weight zero has no gradient.
    weight = samples.weight[index].sum().clamp_min_(torch.finfo(net.dtype).tiny)
    calls: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []

    def closure() -> torch.Tensor:
        net.optimizer_.zero_grad()
        sums: list[torch.Tensor] = []
        outputs = []
        for block in blocks(index):
            X, y, w = samples.take(block)
            logits = _train_logits(net.module_, X, dropout_generator)
            losses = _cross_entropy(net, logits, y)
            torch.autograd.backward(losses, w / weight)  # of the weighted mean
            of_block = [torch.dot(losses.detach(), w)]
            if with_accuracy:
                of_block.append(_correct(logits.detach(), y, w))
            sums = (
                [a + b for a, b in zip(sums, of_block, strict=True)]
                if sums
                else of_block
            )
            if net.callbacks_:
                outputs.append(logits.detach())
        calls.append((sums, outputs))
        if net.callbacks_:
            net.notify(
                "on_grad_computed",
                named_parameters=list(net.module_.named_parameters()),
                batch=batch,
                training=True,
            )
        return sums[0] / weight

    with torch.enable_grad():
        net.optimizer_.step(closure)
    # An optimizer may call the closure more than once (LBFGS): the first call is
    # the one at the weights the batch began with.
    sums, outputs = calls[0]
    if net.callbacks_:
        loss = sums[0] / weight
        net.history.record_batch("train_loss", loss.item())
        net.history.record_batch("train_batch_size", len(batch[1]))
        net.notify(
            "on_batch_end",
            batch=batch,
            training=True,
            loss=loss,
            y_pred=torch.cat(outputs),
        )
    return [weight, *sums]


def _train_logits(
    module: BlobModel, X: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Return the logits in training mode, with dropout from `generator`.

    torch's own dropout draws from the global generator, which a fit leaves alone.
    """
    for layer in module.linear_layer_stack:
        if isinstance(layer, nn.Dropout):
            keep = torch.empty_like(X).bernoulli_(1 - layer.p, generator=generator)
            X = X * keep.div_(1 - layer.p)
        else:
            X = layer(X)
    return X


def _validate(net: BlobNet, samples: Samples) -> dict[str, float]:
    """Return loss and accuracy on the validation rows."""
    batch = (samples.X, samples.y)
    if net.callbacks_:
        net.notify("on_batch_begin", batch=batch, training=False)
    sums = samples.weight.new_zeros(3)
    outputs = []
    with torch.no_grad():
        for block in blocks(slice(0, len(samples))):
            X, y, w = samples.take(block)
            logits = net.module_(X)
            loss = torch.dot(_cross_entropy(net, logits, y), w)
            sums += torch.stack([w.sum(), loss, _correct(logits, y, w)])
            if net.callbacks_:
                outputs.append(logits)
    total, loss, correct = sums.tolist()
    if net.callbacks_:
        net.history.record_batch("valid_loss", loss / total)
        net.history.record_batch("valid_batch_size", len(samples))
        net.notify(
            "on_batch_end",
            batch=batch,
            training=False,
            loss=sums[1] / sums[0],
            y_pred=torch.cat(outputs),
        )
    return {"valid_loss": loss / total, "valid_acc": correct / total}


def _cross_entropy(net: BlobNet, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the loss of each row, (n,)."""
    smoothing = net.criterion_.label_smoothing
    return nn.functional.cross_entropy(
        logits, y, reduction="none", label_smoothing=smoothing
    )


def _correct(logits: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the weight of the rows whose largest logit is their class."""
    return torch.dot((logits.argmax(1) == y).to(w.dtype), w)


def _generator(net: BlobNet, stream: int, device: torch.device) -> torch.Generator:
    """Return a use's generator in this epoch, a function of seed, use and epoch."""
    words = np.random.SeedSequence((net.seed, stream, len(net.history)))
    seed = int(words.generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed)
