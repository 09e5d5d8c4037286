"""Steps of an optimizer: one for all networks, or a network's own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch

from torchblob.training._engine import Engine
from torchblob.training._replay import CAPTURABLE
from torchblob.training._samples import Pass
from torchblob.training._sections import load_state, save_state
from torchblob.training._task import Member
from torchblob.training._weights import StackedWeights


class SharedSteps:
    """Steps of one optimizer for the weights of all networks, that nobody watches.

    Parameters
    ----------
    members : sequence of Member
        The networks; those with equal settings of their optimizers side by side.
    weights : StackedWeights
        Theirs.
    engine : Engine
        Computes the gradients.
    captured : bool
        Whether the steps are captured in a graph.

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
        Of the stack, with the state that each network's own has.
    """

    def __init__(
        self,
        members: Sequence[Member],
        weights: StackedWeights,
        engine: Engine,
        *,
        captured: bool,
    ) -> None:
        self._members, self._weights, self._engine = members, weights, engine
        make_optimizer = members[0].net.optimizer
        more = CAPTURABLE[make_optimizer] if captured else {}
        self._sections = [weights.section(run) for run in _runs(members)]
        self.optimizer = make_optimizer(
            [
                {
                    "params": [section.parameter],
                    **members[section.networks.start].settings(),
                    **more,
                }
                for section in self._sections
            ]
        )
        for section in self._sections:
            run = section.networks
            own = [member.net.optimizer_ for member in members[run]]
            load_state(self.optimizer, section, weights.parameters[run], own)
        # The method without its wrappers (profiler, hooks, compiler), which take longer
        # than the step of a small network. Nothing hangs on an optimizer of ours.
        self._update = inspect.unwrap(type(self.optimizer).step)

    def step(self, batch: int) -> list[torch.Tensor]:
        """Make a step on a batch; return its means, as :meth:`Engine.gradient` does."""
        means = self._engine.gradient(batch)
        self._update(self.optimizer)
        return means

    def evaluate(self) -> list[torch.Tensor]:
        """Return the means on the validation rows, if there are any."""
        return self._engine.evaluate()

    def finish(self, k: int) -> None:
        """Give the `k`-th network's own optimizer its part of the state."""
        own, parameters = self._members[k].net.optimizer_, self._weights.parameters[k]
        for section in self._sections:
            start, stop = section.networks.start, section.networks.stop
            if start <= k < stop:
                save_state(self.optimizer, section, k - start, parameters, own)


def _runs(members: Sequence[Member]) -> list[slice]:
    """Return the runs of networks whose optimizers have equal settings."""
    runs: list[slice] = []
    start = 0
    for _, run in groupby(members, lambda member: member.settings()):
        stop = start + len(list(run))
        runs.append(slice(start, stop))
        start = stop
    return runs


class _Shown(NamedTuple):
    """What callbacks are shown of a batch."""

    X: torch.Tensor
    y: torch.Tensor
    y_pred: torch.Tensor


class OwnSteps:
    """Steps of a network's own optimizer, which its callbacks watch and may change.

    Parameters
    ----------
    member : Member
        The network.
    weights : StackedWeights
        Its weights.
    engine : Engine
        Computes the gradients.

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
        The network's own.
    """

    def __init__(self, member: Member, weights: StackedWeights, engine: Engine) -> None:
        self._net, self._weights, self._engine = member.net, weights, engine
        self.optimizer = member.net.optimizer_

    def step(self, batch: int) -> list[torch.Tensor]:
        """Make a step on a batch; return its means, as :meth:`Engine.gradient` does."""
        net, weights = self._net, self._weights
        shown = self._begin_batch(self._engine.groups[0].train, batch, training=True)

        def gradient() -> list[torch.Tensor]:
            weights.take_in()
            means = [mean.clone() for mean in self._engine.gradient(batch)]
            weights.show_gradients()
            if shown is not None:
                self._notify(
                    "on_grad_computed",
                    named_parameters=list(net.module_.named_parameters()),
                    batch=(shown.X, shown.y),
                    training=True,
                )
            return means

        means = gradient()
        before = weights.values.clone(), weights.gradients.clone()

        def closure() -> torch.Tensor:
            """Return the loss, after the gradient is that of the weights as they are.

            Most optimizers call this first of all, when it is there already.
            """
            weights.take_in()
            now = weights.values, weights.gradients
            is_there = weights.shows_gradients() and all(map(torch.equal, now, before))
            return means[0] if is_there else gradient()[0]

        self.optimizer.step(closure)
        weights.take_in()
        self._end_batch(shown, means[0], training=True)
        return means

    def evaluate(self) -> list[torch.Tensor]:
        """Return the means on the validation rows, if there are any."""
        rows = self._engine.groups[0].valid
        if rows is None:
            return []
        shown = self._begin_batch(rows, 0, training=False)
        means = self._engine.evaluate()
        self._end_batch(shown, means[0].clone(), training=False)
        return means

    def finish(self, k: int) -> None:
        """Take in what callbacks at the end of the last epoch may have put."""
        self._weights.take_in()

    def _begin_batch(self, rows: Pass, batch: int, *, training: bool) -> _Shown | None:
        """Show the callbacks, if there are any, a batch that begins."""
        if not self._net.callbacks_:
            return None
        at = rows.batches[batch]
        # A copy of the labels, whose place the next epoch takes.
        X, y = rows.features(at), rows.y[at].clone()
        self._notify("on_batch_begin", batch=(X, y), training=training)
        return _Shown(X, y, self._engine.groups[0].lanes[0].logits(rows, batch))

    def _end_batch(
        self, shown: _Shown | None, loss: torch.Tensor, *, training: bool
    ) -> None:
        """Show the callbacks what came of the batch."""
        if shown is None:
            return
        name, history = "train" if training else "valid", self._net.history
        history.record_batch(f"{name}_loss", loss.item())
        history.record_batch(f"{name}_batch_size", len(shown.y))
        self._notify(
            "on_batch_end",
            batch=(shown.X, shown.y),
            training=training,
            loss=loss,
            y_pred=shown.y_pred,
        )

    def _notify(self, hook: str, **kwargs: Any) -> None:
        """Call the callbacks, which may put other weights in the place of these."""
        self._net.notify(hook, **kwargs)
        self._weights.take_in()
