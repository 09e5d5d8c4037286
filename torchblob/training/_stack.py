"""Train networks side by side: epochs, batches, validation, schedule, stopping."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from torchblob.training._groups import Group
from torchblob.training._lanes import Lane, total
from torchblob.training._layout import Layout
from torchblob.training._rates import Rates
from torchblob.training._replay import CAPTURABLE, GRAPHS, Replay
from torchblob.training._task import DivergedError, Member, Task
from torchblob.training._threads import Crew
from torchblob.training._weights import StackedWeights

if TYPE_CHECKING:
    from torchblob.training._net import BlobNet

EPOCHS_BETWEEN_LOOKS = 32
"""After how many epochs the losses are read, if nobody needs them earlier."""

MOST_STEPS = 1000
"""Steps of an epoch up to which it is captured as a graph, of some 30 nodes each."""


def train(nets: Sequence[BlobNet], tasks: Sequence[Task]) -> list[DivergedError | None]:
    """Train each net's module on its task; write a row of its history an epoch.

    Nets that can go together train as one stack; each ends up as if trained alone, to
    rounding.

    Returns
    -------
    list of DivergedError or None
        For each net whose training loss turned infinite or NaN, an error that says
        when. The others are not affected.
    """
    members = [Member(net, task) for net, task in zip(nets, tasks, strict=True)]
    stacks: dict[object, list[Member]] = {}
    for member in members:
        kind = member.kind() if len(members) > 1 else None
        stacks.setdefault(kind, []).append(member)
    try:
        for running in stacks.values():
            while running:
                layout = Layout.of(running)
                with torch.no_grad(), Crew(layout.threads) as crew:
                    _Stack(running, layout, crew).train()
                running = [member for member in running if not member.done]
    finally:
        for member in members:
            if member.task.stopping is not None:
                member.task.stopping.restore(member.net.module_)
    return [member.error for member in members]


class _Stack:
    """Networks of one kind, while they train together.

    Parameters
    ----------
    members : list of Member
        The networks.
    layout : Layout
        How they are cut.
    crew : Crew
        Who computes.
    """

    def __init__(self, members: list[Member], layout: Layout, crew: Crew) -> None:
        self.members, self.crew = members, crew
        self.net, self.task = members[0].net, members[0].task
        self.weights = StackedWeights([member.net.module_ for member in members])
        self.is_of_its_own = not members[0].shares_optimizer()
        self.device = torch.device(self.net.device)
        self.captured = self.device.type in GRAPHS and self._can_be_captured(
            len(layout.networks)
        )
        self.optimizer = self._make_optimizer()
        self.rates = Rates(
            self.optimizer,
            members[0].n_batches(),
            on_device=self.captured and self.task.lr_schedule is not None,
        )
        # The method without its wrappers (profiler, hooks, compiler), which take longer
        # than the step of a small network. Nothing hangs on an optimizer of ours.
        self._optimizer_step = inspect.unwrap(type(self.optimizer).step)
        self.watched = any(member.watched for member in members)
        # Accuracy costs a pass over the logits: only for those who will see it.
        with_hits = self.task.valid is not None or self.watched
        self.names = ["train_loss", "train_acc"] if with_hits else ["train_loss"]
        if self.task.valid is not None:
            self.names += ["valid_loss", "valid_acc"]
        self.groups = [
            Group(members, self.weights, at, layout.parts, with_hits=with_hits)
            for at in layout.networks
        ]
        lanes = [(lane, group) for group in self.groups for lane in group.lanes]
        self.valid = {g: g.valid for g in self.groups if g.valid is not None}
        # A lane alone, that of a small network, is spared the way through the crew.
        self.lane = lanes[0][0] if len(lanes) == 1 else None
        n_threads = layout.threads.crew
        self.shares = [lanes[i::n_threads] for i in range(n_threads)]

    def _can_be_captured(self, n_groups: int) -> bool:
        """Return whether an epoch is the same operations on the same tensors."""
        net, task = self.net, self.task
        data = [rows for rows in (task.train, task.valid) if rows is not None]
        return (
            not self.is_of_its_own
            and net.optimizer in CAPTURABLE
            # Sparse rows come from the host.
            and all(isinstance(rows.X, torch.Tensor) for rows in data)
            and net.module_.dropout == 0  # its generators are seeded from outside
            and self.members[0].n_batches() * n_groups <= MOST_STEPS
        )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of all networks' weights, with the state of theirs."""
        net = self.net
        own = [member.net.optimizer_ for member in self.members]
        if self.is_of_its_own:
            return own[0]
        groups, settings = net.get_params_for_optimizer(
            "optimizer", [("flat", self.weights.flat)]
        )
        settings = {**settings, "lr": self.members[0].lr}
        if self.captured:
            settings |= CAPTURABLE[net.optimizer]
        optimizer = net.optimizer(*groups, **settings)
        self.weights.load_state(optimizer, own)
        return optimizer

    def train(self) -> None:
        """Train until all networks are done, or half of them: then fewer can go on."""
        running = list(enumerate(self.members))
        # Not an attribute: the cycle would keep all tensors until they are collected.
        run_epoch = Replay(self._epoch, self.device, captures=self.captured)
        try:
            while 2 * len(running) > len(self.members):
                self._run_epochs(running, run_epoch)
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
        if self.is_of_its_own and self.task.lr_schedule is not None:
            self.rates.reset()
        if not self.is_of_its_own:
            self.weights.save_state(self.optimizer, k, member.net.optimizer_)
        self.weights.give_back(k)

    def _run_epochs(self, running: list[tuple[int, Member]], run_epoch: Replay) -> None:
        """Train until someone looks at the losses, and record them."""
        first = running[0][1].epoch
        last = first + (1 if self.watched else EPOCHS_BETWEEN_LOOKS)
        for _, member in running:
            member.begin_epoch()
        done: list[torch.Tensor] = []
        try:
            for epoch in range(first, min(last, self.task.epochs)):
                for group in self.groups:
                    group.begin_epoch(epoch)
                if self.task.lr_schedule is not None:
                    self.rates.anneal(self.task.lr_schedule, epoch, self.task.epochs)
                done.append(run_epoch())
        finally:
            if done:
                values = torch.stack(done).movedim(-1, 0).tolist()
                for k, member in running:
                    member.record(self.names, values[k])

    def _epoch(self) -> torch.Tensor:
        """Train and evaluate once; return the values of `names`, (n_names, K).

        Losses and accuracies on the training rows are those of the weights before each
        step, as the tutorial prints them.
        """
        n_batches = len(self.groups[0].train.batches)
        if n_batches == 1:
            values = self._step(0)
        else:
            # Copies, since a later step may use the same place.
            means = [torch.stack(self._step(batch)) for batch in range(n_batches)]
            totals = torch.cat(
                [group.train.totals.view(n_batches, -1) for group in self.groups], -1
            )
            by_batch = torch.stack(means, 1).view(-1, *totals.shape)
            values = list((by_batch * totals).sum(1) / totals.sum(0))
        if self.valid:
            values = [*values, *self._validate()]
        return torch.stack([value.reshape(-1) for value in values])

    def _step(self, batch: int) -> list[torch.Tensor]:
        """Make one step of the optimizer.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            The weighted means of the batch's losses and, if wanted, the shares of its
            weight that are classified right.
        """
        if self.task.lr_schedule is not None:
            self.rates.set(batch)
        if self.is_of_its_own:
            return self._step_of_its_own(batch)
        means = self._gradient(batch)
        self._optimizer_step(self.optimizer)
        return means

    def _step_of_its_own(self, batch: int) -> list[torch.Tensor]:
        """Make one step of the net's own optimizer, and tell its callbacks."""
        net, rows, weights = self.net, self.groups[0].train, self.weights
        weights.take_in()  # callbacks at the end of the last epoch may have put others
        at = rows.batches[batch]
        X = y = y_pred = None
        if net.callbacks_:
            # A copy of the labels, whose place the next epoch takes.
            X, y = rows.features(at), rows.y[at].clone()
            self._notify("on_batch_begin", batch=(X, y), training=True)
            y_pred = self.groups[0].lanes[0].logits(rows, batch)

        def gradient() -> list[Any]:
            weights.take_in()
            means = [mean.clone() for mean in self._gradient(batch)]
            weights.show_gradients()
            if net.callbacks_:
                self._notify(
                    "on_grad_computed",
                    named_parameters=list(net.module_.named_parameters()),
                    batch=(X, y),
                    training=True,
                )
            return means

        means = gradient()
        before = [tensor.clone() for tensor in weights.values_and_gradients]

        def closure() -> Any:
            """Return the loss, after the gradient is that of the weights as they are.

            Most optimizers call this first of all, when it is there already.
            """
            weights.take_in()
            now = weights.values_and_gradients
            is_there = weights.shows_gradients() and all(map(torch.equal, now, before))
            return means[0] if is_there else gradient()[0]

        self.optimizer.step(closure)
        weights.take_in()
        if net.callbacks_:
            net.history.record_batch("train_loss", means[0].item())
            net.history.record_batch("train_batch_size", at.stop - at.start)
            self._notify(
                "on_batch_end",
                batch=(X, y),
                training=True,
                loss=means[0],
                y_pred=y_pred,
            )
        return means

    def _notify(self, hook: str, **kwargs: Any) -> None:
        """Call the callbacks, which may replace weights."""
        self.net.notify(hook, **kwargs)
        self.weights.take_in()

    def _gradient(self, batch: int) -> list[torch.Tensor]:
        """Compute the gradient of a batch; return what :meth:`_step` returns."""
        groups = self.groups
        if self.lane is not None:
            return self.lane.gradient(groups[0].train, batch)
        sums = self._share(lambda lane, group: lane.gradient(group.train, batch))
        means = [group.collect(of) for group, of in zip(groups, sums, strict=True)]
        return [_beside(of_groups) for of_groups in zip(*means, strict=True)]

    def _validate(self) -> list[torch.Tensor]:
        """Return the means of losses and of hits on the validation rows."""
        net, valid = self.net, self.valid
        if net.callbacks_:
            first = self.groups[0]
            X, y = valid[first].features(valid[first].batches[0]), valid[first].y
            self._notify("on_batch_begin", batch=(X, y), training=False)
            y_pred = first.lanes[0].logits(valid[first], 0)
        if self.lane is not None:
            means = self.lane.evaluate(valid[self.groups[0]])
        else:
            sums = self._share(lambda lane, group: lane.evaluate(valid[group]))
            means = [_beside(of) for of in zip(*map(total, sums), strict=True)]
        if net.callbacks_:
            net.history.record_batch("valid_loss", means[0].item())
            net.history.record_batch("valid_batch_size", len(y))
            self._notify(
                "on_batch_end",
                batch=(X, y),
                training=False,
                loss=means[0].clone(),
                y_pred=y_pred,
            )
        return means

    def _share(
        self, job: Callable[[Lane, Group], list[torch.Tensor]]
    ) -> list[list[list[torch.Tensor]]]:
        """Return what `job` returns for each lane of each group, from the crew."""

        def work(share: list[tuple[Lane, Group]]) -> list[Any]:
            return [(lane, job(lane, group)) for lane, group in share]

        shares = self.crew.run([partial(work, share) for share in self.shares])
        results = dict(result for share in shares for result in share)
        return [[results[lane] for lane in group.lanes] for group in self.groups]


def _beside(of_groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what groups have of each network, (K,) or () for K = 1, side by side."""
    if len(of_groups) == 1:
        return of_groups[0]
    return torch.cat([of_one.reshape(-1) for of_one in of_groups])
