"""Where the fits that a Dask worker holds at once meet, to train as one stack.

Each task of a worker has a thread. A fit in such a thread puts its network down and
asks for the lock; who gets it waits until every task that the worker executes has put
one down, or for a moment, and trains them all. The worker need not be prepared: its
`state machine <https://distributed.dask.org/en/stable/worker-state.html>`_ says what it
executes, and tasks that wait for others (that have seceded) are not counted.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import torch

from torchblob.training._rendezvous import free_bytes
from torchblob.training._stack import stacks_of, train
from torchblob.training._task import Member

PATIENCE = 0.1
"""Seconds without a new network after which those that wait are trained."""

INTERVAL = 0.002
"""Seconds between two looks at what the worker executes."""


def current_worker() -> Any | None:
    """Return the Dask worker of which this thread carries out a task, if it does."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
        worker.get_current_task()
    except (ValueError, KeyError):
        # Not at a worker; in its event loop, which must not wait.
        return None
    return worker


def train_at(worker: Any, member: Member) -> None:
    """Train a network, with those of the other tasks that a worker executes.

    Parameters
    ----------
    worker : distributed.Worker
        Of which this thread carries out a task.
    member : Member
        The network.
    """
    with _lock:
        rendezvous = _of_workers.setdefault(worker, WorkerRendezvous())
    rendezvous.train(worker, member)


class WorkerRendezvous:
    """Trains the networks of a worker's tasks together."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting: deque[_Fit] = deque()
        self._latest = 0.0

    def train(self, worker: Any, member: Member) -> None:
        """Return when a network is trained, in the thread of a task of the worker's."""
        fit = _Fit(worker.get_current_task(), member)
        self._waiting.append(fit)
        self._latest = time.monotonic()
        with self._turn:
            while not fit.done:
                most_bytes = free_bytes(torch.device(member.net.device)) // 4
                self._gather(worker, most_bytes)
                self._train_waiting(most_bytes)
        if fit.failure is not None:
            raise fit.failure

    def _gather(self, worker: Any, most_bytes: int) -> None:
        """Wait for networks of other tasks while it pays."""
        while time.monotonic() - self._latest < PATIENCE:
            # Copies, since other threads change both.
            waiting = list(self._waiting)
            executing = {task.key for task in list(worker.state.executing)}
            if executing <= {fit.task for fit in waiting}:
                return
            if sum(fit.n_bytes for fit in waiting) >= most_bytes:
                return
            time.sleep(INTERVAL)

    def _train_waiting(self, most_bytes: int) -> None:
        """Train the networks that wait, the first of them if memory is short."""
        fits: dict[Member, _Fit] = {}
        n_bytes = 0
        while self._waiting and (not fits or n_bytes < most_bytes):
            fit = self._waiting.popleft()
            fits[fit.member] = fit
            n_bytes += fit.n_bytes
        for stack in stacks_of(list(fits)):
            try:
                train(stack)
            except BaseException as error:  # which each task raises in its own thread
                for member in stack:
                    fits[member].failure = error
        for fit in fits.values():
            fit.done = True


class _Fit:
    """A network that waits to be trained.

    Attributes
    ----------
    task : hashable
        The key of the task that fits it.
    member : Member
        The network.
    n_bytes : int
        Memory that it takes.
    done : bool
        Whether its training has ended.
    failure : BaseException or None
        Why it could not be trained.
    """

    def __init__(self, task: Any, member: Member) -> None:
        self.task, self.member, self.n_bytes = task, member, member.n_bytes()
        self.done = False
        self.failure: BaseException | None = None


_of_workers: WeakKeyDictionary[Any, WorkerRendezvous] = WeakKeyDictionary()
_lock = threading.Lock()
