"""Threads that compute side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple, TypeVar

import torch

T = TypeVar("T")

if hasattr(os, "register_at_fork"):
    # Only the thread that forks is there in the child. More threads of torch's would
    # wait for those that OpenMP had before, for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

WORK_OF_A_THREAD = 15_000_000
"""Multiply-adds, a third of a millisecond, that are worth a thread of a crew."""

WORK_OF_A_TORCH_THREAD = 10_000_000
"""Multiply-adds that are worth a thread of torch's, for work that is less than that."""


class Threads(NamedTuple):
    """How many threads compute.

    Parameters
    ----------
    crew : int
        Python threads, each with a share of the work.
    inner : int
        Threads of torch's within each.
    """

    crew: int
    inner: int

    @classmethod
    def of(cls, work: float, device: torch.device, *, splits: bool) -> Threads:
        """Return how many pay for so many multiply-adds between two waits.

        Parameters
        ----------
        work : float
            Multiply-adds between two points where the threads wait for each other.
        device : torch.device
            Where they are done; a CPU's threads are those that torch may use.
        splits : bool
            Whether it pays to split an operation.
        """
        available = torch.get_num_threads() if device.type == "cpu" else 1
        crew = min(available, int(work / WORK_OF_A_THREAD))
        if crew > 1 or not splits:
            return cls(max(1, crew), 1)
        return cls(1, max(1, min(available, int(work / WORK_OF_A_TORCH_THREAD))))


class Crew:
    """A context in which several threads compute, each with few threads of torch's.

    torch's own way, to split each operation among threads, makes them wait for each
    other after each. A crew meets once a batch: each thread takes a share of the rows
    or of the networks through all operations. That pays where an operation takes much
    longer than Python needs to pass its lock from thread to thread; where it does not,
    the crew is the calling thread alone, and torch splits the larger operations.

    Parameters
    ----------
    threads : Threads
        How many; the calling thread is the first of the crew.
    """

    def __init__(self, threads: Threads) -> None:
        self.threads = threads
        self._workers: list[_Worker] = []

    def __enter__(self) -> Crew:
        self._before = torch.get_num_threads()
        # torch gives its number of threads to Python threads that start later: to the
        # crew's, but also to a user's. One that started in such a block has one thread,
        # and must not restore that to all.
        try:
            if self._before > self.threads.inner:
                torch.set_num_threads(self.threads.inner)
            for _ in range(self.threads.crew - 1):
                self._workers.append(_Worker())
                self._workers[-1].start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Send the workers home; give torch its threads back, whatever happens."""
        try:
            for worker in self._workers:
                worker.dismiss()
            for worker in self._workers:
                worker.join()
        finally:
            if self._before > self.threads.inner:
                torch.set_num_threads(self._before)

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Return the results of tasks, one a thread of the crew.

        An error of one is raised when all have ended, since they share buffers.
        """
        if len(tasks) == 1:
            return [tasks[0]()]
        busy = self._workers[: len(tasks) - 1]
        for worker, task in zip(busy, tasks[1:], strict=True):
            worker.begin(task)
        try:
            first = tasks[0]()
        finally:
            outcomes = [worker.outcome() for worker in busy]
        for _, error in outcomes:
            if error is not None:
                raise error
        return [first, *(result for result, _ in outcomes)]


class _Worker:
    """A thread that does one task after another."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue = SimpleQueue()
        self._outcomes: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin(self, task: Callable[[], object]) -> None:
        self._tasks.put(task)

    def outcome(self) -> tuple:
        """Wait for the task to end; return its result and its error."""
        return self._outcomes.get()

    def dismiss(self) -> None:
        """Let the thread end when the task at hand is done."""
        self._tasks.put(None)

    def join(self) -> None:
        """Wait for the thread, if it has started, to end."""
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._outcomes.put((task(), None))
            except BaseException as error:
                self._outcomes.put((None, error))
