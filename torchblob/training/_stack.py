"""Train networks side by side: epochs, batches, validation, schedule, stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from torchblob.training._early_stopping import EarlyStopping
from torchblob.training._samples import BLOCK, Batch, Block, Rows, Samples
from torchblob.training._threads import enough_threads
from torchblob.training._weights import StackedWeights

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

ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
)
"""Optimizers that treat each weight by itself, so that many networks can share one."""

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


def train(
    nets: Sequence[BlobNet], tasks: Sequence[Task]
) -> list[FloatingPointError | None]:
    """Train each net's module on its task; write a row of its history an epoch.

    Nets that can go together train as one stack; each ends up as if trained alone, to
    rounding.

    Returns
    -------
    list of FloatingPointError or None
        For each net whose training loss turned infinite or NaN, an error that says
        when. The others are not affected.
    """
    members = [_Member(net, task) for net, task in zip(nets, tasks, strict=True)]
    stacks: dict[Any, list[_Member]] = {}
    for member in members:
        stacks.setdefault(member.kind(), []).append(member)
    try:
        for running in stacks.values():
            while running:
                _Stack(running).train()
                running = [member for member in running if not member.done]
    finally:
        for member in members:
            if member.task.stopping is not None:
                member.task.stopping.restore(member.net.module_)
    return [member.error for member in members]


class _Member:
    """One network of a stack, and what is kept of it alone."""

    def __init__(self, net: BlobNet, task: Task) -> None:
        self.net, self.task = net, task
        self.epoch = 0
        self.epochs_before = len(net.history)
        self.best: dict[str, float] = {}
        self.done = False
        self.error: FloatingPointError | None = None

    def kind(self) -> Any:
        """Return what must be equal in networks that train together."""
        net, task = self.net, self.task
        if net.callbacks_ or not self.shares_optimizer() or net.optimizer_.state:
            return id(net)
        module = net.module_
        _, settings = net.get_params_for_optimizer("optimizer", [])
        return repr(
            [
                [layer.weight.shape for layer in module.linear_layers],
                [module.activation, module.dropout, net.criterion_.label_smoothing],
                [net.dtype, net.device, net.optimizer, net.lr, settings],
                [self.n_batches(), net.batch_size if self.n_batches() > 1 else None],
                [task.epochs, task.lr_schedule, task.valid is None],
            ]
        )

    def n_batches(self) -> int:
        """Return the number of batches of an epoch."""
        return math.ceil(len(self.task.train) / self.net.batch_size)

    def shares_optimizer(self) -> bool:
        """Return whether one optimizer can do for this network and others.

        One that a callback or a callable of the user's may depend on stays as it is.
        """
        return self.net.optimizer in ELEMENTWISE and not self.net.callbacks_

    def generator(self, stream: int, device: str) -> torch.Generator:
        """Return a use's generator in this epoch, a function of seed, use and epoch."""
        number = self.epochs_before + self.epoch
        words = np.random.SeedSequence((self.net.seed, stream, number))
        seed = int(words.generate_state(1, np.uint64)[0])
        return torch.Generator(device).manual_seed(seed)

    def begin_epoch(self) -> None:
        """Tell who wants to know that an epoch begins."""
        if self.task.watcher is not None:
            self.task.watcher.begin()
        if self.net.callbacks_:
            self.net.notify("on_epoch_begin", **self.net.callback_datasets(self.task))

    def end_epoch(self, row: dict[str, float]) -> None:
        """Record an epoch, and decide whether it was the last."""
        net, task = self.net, self.task
        self.epoch += 1
        if not math.isfinite(row["train_loss"]):
            self.error = FloatingPointError(
                f"the training loss became {row['train_loss']} in epoch {self.epoch}"
            )
            self.done = True
            return
        self.done = self.epoch == task.epochs
        if task.stopping is not None:
            if task.score is not None:
                row["valid_score"] = task.score()
            watched = "valid_score" if task.score is not None else "valid_loss"
            task.stopping.update(row[watched], net.module_)
            self.done |= task.stopping.exhausted
        row |= _compare(row, self.best)
        if net.callbacks_:
            net.history[-1].update(row)
        else:
            net.history.append({"batches": [], "epoch": len(net.history) + 1, **row})
        if net.verbose and (self.epoch - 1) % int(net.verbose) == 0:
            print(format_epoch(len(net.history) - 1, row, task.valid_name))
        if task.watcher is not None:
            self.done |= task.watcher.end()
        if net.callbacks_:
            net.notify("on_epoch_end", **net.callback_datasets(task))


class _Stack:
    """Networks of one kind, while they train together."""

    def __init__(self, members: list[_Member]) -> None:
        self.members = members
        self.net, self.task = members[0].net, members[0].task
        self.weights = StackedWeights([member.net.module_ for member in members])
        self.kernel = self.weights.kernel
        self.optimizer = self._make_optimizer()
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.rows = self._rows([member.task.train for member in members])
        # Without a size of their own, batches are as large as each network's data.
        self.size = min(self.net.batch_size, max(self.rows.counts))
        self.n_batches = members[0].n_batches()
        # The full batch is the same in each epoch, with the rows in their order.
        self.full_batch = self.rows.in_order() if self.n_batches == 1 else None
        self.validation: Batch | None = None
        valid = [m.task.valid for m in members if m.task.valid is not None]
        if valid:
            self.validation = self._rows(valid).in_order()
        self.work = min(self.size, BLOCK) * self.kernel.n_weights
        # Accuracy costs a pass over the logits: only for those who will see it.
        self.with_hits = self.validation is not None or any(
            member.net.verbose or member.net.callbacks_ for member in members
        )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of all networks' weights, with the state of theirs."""
        net = self.net
        own = [member.net.optimizer_ for member in self.members]
        if not self.members[0].shares_optimizer():
            return own[0]
        groups, settings = net.get_params_for_optimizer(
            "optimizer", [("flat", self.weights.flat)]
        )
        optimizer = net.optimizer(*groups, **{"lr": net.lr, **settings})
        self.weights.load_state(optimizer, own)
        return optimizer

    def _rows(self, samples: list[Samples]) -> Rows:
        n_classes = self.kernel.biases[-1].shape[-2]
        return Rows(samples, n_classes, self.net.criterion_.label_smoothing)

    def train(self) -> None:
        """Train until all networks are done, or half of them: then fewer can go on."""
        running = list(enumerate(self.members))
        try:
            with torch.no_grad(), enough_threads(self.work):
                while 2 * len(running) > len(self.members):
                    self._run_epoch(running)
                    for k, member in running:
                        if member.done:
                            self._finish(k)
                    running = [(k, m) for k, m in running if not m.done]
        finally:
            for k, _ in running:
                self._finish(k)

    def _finish(self, k: int) -> None:
        """Leave a net as it should be between trainings."""
        member = self.members[k]
        if self.optimizer is member.net.optimizer_:
            self._set_rates(1.0)
        else:
            self.weights.save_state(self.optimizer, k, member.net.optimizer_)
        self.weights.give_back(k)

    def _run_epoch(self, running: list[tuple[int, _Member]]) -> None:
        """Train, evaluate and record one epoch."""
        for _, member in running:
            member.begin_epoch()
        columns = self._train_epoch(running[0][1].epoch)
        if self.validation is not None:
            columns |= self._validate(self.validation)
        for k, member in running:
            member.end_epoch({name: column[k] for name, column in columns.items()})

    def _train_epoch(self, epoch: int) -> dict[str, list[float]]:
        """Pass once over the training rows; return mean losses (and accuracies).

        Both are those of the weights before each step, as the tutorial prints them.
        """
        generators: list[torch.Generator] = []
        if self.kernel.dropout:
            generators = [
                m.generator(DROPOUT_STREAM, m.net.device) for m in self.members
            ]
        means, totals = [], []
        for i, batch in enumerate(self._batches()):
            if self.task.lr_schedule is not None:
                progress = (epoch + i / self.n_batches) / self.task.epochs
                self._set_rates(SCHEDULES[self.task.lr_schedule](progress))
            means.append(self._step(batch, generators))
            totals.append(batch.total)
        return _columns(["train_loss", "train_acc"], means, totals)

    def _batches(self) -> Iterator[Batch]:
        """Return the batches of an epoch."""
        if self.full_batch is not None:
            return iter([self.full_batch])
        generators = [m.generator(SHUFFLE_STREAM, "cpu") for m in self.members]
        return self.rows.shuffled(self.size, generators)

    def _set_rates(self, factor: float) -> None:
        """Set the learning rates to `factor` of what they were at the beginning."""
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    def _step(
        self, batch: Batch, generators: list[torch.Generator]
    ) -> list[torch.Tensor]:
        """Make one step of the optimizer.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            The weighted means of the batch's losses and, if `with_hits`, the shares of
            its weight that are classified right.
        """
        net = self.net
        if net.callbacks_:
            X, y = batch.features_and_classes()
            net.notify("on_batch_begin", batch=(X, y), training=True)
            y_pred = self._logits(batch)
            self.weights.show_gradients()
        calls = []

        def closure() -> Any:
            means: list[torch.Tensor] = []
            for block in batch.blocks():
                part = self.kernel.accumulate(
                    block.x,
                    block.targets,
                    masks=self._masks(block, generators) if generators else None,
                    first=not means,
                    with_hits=self.with_hits,
                )
                means = _sums(means, part)
            calls.append(means)
            if net.callbacks_:
                net.notify(
                    "on_grad_computed",
                    named_parameters=list(net.module_.named_parameters()),
                    batch=(X, y),
                    training=True,
                )
            return means[0]

        self.optimizer.step(closure)
        # An optimizer may call the closure more than once (LBFGS): the first call is
        # the one at the weights the batch began with.
        means = calls[0]
        if net.callbacks_:
            net.history.record_batch("train_loss", means[0].item())
            net.history.record_batch("train_batch_size", len(y))
            net.notify(
                "on_batch_end",
                batch=(X, y),
                training=True,
                loss=means[0],
                y_pred=y_pred,
            )
        return means

    def _masks(
        self, block: Block, generators: list[torch.Generator]
    ) -> list[torch.Tensor]:
        """Draw what the units of each hidden layer are multiplied by, (K, units, n).

        torch's own dropout draws from the global generator, which a fit leaves alone.
        """
        keep = 1 - self.net.module_.dropout
        masks = []
        for bias in self.kernel.biases[:-1]:
            units, n = bias.shape[-2], block.x.shape[-2]
            # A network draws for its own rows only, so it draws as if alone.
            of_networks = [
                bias.new_empty((units, count)).bernoulli_(keep, generator=generator)
                for count, generator in zip(block.counts, generators, strict=True)
            ]
            mask = of_networks[0]
            if len(of_networks) > 1:
                mask = bias.new_zeros((len(of_networks), units, n))
                for row, of_one in zip(mask, of_networks, strict=True):
                    row[:, : of_one.shape[1]] = of_one
            masks.append(mask.div_(keep))
        return masks

    def _validate(self, batch: Batch) -> dict[str, list[float]]:
        """Return losses and accuracies on the validation rows."""
        net = self.net
        if net.callbacks_:
            X, y = batch.features_and_classes()
            net.notify("on_batch_begin", batch=(X, y), training=False)
            y_pred = self._logits(batch)
        means: list[torch.Tensor] = []
        for block in batch.blocks():
            means = _sums(means, self.kernel.evaluate(block.x, block.targets))
        columns = _columns(["valid_loss", "valid_acc"], [means], [batch.total])
        if net.callbacks_:
            net.history.record_batch("valid_loss", columns["valid_loss"][0])
            net.history.record_batch("valid_batch_size", len(y))
            net.notify(
                "on_batch_end",
                batch=(X, y),
                training=False,
                loss=means[0],
                y_pred=y_pred,
            )
        return columns

    def _logits(self, batch: Batch) -> torch.Tensor:
        """Return the logits of a batch, (n_samples, n_classes), for callbacks."""
        return torch.cat(
            [self.kernel.logits(block.x).mT.clone() for block in batch.blocks()]
        )


def _sums(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the sums of the entries of two lists, of which the first may be empty."""
    return [x + y for x, y in zip(a, b, strict=True)] if a else b


def _columns(
    names: list[str], means: list[list[torch.Tensor]], totals: list[torch.Tensor]
) -> dict[str, list[float]]:
    """Return each value's mean over the batches, for each network.

    Parameters
    ----------
    names : list of str
        What the values are called.
    means : list of list of torch.Tensor of shape (K,), or () for K = 1
        Of each batch, its weighted means; maybe of the first few names only.
    totals : list of torch.Tensor of the same shape
        Of each batch, the sum of its weights.
    """
    columns = [torch.stack(column) for column in zip(*means, strict=True)]
    if len(means) == 1:
        values = [column[0] for column in columns]
    else:
        shares = torch.stack(totals) / sum(totals)
        values = [(column * shares).sum(0) for column in columns]
    return {
        name: value.reshape(-1).tolist()
        for name, value in zip(names, values, strict=False)
    }


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
