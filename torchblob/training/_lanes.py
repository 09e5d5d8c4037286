"""Lanes: kernels that compute side by side, each with a share of the work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch

from torchblob.nn import Kernel, Step, Targets
from torchblob.training._blocks import Blocks
from torchblob.training._samples import Block, Pass, pieces

KEPT_FLOATS = 2**24
"""What the steps of a stack that are kept from epoch to epoch may copy of the rows, of
its training and of its validation: 64 MB each in float32."""

DROPOUT_ROWS = 1024
"""Rows of a block at most with dropout, where parts of a batch are whole blocks."""


class Lane:
    """A kernel, its part of the rows of each batch, and the steps that it repeats.

    Parameters
    ----------
    kernel : Kernel
        That of some networks.
    part, parts : int
        Which of how many equal parts of a batch this lane takes.
    size : Blocks
        How many rows pass through the kernel at once.
    dropout : Dropout, default=None
        Draws masks for the networks.
    with_hits : bool, default=False
        Whether training counts what is classified right.
    kept_floats : int, default=KEPT_FLOATS
        What steps that are kept may copy of all rows of a pass.
    """

    def __init__(
        self,
        kernel: Kernel,
        part: int,
        parts: int,
        size: Blocks,
        *,
        dropout: Dropout | None = None,
        with_hits: bool = False,
        kept_floats: int = KEPT_FLOATS,
    ) -> None:
        self.kernel, self.dropout = kernel, dropout
        self._part, self._parts = part, parts
        self._with_hits, self._kept_floats = with_hits, kept_floats
        self._size = size
        self._kept: dict[Pass, list[Step]] = {}
        self._refillable: dict[tuple[int, bool], tuple[Block, Step]] = {}

    def gradient(self, rows: Pass, batch: int) -> list[torch.Tensor]:
        """Compute the gradient of the lane's part of the batch of that number.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            The part's sums of the losses and, if `with_hits`, of the hits, by their
            weight's share of the batch; valid until the next call. Nothing for a part
            without rows.
        """
        at = rows.batches[batch]
        if len(rows.batches) == 1 and self.dropout is None:
            work = partial(self._sums_of_the_same, rows, self._descent)
        else:
            work = partial(self._sums_of_others, rows, batch)
        return self._compute(work, at)

    def evaluate(self, rows: Pass) -> list[torch.Tensor]:
        """Return the sums of losses and hits over the lane's part of all rows."""
        at = rows.batches[0]
        work = partial(self._sums_of_the_same, rows, self._evaluation)
        return self._compute(work, at)

    def _compute(
        self, work: Callable[[], list[torch.Tensor]], batch: slice
    ) -> list[torch.Tensor]:
        """Return sums over the lane's part of a batch, in blocks that fit."""
        most = min(self._part_rows(batch), self._block_rows)
        return self._size.compute(work, most, self._forget)

    def _part_rows(self, batch: slice) -> int:
        """Return how many rows a part of a batch has at most."""
        return math.ceil((batch.stop - batch.start) / self._parts)

    def _forget(self) -> None:
        """Drop buffers and steps, which need them."""
        self._kept.clear()
        self._refillable.clear()
        self.kernel.forget()

    @property
    def _block_rows(self) -> int:
        """How many rows pass through the kernel at once."""
        rows = self._size.rows
        return rows if self.dropout is None else min(rows, DROPOUT_ROWS)

    def logits(self, rows: Pass, batch: int) -> torch.Tensor:
        """Return the logits of a whole batch, (n_samples, n_classes), for K = 1."""

        def of_block(at: slice) -> torch.Tensor:
            with torch.inference_mode():  # as all that uses the kernel's buffers
                return self.kernel.logits(rows.features(at)).mT

        blocks = pieces(rows.batches[batch], self._block_rows)
        # Callbacks get tensors of the ordinary kind.
        return torch.cat([of_block(at).clone() for at in blocks])

    def _sums_of_the_same(
        self, rows: Pass, make: Callable[[Pass, slice, bool], Step]
    ) -> list[torch.Tensor]:
        """Return the sums over a batch that is the same in each epoch."""
        # Without gradients of torch's, and their bookkeeping, each operation is faster.
        with torch.inference_mode():
            if rows in self._kept:
                return _run(self._kept[rows])
            blocks = self._blocks(rows.batches[0])
            steps = (make(rows, at, i == 0) for i, at in enumerate(blocks))
            if rows.n_floats > self._kept_floats:
                return _run(steps)
            # Made one by one between their runs, while other lanes compute.
            kept: list[Step] = []
            sums = _run(_appended(steps, kept))
            self._kept[rows] = kept
            return sums

    def _sums_of_others(self, rows: Pass, batch: int) -> list[torch.Tensor]:
        """Return the sums over a batch that differs from epoch to epoch."""
        with torch.inference_mode():
            blocks = self._blocks(rows.batches[batch])
            make = self._refilled if self.dropout is None else self._descent
            return _run(make(rows, at, i == 0) for i, at in enumerate(blocks))

    def _blocks(self, batch: slice) -> list[slice]:
        """Return the blocks of the lane's part of a batch."""
        if self._parts == 1:
            return pieces(batch, self._block_rows)
        if self.dropout is not None:
            # Masks are drawn block by block: where one begins must depend on no part.
            blocks = pieces(batch, self._block_rows)
            n = math.ceil(len(blocks) / self._parts)
            return blocks[self._part * n : (self._part + 1) * n]
        n = self._part_rows(batch)
        start = batch.start + self._part * n
        return pieces(slice(start, min(start + n, batch.stop)), self._block_rows)

    def _evaluation(self, rows: Pass, at: slice, first: bool) -> Step:
        return self.kernel.evaluation(*rows.block(at))

    def _descent(self, rows: Pass, at: slice, first: bool) -> Step:
        masks = None
        if self.dropout is not None:
            hidden = [bias.shape[:-1] for bias in self.kernel.biases[:-1]]
            masks = self.dropout.masks(hidden, at, rows.counts(at))
        return self.kernel.descent(
            *rows.block(at), first=first, masks=masks, with_hits=self._with_hits
        )

    def _refilled(self, rows: Pass, at: slice, first: bool) -> Step:
        """Return a step whose tensors have been overwritten with other rows."""
        key = at.stop - at.start, first
        if key in self._refillable:
            block, step = self._refillable[key]
            rows.load(at, block)
            return step
        x, targets = rows.block(at)
        block = Block(x, Targets(*(tensor.clone() for tensor in targets)))
        step = self.kernel.descent(*block, first=first, with_hits=self._with_hits)
        self._refillable[key] = block, step
        return step


class Dropout:
    """Draws what hidden units are multiplied by, for K networks.

    torch's own dropout draws from the global generator, which a fit leaves alone. Here
    a block of rows has a seed of its own, so that a network's masks are the same
    whatever it is trained with and on how many threads.

    Parameters
    ----------
    probability : float
        Of a unit to be dropped.
    like : torch.Tensor
        Of whose precision and device the masks are.

    Attributes
    ----------
    seeds : list of int
        Of each network in this epoch.
    """

    def __init__(self, probability: float, like: torch.Tensor) -> None:
        self.keep, self._like = 1 - probability, like
        self.generator = torch.Generator(like.device)
        self.seeds: list[int] = []

    def masks(
        self, hidden: Sequence[torch.Size], at: slice, counts: Sequence[int]
    ) -> list[torch.Tensor]:
        """Return the masks of each hidden layer, (K, units, n), or (units, n).

        Parameters
        ----------
        hidden : sequence of torch.Size
            The size of each hidden layer, (K, units), or (units,) for K = 1.
        at : slice
            The rows of the block in their epoch.
        counts : sequence of int
            How many of them each network has: it draws for these only, as if alone.
        """
        n = at.stop - at.start
        masks = [self._like.new_zeros((*size, n)) for size in hidden]
        for k, (seed, count) in enumerate(zip(self.seeds, counts, strict=True)):
            self.generator.manual_seed((seed + at.start) % 2**63)
            for mask in masks:
                of_one = mask if mask.ndim == 2 else mask[k]
                drawn = of_one.new_empty((of_one.shape[0], count))
                drawn.bernoulli_(self.keep, generator=self.generator)
                of_one[:, :count] = drawn
        return [mask.div_(self.keep) for mask in masks]


def _appended(steps: Iterable[Step], to: list[Step]) -> Iterator[Step]:
    """Yield steps, each after it has been appended to a list."""
    for step in steps:
        to.append(step)
        yield step


def _run(steps: Iterable[Step]) -> list[torch.Tensor]:
    """Take some steps; return the sums of their results."""
    sums: list[torch.Tensor] = []
    for step in steps:
        sums = _added(sums, step())
    return sums


def _added(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the sums of the entries of two lists, of which the first may be empty."""
    return [x + y for x, y in zip(a, b, strict=True)] if a else b


def total(parts: Sequence[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the sums over the parts that have rows."""
    sums: list[torch.Tensor] = []
    for of_part in parts:
        if of_part:
            sums = _added(sums, of_part)
    return sums
