"""The joblib backend "torchblob", whose tasks train their networks together."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from numbers import Integral
from typing import Any, cast
from weakref import WeakSet

from joblib import register_parallel_backend
from joblib.parallel import FallbackToBackend, ParallelBackendBase

from torchblob.training._jobs import Job, current_job
from torchblob.training._rendezvous import Rendezvous

MOST_JOBS = 256
"""Tasks in flight by default: more make stacks hardly faster, and take memory."""


class TorchBlobBackend(ParallelBackendBase):
    """Runs the tasks of :class:`joblib.Parallel` so that their networks train together.

    Select it by `joblib.parallel_config(backend="torchblob")`. See
    :mod:`torchblob.training._rendezvous` for how it works.

    Parameters
    ----------
    nesting_level : int, default=None
        As joblib gives it.
    inner_max_num_threads : int, default=None
        Without effect: the number of threads follows from the work.
    max_bytes : int, default=None
        Memory of networks and rows that wait to be trained, from which on they are
        trained before other tasks begin. None is a quarter of what is free on the
        device.
    """

    uses_threads = True
    supports_sharedmem = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if max_bytes is not None and not (
            isinstance(max_bytes, Integral) and max_bytes > 0
        ):
            raise ValueError(
                'The joblib backend "torchblob" needs max_bytes, the memory of '
                "networks that wait to be trained, to be a positive int or None. Got "
                f"{max_bytes!r}; give bytes, for example 2**30."
            )
        super().__init__(nesting_level, inner_max_num_threads)
        self._max_bytes = max_bytes
        self._rendezvous: Rendezvous | None = None
        self._is_taken = self._is_nested = self._freezes = False
        # Not to keep what they return.
        self._jobs: WeakSet[Job] = WeakSet()

    def __repr__(self) -> str:
        """Return how messages of joblib's call it."""
        return '"torchblob"'

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks may be in flight: `n_jobs`, or many if that is -1."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return MOST_JOBS if n_jobs is None or n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **kwargs: Any) -> int:
        """Prepare for the calls of a :class:`joblib.Parallel`."""
        if self._is_taken:
            # By another, which is open, or whose tasks make calls while they are made.
            level = self.nesting_level
            raise FallbackToBackend(TorchBlobBackend(level, max_bytes=self._max_bytes))
        self._most_jobs: int = super().configure(n_jobs, parallel, **kwargs)
        self._is_taken = True
        return self._most_jobs

    def terminate(self) -> None:
        """Let go of the :class:`joblib.Parallel` that it was prepared for."""
        self._is_taken = False

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> Job:
        """Return a job whose `get` returns what `func` does."""
        # Which `start_call` has made.
        job = cast(Rendezvous, self._rendezvous).submit(func, callback)
        self._jobs.add(job)
        return job

    # What joblib before 1.5 calls it.
    apply_async = submit

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Return a backend whose tasks meet those of this one."""
        level = (self.nesting_level or 0) + 1
        return TorchBlobBackend(level), None

    def start_call(self) -> None:
        """Prepare for the tasks of a call."""
        job = current_job()
        self._is_nested = job is not None
        if job is not None:
            self._rendezvous = job.rendezvous
            return
        report = _print if self.parallel.verbose else None
        self._rendezvous = Rendezvous(self._most_jobs, self._max_bytes, report)
        # Many objects will live long. Each of the collections that they cause would go
        # through all objects of all modules, which takes as long as training dozens of
        # small networks.
        self._freezes = gc.get_freeze_count() == 0
        if self._freezes:
            gc.freeze()

    def stop_call(self) -> None:
        """Leave nothing behind, at the end of a call."""
        rendezvous, self._rendezvous = self._rendezvous, None
        if self._freezes:
            self._freezes = False
            gc.unfreeze()
        if rendezvous is not None and not self._is_nested:
            rendezvous.close()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the tasks that have not ended."""
        if self._rendezvous is not None:
            self._rendezvous.cancel(self._jobs)


def _print(message: str) -> None:
    sys.stderr.write(f"[torchblob]: {message}\n")


def register() -> None:
    """Make the backend known to joblib."""
    register_parallel_backend("torchblob", TorchBlobBackend)
