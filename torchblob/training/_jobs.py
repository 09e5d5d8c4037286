"""Calls in threads of their own, of which one has its turn at a time."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from torchblob.training._task import Member

if TYPE_CHECKING:
    from torchblob.training._rendezvous import Rendezvous

_here = threading.local()
"""`job` is the job whose thread this is."""


def current_job() -> Job | None:
    """Return the job whose thread this is, if it is one's."""
    return getattr(_here, "job", None)


class Cancelled(BaseException):
    """Raised in the thread of a job whose outcome nobody waits for any longer."""


class Job:
    """A call that is carried out in a thread of its own, in turns.

    Parameters
    ----------
    rendezvous : Rendezvous
        Gives the turns.
    call : callable without arguments
        What to do.
    callback : callable, default=None
        Called with the job when it has ended.

    Attributes
    ----------
    rendezvous : Rendezvous
        That gives the turns.
    done : bool
        Whether it has ended.
    cancelled : bool
        Whether it should end.
    failure : BaseException or None
        Why the network that it waits for could not be trained.
    submitter : Job or None
        The job in whose thread this one was submitted.
    turn_ended : Signal
        Given at the end of each of its turns.
    """

    def __init__(
        self,
        rendezvous: Rendezvous,
        call: Callable[[], Any],
        callback: Callable[[Job], object] | None = None,
    ) -> None:
        self.done = self.cancelled = False
        self.callback = callback
        self.failure: BaseException | None = None
        self.submitter = current_job()
        self.turn_ended = Signal()
        self._ended: deque[Job] = deque()
        self.rendezvous, self._call = rendezvous, call
        self._thread: threading.Thread | None = None
        self._turn = Signal()
        self._result: Any = None
        self._error: BaseException | None = None

    def get(self, timeout: float | None = None) -> Any:
        """Wait until the job has ended; return its result or raise its error."""
        self.rendezvous.wait_for(self)
        if self._error is not None:
            raise self._error
        return self._result

    def finish(self) -> None:
        """Tell who submitted the job, in the same thread, that it has ended."""
        if self.callback is not None and not self.cancelled:
            self.callback(self)

    def note_end(self, job: Job) -> None:
        """Take a job that this one has submitted, and that has ended."""
        self._ended.append(job)

    def finish_others(self) -> None:
        """Finish jobs that have ended, in the job's own thread."""
        while self._ended:
            self._ended.popleft().finish()

    def train(self, member: Member) -> None:
        """Have a network trained, from the job's own thread."""
        if not self.cancelled:
            self.rendezvous.add_waiting(self, member)
        self.pause()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    @property
    def begun(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    def go_on(self) -> None:
        """Give the job its first turn, or another after a pause."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="torchblob job", daemon=True
            )
            self._thread.start()
        else:
            self._turn.give()

    def pause(self) -> None:
        """End the turn, from the job's own thread, until there is another.

        Raises
        ------
        Cancelled
            If the job should end.
        """
        # Filters of warnings are global: each thread leaves those of the others as they
        # were, and comes back to its own.
        with warnings.catch_warnings():
            if not self.cancelled:
                self.turn_ended.give()
                self._turn.wait()
        if self.cancelled:
            raise Cancelled

    def join(self) -> None:
        """Wait for the thread of a job that is done to end."""
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        _here.job = self
        # Each thread that splits an operation has threads of torch's for it, which
        # outlive the operation and then keep the processor busy for a while.
        torch.set_num_threads(1)
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error
        finally:
            del _here.job
            self.done = True
            self.turn_ended.give()


class Signal:
    """Wakes a thread, the one that waits or the first that will."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def give(self) -> None:
        """Wake the thread, once if this is called twice before it waits."""
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float = -1) -> None:
        """Sleep until woken, or for some seconds at most."""
        self._lock.acquire(timeout=timeout)
