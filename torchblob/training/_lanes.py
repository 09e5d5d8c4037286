"""Lanes: kernels that compute side by side, each with a share of the work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

from torchblob.nn import Kernel, Step, Targets
from torchblob.training._samples import Block, Pass, pieces

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
    block_rows : int
        Rows that pass through the kernel at once.
    dropout : Dropout, default=None
        Draws masks for the networks.
    with_hits : bool, default=False
        Whether training counts what is classified right.
    """

    def __init__(
        self,
        kernel: Kernel,
        part: int,
        parts: int,
        block_rows: int,
        *,
        dropout: Dropout | None = None,
        with_hits: bool = False,
    ) -> None:
        self.kernel, self.dropout = kernel, dropout
        self._part, self._parts, self._with_hits = part, parts, with_hits
        self._block_rows = block_rows
        if dropout is not None:
            self._block_rows = min(block_rows, DROPOUT_ROWS)
        self._kept: dict[Pass, Step] = {}
        self._slots: dict[tuple[int, bool], tuple[Block, Step]] = {}

    def gradient(self, rows: Pass, batch: int) -> list[torch.Tensor]:
        """Compute the gradient of the lane's part of the batch of that number.

        Returns
        -------
        list of torch.Tensor of shape (K,), or () for K = 1
            The part's sums of the losses and, if `with_hits`, of the hits, by their
            weight's share of the batch; valid until the next call. Nothing for a part
            without rows.
        """
        return self._run(rows, batch, self._descent, keep=self.dropout is None)

    def evaluate(self, rows: Pass) -> list[torch.Tensor]:
        """Return the sums of losses and hits over the lane's part of all rows."""
        return self._run(rows, 0, self._evaluation, keep=True)

    def logits(self, rows: Pass, batch: int) -> torch.Tensor:
        """Return the logits of a whole batch, (n_samples, n_classes), for K = 1."""
        with torch.no_grad():
            return torch.cat(
                [
                    self.kernel.logits(rows.features(at)).mT.clone()
                    for at in pieces(rows.batches[batch], self._block_rows)
                ]
            )

    def _run(
        self,
        rows: Pass,
        batch: int,
        make: Callable[[Pass, slice, bool], Step],
        *,
        keep: bool,
    ) -> list[torch.Tensor]:
        """Return the sums of the steps over all blocks of the lane."""
        # Without gradients of torch's, and their bookkeeping, each operation is faster.
        with torch.inference_mode():
            step = self._kept.get(rows)
            if step is not None:
                return step()
            blocks = self._blocks(rows.batches[batch])
            if keep and len(blocks) == len(rows.batches) == 1:
                step = self._kept[rows] = make(rows, blocks[0], True)
                return step()
            sums: list[torch.Tensor] = []
            for at in blocks:
                sums = _added(sums, make(rows, at, not sums)())
            return sums

    def _blocks(self, batch: slice) -> list[slice]:
        """Return the blocks of the lane's part of a batch."""
        if self._parts == 1:
            return pieces(batch, self._block_rows)
        if self.dropout is not None:
            # Masks are drawn block by block: where one begins must depend on no part.
            blocks = pieces(batch, self._block_rows)
            n = math.ceil(len(blocks) / self._parts)
            return blocks[self._part * n : (self._part + 1) * n]
        n = math.ceil((batch.stop - batch.start) / self._parts)
        start = batch.start + self._part * n
        return pieces(slice(start, min(start + n, batch.stop)), self._block_rows)

    def _evaluation(self, rows: Pass, at: slice, first: bool) -> Step:
        return self.kernel.evaluation(*rows.block(at))

    def _descent(self, rows: Pass, at: slice, first: bool) -> Step:
        descent = partial(self.kernel.descent, first=first, with_hits=self._with_hits)
        if self.dropout is not None:
            masks = self.dropout.masks(self.kernel, at, rows.counts(at))
            return descent(*rows.block(at), masks=masks)
        if len(rows.batches) == 1:
            return descent(*rows.block(at))
        # Rows in a new order are copied to the same place, so that the step is too.
        key = at.stop - at.start, first
        if key in self._slots:
            block, step = self._slots[key]
            rows.load(at, block)
            return step
        x, targets = rows.block(at)
        block = Block(x, Targets(*(tensor.clone() for tensor in targets)))
        step = descent(*block)
        self._slots[key] = block, step
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
    device : torch.device
        Where masks are needed.

    Attributes
    ----------
    seeds : list of int
        Of each network in this epoch.
    """

    def __init__(self, probability: float, device: torch.device) -> None:
        self.keep = 1 - probability
        self.generator = torch.Generator(device)
        self.seeds: list[int] = []

    def masks(
        self, kernel: Kernel, at: slice, counts: Sequence[int]
    ) -> list[torch.Tensor]:
        """Return the masks of each hidden layer, (K, units, n), or (units, n).

        Parameters
        ----------
        kernel : Kernel
            Whose layers they are for.
        at : slice
            The rows of the block in their epoch.
        counts : sequence of int
            How many of them each network has: it draws for these only, as if alone.
        """
        layers = kernel.biases[:-1]
        n = at.stop - at.start
        masks = [bias.new_zeros((*bias.shape[:-1], n)) for bias in layers]
        for k, (seed, count) in enumerate(zip(self.seeds, counts, strict=True)):
            self.generator.manual_seed((seed + at.start) % 2**63)
            for mask in masks:
                of_one = mask if mask.ndim == 2 else mask[k]
                drawn = of_one.new_empty((of_one.shape[0], count))
                drawn.bernoulli_(self.keep, generator=self.generator)
                of_one[:, :count] = drawn
        return [mask.div_(self.keep) for mask in masks]


def _added(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the sums of the entries of two lists, of which the first may be empty."""
    return [x + y for x, y in zip(a, b, strict=True)] if a else b


def total(parts: Sequence[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the sums over the parts that have rows."""
    total: list[torch.Tensor] = []
    for sums in parts:
        total = _added(total, sums) if sums else total
    return total
