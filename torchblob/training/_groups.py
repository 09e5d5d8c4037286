"""Networks that pass through kernels side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchblob.training._lanes import Dropout, Lane, total
from torchblob.training._layout import Shape
from torchblob.training._samples import Pass, Rows, Samples
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

    Attributes
    ----------
    lanes : list of Lane
        Of each part.
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
    ) -> None:
        self.members = members[networks]
        net = self.members[0].net
        device, rate = torch.device(net.device), net.module_.dropout
        self.lanes = [
            Lane(
                weights.kernel(networks, extra=part > 0),
                part,
                parts,
                Shape.of(net.module_).block_rows(device),
                dropout=Dropout(rate, device) if rate > 0 else None,
                with_hits=with_hits,
            )
            for part in range(parts)
        ]
        self._rows = self._rows_of([member.task.train for member in self.members])
        # Without a size of their own, batches are as large as each network's data.
        self._size = min(net.batch_size, max(self._rows.counts))
        # The full batch is the same in each epoch, with the rows in their order.
        self._full = self._rows.in_order() if self.members[0].n_batches() == 1 else None
        valid = [m.task.valid for m in self.members if m.task.valid is not None]
        self.valid = self._rows_of(valid).in_order() if valid else None

    def _rows_of(self, samples: Sequence[Samples]) -> Rows:
        net = self.members[0].net
        n_classes = net.module_.linear_layers[-1].out_features
        return Rows(samples, n_classes, net.criterion_.label_smoothing)

    def begin_epoch(self, epoch: int) -> Pass:
        """Return the pass over the rows that is the epoch's."""
        for lane in self.lanes:
            if lane.dropout is not None:
                lane.dropout.seeds = [
                    member.seed(DROPOUT_STREAM, epoch) for member in self.members
                ]
        if self._full is not None:
            return self._full
        generators = [
            torch.Generator().manual_seed(member.seed(SHUFFLE_STREAM, epoch))
            for member in self.members
        ]
        return self._rows.shuffled(self._size, generators)

    def collect(self, of_lanes: Sequence[list[torch.Tensor]]) -> list[torch.Tensor]:
        """Add up the gradients of the lanes; return the sums of all."""
        for lane, sums in zip(self.lanes[1:], of_lanes[1:], strict=True):
            if sums:
                self.lanes[0].kernel.add_gradients(lane.kernel)
        return total(of_lanes)
