"""Networks that pass through kernels side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchblob.training._blocks import Blocks
from torchblob.training._lanes import Dropout, Lane, total
from torchblob.training._samples import Rows, Samples
from torchblob.training._task import DROPOUT_STREAM, SHUFFLE_STREAM, Member
from torchblob.training._weights import StackedWeights


class Group:
    """Networks that pass through a kernel side by side, or some of their rows each.

    Parameters
    ----------
    members : sequence of Member
        The networks of a stack.
    weights : StackedWeights
        Those of all of them.
    networks : slice
        Which of them these are.
    parts : int
        Into how many the rows of each batch are cut, each with a lane of its own.
    with_hits : bool
        Whether training counts what is classified right.
    size : Blocks
        How many rows pass through a kernel at once.
    kept_floats : int
        What its lanes may copy of the rows to keep it from epoch to epoch.

    Attributes
    ----------
    lanes : list of Lane
        Of each part.
    train : Pass
        The rows to learn from, in the order of the epoch.
    valid : Pass or None
        The validation rows.
    """

    def __init__(
        self,
        members: Sequence[Member],
        weights: StackedWeights,
        networks: slice,
        parts: int,
        *,
        with_hits: bool,
        size: Blocks,
        kept_floats: int,
    ) -> None:
        self.members = members[networks]
        net = self.members[0].net
        rate = net.module_.dropout
        self.lanes = [
            Lane(
                weights.kernel(networks, extra=part > 0),
                part,
                parts,
                size,
                dropout=Dropout(rate, weights.values) if rate > 0 else None,
                with_hits=with_hits,
                kept_floats=kept_floats,
            )
            for part in range(parts)
        ]
        kernel = self.lanes[0].kernel
        self._gradients = weights.gradients[networks]
        self._own_gradients = []
        if kernel.stacked:
            self._own_gradients = [of_layer.flatten(1) for of_layer in kernel.gradients]
        self._rows = self._rows_of([member.task.train for member in self.members])
        # The full batch is the same in each epoch, with the rows in their order.
        self._shuffles = self.members[0].n_batches() > 1
        if self._shuffles:
            self.train = self._rows.in_batches(net.batch_size)
        else:
            self.train = self._rows.in_one_batch()
        valid = [m.task.valid for m in self.members if m.task.valid is not None]
        self.valid = self._rows_of(valid).in_one_batch() if valid else None

    def _rows_of(self, samples: Sequence[Samples]) -> Rows:
        net = self.members[0].net
        n_classes = net.module_.linear_layers[-1].out_features
        return Rows(samples, n_classes, net.criterion_.label_smoothing)

    def begin_epoch(self, epoch: int) -> None:
        """Shuffle the rows, and seed the dropout."""
        for lane in self.lanes:
            if lane.dropout is not None:
                lane.dropout.seeds = [
                    member.seed(DROPOUT_STREAM, epoch) for member in self.members
                ]
        if self._shuffles:
            generators = [
                torch.Generator().manual_seed(member.seed(SHUFFLE_STREAM, epoch))
                for member in self.members
            ]
            self.train.reorder(self._rows.shuffled(generators))

    def collect(self, of_lanes: Sequence[list[torch.Tensor]]) -> list[torch.Tensor]:
        """Bring the gradients of the lanes into the stack; add up their sums."""
        for lane, sums in zip(self.lanes[1:], of_lanes[1:], strict=True):
            if sums:
                self.lanes[0].kernel.add_gradients(lane.kernel)
        if self._own_gradients:
            torch.cat(self._own_gradients, 1, out=self._gradients)
        return total(of_lanes)
