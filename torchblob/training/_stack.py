"""Train networks side by side: epochs, validation, schedule, stopping."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from torchblob.training._blocks import Blocks
from torchblob.training._engine import Engine
from torchblob.training._layout import Layout, Shape
from torchblob.training._rates import DeviceRates, Rates
from torchblob.training._replay import CAPTURABLE, GRAPHS, Replay
from torchblob.training._steps import OwnSteps, SharedSteps
from torchblob.training._task import Member, StopTraining, format_epoch
from torchblob.training._threads import Crew
from torchblob.training._weights import StackedWeights

EPOCHS_BETWEEN_LOOKS = 32
"""After how many epochs the losses are read, if nobody needs them earlier."""

MOST_STEPS = 1000
"""Steps of an epoch up to which it is captured as a graph, of some 30 nodes each."""


def train(members: Sequence[Member]) -> None:
    """Train each member's network on its task; write a row of its history an epoch.

    Those that can go together train as one stack; each ends up as if trained alone, to
    rounding. Where a loss or weights turn infinite or NaN, or a score can't be had,
    `member.error` says so, also if the training is interrupted, and the others are not
    affected.
    """
    try:
        for stack in stacks_of(members):
            with suppress(StopTraining):  # by a callback of the only network
                _train_stack(stack)
    finally:
        for member in members:
            if member.task.stopping is not None:
                member.task.stopping.restore(member.net.module_)


def _train_stack(members: list[Member]) -> None:
    """Train members of one kind, in stacks that shrink as networks end."""
    net = members[0].net
    size = Blocks(Shape.of(net.module_).block_rows(torch.device(net.device)))
    while members:
        layout = Layout.of(members)
        with (
            torch.no_grad(),
            Crew(layout.threads) as crew,
            StackedWeights([member.net.module_ for member in members]) as weights,
        ):
            _Stack(members, weights, layout, crew, size).train()
        members = [member for member in members if not member.done]


def stacks_of(members: Sequence[Member]) -> list[list[Member]]:
    """Return which members can train together, in an order that suits that."""
    if len(members) == 1:
        return [list(members)]
    stacks: dict[object, list[Member]] = {}
    for member in members:
        stacks.setdefault(member.kind(), []).append(member)
    for stack in stacks.values():
        # Networks with equal settings side by side, which make a step together.
        stack.sort(key=lambda member: repr(member.settings()))
    return list(stacks.values())


class _Stack:
    """Networks of one kind, while they train together.

    Parameters
    ----------
    members : list of Member
        The networks.
    weights : StackedWeights
        Theirs.
    layout : Layout
        How they are cut.
    crew : Crew
        Who computes.
    size : Blocks
        How many rows pass through a kernel at once.
    """

    def __init__(
        self,
        members: list[Member],
        weights: StackedWeights,
        layout: Layout,
        crew: Crew,
        size: Blocks,
    ) -> None:
        self.members, self.weights = members, weights
        first = members[0]
        self.task, self.device = first.task, torch.device(first.net.device)
        self.watched = any(member.watched for member in members)
        # One line of several networks: as many logs would be confused.
        self.prints = first.net.verbose > 0 and len(members) > 1
        for member in members:
            member.prints = not self.prints
        # Accuracy costs a pass over the logits: only for those who will see it.
        with_hits = self.task.valid is not None or self.watched
        self.names = ["train_loss", "train_acc"] if with_hits else ["train_loss"]
        if self.task.valid is not None:
            self.names += ["valid_loss", "valid_acc"]
        self.engine = Engine(
            members, weights, layout, crew, with_hits=with_hits, size=size
        )
        shared = first.shares_optimizer()
        self.captured = shared and self._can_be_captured()
        self.steps: SharedSteps | OwnSteps
        if shared:
            self.steps = SharedSteps(
                members, weights, self.engine, captured=self.captured
            )
        else:
            self.steps = OwnSteps(first, weights, self.engine)
        self.rates: Rates | None = None
        if self.task.lr_schedule is not None:
            make_rates = DeviceRates if self.captured else Rates
            self.rates = make_rates(
                self.steps.optimizer,
                self.task.lr_schedule,
                self.task.epochs,
                self.engine.n_batches,
            )

    def _can_be_captured(self) -> bool:
        """Return whether an epoch is the same operations on the same tensors."""
        net, task, engine = self.members[0].net, self.task, self.engine
        data = [rows for rows in (task.train, task.valid) if rows is not None]
        return (
            self.device.type in GRAPHS
            and net.optimizer in CAPTURABLE
            # Sparse rows come from the host.
            and all(isinstance(rows.X, torch.Tensor) for rows in data)
            and net.module_.dropout == 0  # its generators are seeded from outside
            and engine.n_batches * len(engine.groups) <= MOST_STEPS
        )

    def train(self) -> None:
        """Train until all networks are done, or half of them: then fewer can go on."""
        running = list(enumerate(self.members))
        # Not an attribute: the cycle would keep all tensors until they are collected.
        run_epoch = Replay(self._epoch, self.device, captures=self.captured)
        try:
            while 2 * len(running) > len(self.members):
                self._run_epochs(running, run_epoch)
                self._finish([(k, member) for k, member in running if member.done])
                running = [(k, member) for k, member in running if not member.done]
        finally:
            if self.rates is not None:
                self.rates.reset()
            self._finish(running)

    def _finish(self, ended: list[tuple[int, Member]]) -> None:
        """Leave networks as they should be between trainings."""
        for k, _ in ended:
            self.steps.finish(k)
        finite = self.weights.are_finite() if ended else []
        for k, member in ended:
            # The loss that would show it is that of the next step.
            if not finite[k] and not member.has_best_weights:
                member.fail("the weights became infinite or NaN in the last step")
            self.weights.give_back(k)

    def _run_epochs(self, running: list[tuple[int, Member]], run_epoch: Replay) -> None:
        """Train until someone looks at the losses, and record them."""
        first = running[0][1].epoch
        last = first + (1 if self.watched else EPOCHS_BETWEEN_LOOKS)
        for _, member in running:
            member.attempt(member.begin_epoch)
        done: list[torch.Tensor] = []
        try:
            for epoch in range(first, min(last, self.task.epochs)):
                self.engine.begin_epoch(epoch)
                if self.rates is not None:
                    self.rates.begin_epoch(epoch)
                done.append(run_epoch())
        finally:
            if done:
                values = torch.stack(done).movedim(-1, 0).tolist()
                for k, member in running:
                    member.attempt(member.record, self.names, values[k])
                if self.prints:
                    self._print([m for _, m in running if m.error is None])
        for k, member in running:
            if member.is_to_be_kept:
                self._keep(k, member)

    def _keep(self, k: int, member: Member) -> None:
        """Let a network's state be kept between two epochs."""
        if self.rates is not None and not self.captured:
            self.rates.reset()  # those of the network's own optimizer
        self.steps.finish(k)
        member.attempt(member.keep)

    def _print(self, members: list[Member]) -> None:
        """Print the means of the last epoch, where it is one that the log shows."""
        if not members:
            return
        net = members[0].net
        number = len(net.history) - 1
        if number % int(net.verbose) == 0:
            rows = [member.net.history[-1] for member in members]
            means = {
                name: sum(row[name] for row in rows) / len(rows) for name in self.names
            }
            line = format_epoch(number, means, self.task.valid_name)
            networks = "networks" if len(rows) > 1 else "network"
            print(f"{len(rows)} {networks}, means | {line}")

    def _epoch(self) -> torch.Tensor:
        """Train and evaluate once; return the values of `names`, (n_names, K).

        Losses and accuracies on the training rows are those of the weights before each
        step, as the tutorial prints them.
        """
        if self.engine.n_batches == 1:
            means = self._step(0)
        else:
            # Copies, since a later step may use the same place.
            means = self.engine.epoch_means(
                [
                    torch.stack(self._step(batch))
                    for batch in range(self.engine.n_batches)
                ]
            )
        means = [*means, *self.steps.evaluate()]
        return torch.stack([mean.reshape(-1) for mean in means])

    def _step(self, batch: int) -> list[torch.Tensor]:
        """Make a step at its rate; return its means, as :meth:`Engine.gradient`."""
        if self.rates is not None:
            self.rates.set(batch)
        return self.steps.step(batch)
