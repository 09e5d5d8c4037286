"""How the work of a stack is cut to fit caches, memory and threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from torchblob.nn import BlobModel
from torchblob.training._samples import pieces
from torchblob.training._task import Member
from torchblob.training._threads import WORK_OF_A_THREAD, Threads

BLOCK_FLOATS = {"cpu": 2**20, "other": 2**28}
"""What the activations of a block may take: in a processor's caches, 4 MB in float32;
on a GPU, where larger blocks mean fewer launches, 1 GB."""

DATA_FLOATS = {"cpu": 2**26, "other": 2**31}
"""Features that a group of several networks may copy to have them side by side."""


class Shape(NamedTuple):
    """What the cost of a row in a network depends on.

    Parameters
    ----------
    floats : int
        Numbers that are kept of a row: features, activations and their gradients.
    products : int
        Multiply-adds of the row's logits.
    """

    floats: int
    products: int

    @classmethod
    def of(cls, module: BlobModel) -> Shape:
        """Return that of a network."""
        weights = [layer.weight for layer in module.linear_layers]
        floats = weights[0].shape[1] + 2 * sum(weight.shape[0] for weight in weights)
        return cls(floats, sum(weight.numel() for weight in weights))

    @property
    def work(self) -> int:
        """The row's cost in multiply-adds.

        Passes over the numbers cost as much as about eight multiply-adds each.
        """
        return self.products + 8 * self.floats

    def step_work(self, rows: int) -> int:
        """Return the cost of a step: forward, and backward with twice the work."""
        return 3 * rows * self.work

    @property
    def splits(self) -> bool:
        """Whether torch gains by splitting an operation of a few hundred rows.

        It does where matrix products prevail, from about 100 units on.
        """
        return self.products > 30 * self.floats

    def block_rows(self, device: torch.device) -> int:
        """Return how many rows of one network make a block, where memory allows it."""
        return max(256, _limit(BLOCK_FLOATS, device) // self.floats)


def _limit(limits: dict[str, int], device: torch.device) -> int:
    return limits.get(device.type, limits["other"])


def gains_from_stacking(member: Member) -> bool:
    """Return whether a network trains faster beside others than on a core of its own.

    On a CPU, where its steps are short enough for Python to matter.
    """
    net = member.net
    step_work = Shape.of(net.module_).step_work(
        min(net.batch_size, len(member.task.train))
    )
    return torch.device(net.device).type != "cpu" or step_work < WORK_OF_A_THREAD


class Layout(NamedTuple):
    """How a stack is cut.

    Parameters
    ----------
    networks : list of slice
        Those that pass through a kernel side by side.
    parts : int
        Into how many the rows of each batch are cut, each with a kernel of its own.
    threads : Threads
        How many threads share all that.
    """

    networks: list[slice]
    parts: int
    threads: Threads

    @classmethod
    def of(cls, members: Sequence[Member]) -> Layout:
        """Return that of a stack.

        Networks are shared out among threads before rows are: then no thread has to
        add up what others computed.
        """
        n_networks = len(members)
        net = members[0].net
        device, shape = torch.device(net.device), Shape.of(net.module_)
        most_rows = max(len(member.task.train) for member in members)
        batch_size = min(net.batch_size, most_rows)
        rows = min(batch_size, shape.block_rows(device))
        features = members[0].task.train.X.shape[1]
        most_networks = min(
            _limit(BLOCK_FLOATS, device) // (shape.floats * rows),
            _limit(DATA_FLOATS, device) // (features * most_rows),
        )
        threads = Threads.of(
            n_networks * shape.step_work(batch_size), device, splits=shape.splits
        )
        n_groups = math.ceil(n_networks / max(1, most_networks))
        # As many for each thread.
        n_groups = math.ceil(n_groups / threads.crew) * threads.crew
        size = math.ceil(n_networks / min(n_groups, n_networks))
        networks = pieces(slice(0, n_networks), size)
        parts = max(1, threads.crew // len(networks))
        crew = min(threads.crew, parts * len(networks))
        return cls(networks, parts, threads._replace(crew=crew))
