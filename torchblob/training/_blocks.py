"""How many rows pass through a network at once, also where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class Blocks:
    """The size of blocks, which is halved when the device's memory runs out.

    Parameters
    ----------
    rows : int
        Rows of a block at most.

    Attributes
    ----------
    rows : int
        Rows of a block at most, now.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._has_warned = False

    def compute(
        self, work: Callable[[], T], n: int, forget: Callable[[], None] | None = None
    ) -> T:
        """Return what some work returns, in smaller blocks if need be.

        Parameters
        ----------
        work : callable without arguments
            Cuts its rows into blocks of `rows`, and can begin anew.
        n : int
            How many rows a block of its has at most, whatever `rows` is.
        forget : callable without arguments, default=None
            Drops what was kept on the device; if that makes room, blocks stay as they
            are.

        Raises
        ------
        torch.OutOfMemoryError
            If there is no memory for a single row.
        """
        halves = forget is None
        while True:
            rows = min(self.rows, n)
            try:
                return work()
            except torch.OutOfMemoryError as error:
                if halves and rows == 1:
                    raise
                reason = str(error)
            # Not in the handler, where the error keeps what is to be dropped.
            if forget is not None:
                forget()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if halves:
                self._halve(rows, reason)
            halves = True

    def _halve(self, rows: int, reason: str) -> None:
        self.rows = rows // 2
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"The device's memory does not do for blocks of {rows} rows. torchblob "
                f"goes on with blocks of {self.rows}, or less if need be. {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
