"""How many threads torch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORK_OF_ONE_THREAD = 4_000_000
"""Multiply-adds of a block below which a second thread costs more than it brings."""


@contextmanager
def enough_threads(work: int) -> Iterator[None]:
    """Compute with one thread in the block if `work` is too little to share.

    Parameters
    ----------
    work : int
        Multiply-adds between two waits of the threads for each other.
    """
    threads = torch.get_num_threads()
    # torch gives its number of threads to Python threads that start later. One that
    # started inside of such a block has one thread, and must not restore that to all.
    if threads == 1 or work >= WORK_OF_ONE_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
