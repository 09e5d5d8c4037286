"""Where the fits that a Dask worker holds at once meet, to train as one stack.

Each task of a worker has a thread. A fit in such a thread puts its network down; one of
those that can share a stack waits until all tasks that the worker executes have put
one down, or for a moment, and trains them. The worker need not be prepared: its `state
machine <https://distributed.dask.org/en/stable/worker-state.html>`_ says what it
executes, and tasks that wait for others (that have seceded) are not counted.

Nothing here runs code of the user's, which may wait for other tasks: networks that are
scored or watched train in the threads of their own tasks.
"""

from __future__ import annotations

import sys
import threading
import time
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch

from torchblob.training._layout import gains_from_stacking
from torchblob.training._rendezvous import free_bytes
from torchblob.training._stack import train
from torchblob.training._task import Member

SETTLE = 0.02
"""Seconds without a new network after which no more are expected of threads that have
no task."""

PATIENCE = 0.1
"""Seconds without a new network after which no more are expected of any thread."""

STEP = 0.001
"""Seconds that a network waits at most for each step that it is to make: not longer
than its training takes."""

INTERVAL = 0.002
"""Seconds between two looks at what the worker executes."""


def current_worker() -> Any | None:
    """Return the Dask worker of which this thread carries out a task, if it does."""
    module = sys.modules.get("distributed.worker")
    get_worker = getattr(module, "get_worker", None)
    if get_worker is None:
        return None
    try:
        worker = get_worker()
        worker.get_current_task()
    except (ValueError, KeyError):
        # Not at a worker; in its event loop, which must not wait.
        return None
    return worker


def train_at(worker: Any, member: Member) -> None:
    """Train a network, with those of other tasks that a worker executes if that pays.

    Parameters
    ----------
    worker : distributed.Worker
        Of which this thread carries out a task.
    member : Member
        The network.
    """
    alone = member.trains_alone() or member.runs_other_code
    if alone or not gains_from_stacking(member):
        train([member])
        return
    with _lock:
        rendezvous = _of_workers.setdefault(worker, WorkerRendezvous())
    rendezvous.train(worker, member)


class WorkerRendezvous:
    """Trains the networks of a worker's tasks together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._fits: list[_Fit] = []
        self._training: set[Any] = set()
        self._latest = 0.0

    def train(self, worker: Any, member: Member) -> None:
        """Return when a network is trained, in the thread of a task of the worker's."""
        most_bytes = free_bytes(torch.device(member.net.device)) // 4
        fit = _Fit(worker.get_current_task(), member)
        with self._changed:
            self._fits.append(fit)
            self._latest = time.monotonic()
        while self._leads(fit):
            self._train_with_others(fit, worker, most_bytes)
        failure, fit.failure = fit.failure, None  # or else it would refer to itself
        if failure is not None:
            # Of several threads' own.
            raise copy(failure).with_traceback(None) from failure

    def _leads(self, fit: _Fit) -> bool:
        """Wait for a fit to be trained; return whether it has to see to that itself."""
        with self._changed:
            self._changed.wait_for(lambda: fit.done or fit.kind not in self._training)
            if not fit.done:
                self._training.add(fit.kind)
            return not fit.done

    def _train_with_others(self, fit: _Fit, worker: Any, most_bytes: int) -> None:
        """Train networks that can share a stack with a fit's, the first that came."""
        stack = [fit]
        try:
            self._gather(fit, worker, most_bytes)
            stack = self._first(fit.kind, most_bytes)
            train([of_stack.member for of_stack in stack])
        except BaseException as error:  # which each task raises in its own thread
            for of_stack in stack:
                of_stack.failure = error
        finally:
            with self._changed:
                for of_stack in stack:
                    of_stack.done = True
                    self._fits.remove(of_stack)
                self._training.remove(fit.kind)
                self._changed.notify_all()

    def _gather(self, fit: _Fit, worker: Any, most_bytes: int) -> None:
        """Wait for networks of other tasks while it pays."""
        most = STEP * fit.member.task.epochs * fit.member.n_batches()
        settle, patience = min(SETTLE, most), min(PATIENCE, most)
        while True:
            with self._changed:
                quiet = time.monotonic() - self._latest
                fits = list(self._fits)
            alike = [other for other in fits if other.kind == fit.kind]
            # A copy, since the event loop changes it.
            executing = {task.key for task in list(worker.state.executing)}
            all_are_here = executing <= {other.task for other in fits}
            none_is_free = len(executing) >= worker.state.nthreads
            if (
                quiet >= patience
                or (all_are_here and (none_is_free or quiet >= settle))
                or sum(other.n_bytes for other in alike) >= most_bytes
            ):
                return
            time.sleep(INTERVAL)

    def _first(self, kind: Any, most_bytes: int) -> list[_Fit]:
        """Return the fits of a kind that came first, as many as memory takes."""
        stack: list[_Fit] = []
        n_bytes = 0
        with self._changed:
            for fit in self._fits:
                if fit.kind == kind and (not stack or n_bytes < most_bytes):
                    stack.append(fit)
                    n_bytes += fit.n_bytes
        return stack


class _Fit:
    """A network that waits to be trained.

    Attributes
    ----------
    task : hashable
        The key of the task that fits it.
    member : Member
        The network.
    kind : hashable
        Equal in networks that can share a stack.
    n_bytes : int
        Memory that it takes.
    done : bool
        Whether its training has ended.
    failure : BaseException or None
        Why it could not be trained.
    """

    def __init__(self, task: Any, member: Member) -> None:
        self.task, self.member = task, member
        self.kind, self.n_bytes = member.kind(), member.n_bytes()
        self.done = False
        self.failure: BaseException | None = None


_of_workers: WeakKeyDictionary[Any, WorkerRendezvous] = WeakKeyDictionary()
_lock = threading.Lock()
