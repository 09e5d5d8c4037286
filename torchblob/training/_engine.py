"""Gradients and evaluations of all networks of a stack, computed by a crew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch

from torchblob.training._blocks import Blocks
from torchblob.training._groups import Group
from torchblob.training._lanes import KEPT_FLOATS, Lane, total
from torchblob.training._layout import Layout
from torchblob.training._samples import Pass
from torchblob.training._task import Member
from torchblob.training._threads import Crew
from torchblob.training._weights import StackedWeights


class Engine:
    """Computes for all networks of a stack at once.

    Parameters
    ----------
    members : sequence of Member
        The networks.
    weights : StackedWeights
        Theirs, where gradients are written too.
    layout : Layout
        How the work is cut.
    crew : Crew
        Who does it.
    with_hits : bool
        Whether training counts what is classified right.
    size : Blocks
        How many rows pass through a kernel at once.

    Attributes
    ----------
    groups : list of Group
        Networks that pass through a kernel side by side.
    n_batches : int
        Of an epoch.
    """

    def __init__(
        self,
        members: Sequence[Member],
        weights: StackedWeights,
        layout: Layout,
        crew: Crew,
        *,
        with_hits: bool,
        size: Blocks,
    ) -> None:
        self.groups = [
            Group(
                members,
                weights,
                networks,
                layout.parts,
                with_hits=with_hits,
                size=size,
                kept_floats=KEPT_FLOATS // len(layout.networks),
            )
            for networks in layout.networks
        ]
        self.n_batches = len(self.groups[0].train.batches)
        self._crew = crew
        lanes = [(lane, group) for group in self.groups for lane in group.lanes]
        # A lane alone, that of a small network, is spared the way through the crew.
        self._only_lane = lanes[0][0] if len(lanes) == 1 else None
        n_threads = layout.threads.crew
        self._lanes_of_threads = [lanes[i::n_threads] for i in range(n_threads)]

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle the rows, and seed the dropout."""
        for group in self.groups:
            group.begin_epoch(epoch)

    def gradient(self, batch: int) -> list[torch.Tensor]:
        """Compute the gradients of the batch of that number.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            The weighted means of the batch's losses and, if wanted, the shares of its
            weight that are classified right; valid until the next call.
        """
        groups = self.groups
        if self._only_lane is not None:
            return groups[0].collect([self._only_lane.gradient(groups[0].train, batch)])
        sums = self._of_all(lambda lane, group: lane.gradient(group.train, batch))
        means = [group.collect(of) for group, of in zip(groups, sums, strict=True)]
        return [_joined(of_groups) for of_groups in zip(*means, strict=True)]

    def epoch_means(self, by_batch: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the means of an epoch from what each batch has, (n_means, K) each."""
        totals = torch.cat(
            [group.train.totals.view(self.n_batches, -1) for group in self.groups], -1
        )
        means = torch.stack(list(by_batch), 1).view(-1, *totals.shape)
        return list((means * totals).sum(1) / totals.sum(0))

    def evaluate(self) -> list[torch.Tensor]:
        """Return the means of losses and of hits on the validation rows, if any."""
        if self.groups[0].valid is None:
            return []
        if self._only_lane is not None:
            return self._only_lane.evaluate(self.groups[0].valid)
        sums = self._of_all(lambda lane, group: lane.evaluate(cast(Pass, group.valid)))
        return [_joined(of_groups) for of_groups in zip(*map(total, sums), strict=True)]

    def _of_all(
        self, compute: Callable[[Lane, Group], list[torch.Tensor]]
    ) -> list[list[list[torch.Tensor]]]:
        """Return what the crew computes for each lane of each group."""

        def compute_some(lanes: list[tuple[Lane, Group]]) -> list[Any]:
            return [(lane, compute(lane, group)) for lane, group in lanes]

        of_threads = self._crew.run(
            [partial(compute_some, lanes) for lanes in self._lanes_of_threads]
        )
        results = dict(result for of_thread in of_threads for result in of_thread)
        return [[results[lane] for lane in group.lanes] for group in self.groups]


def _joined(of_groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what groups have of each network, (K,) or () for K = 1, side by side."""
    if len(of_groups) == 1:
        return of_groups[0]
    return torch.cat([of_one.reshape(-1) for of_one in of_groups])
