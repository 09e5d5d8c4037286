"""Where fits that are in flight at once meet, to train as one stack.

Jobs run in threads of which one has its turn at a time. A job whose network is to be
trained puts it down and waits. When no job can go on, the networks that wait are
trained together, and their jobs go on. So nothing is contended for, and the order is
the same each time.

Turns are given by the thread that waits for the outcome of the jobs, which trains the
networks too: a Ctrl-C there ends the training, and with it all jobs.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import torch

from torchblob.training._stack import stacks_of, train
from torchblob.training._task import Member

GRACE = 1.0
"""Seconds for which an interrupt waits for the job whose turn it is."""

_here = threading.local()
"""`job` is the job whose thread this is."""


def train_together(member: Member) -> None:
    """Train a network, with those of other jobs if this is the thread of a job."""
    job = current_job()
    if job is None:
        train([member])
    else:
        job.train(member)


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


class Rendezvous:
    """Gives jobs their turns, and trains their networks together.

    Parameters
    ----------
    most_jobs : int
        Jobs that may be in flight; more only where all of these wait for others.
    most_bytes : int or None
        Memory of networks that wait, from which on they are trained before other jobs
        begin; None is a quarter of what is free on their device.
    report : callable, default=None
        Called with a line of text where the training has made progress.
    """

    def __init__(
        self,
        most_jobs: int,
        most_bytes: int | None = None,
        report: Callable[[str], object] | None = None,
    ) -> None:
        self._n_threads = _SearchThreads.begin()
        self._most_jobs, self._most_bytes = most_jobs, most_bytes
        self._report = report
        self._new: deque[Job] = deque()
        self._live: set[Job] = set()
        self._ready: deque[Job] = deque()
        self._waiting: dict[Job, Member] = {}
        self._waiting_bytes = 0
        self._idle: set[Job] = set()
        self._running: Job | None = None

    def submit(
        self, call: Callable[[], Any], callback: Callable[[Job], object] | None
    ) -> Job:
        """Return a job that will carry out a call when it gets its turns."""
        job = Job(self, call, callback)
        self._new.append(job)
        return job

    def wait_for(self, job: Job) -> None:
        """Return when a job has ended.

        In the thread of another job, that one pauses. Elsewhere, this gives the turns.
        """
        here = current_job()
        if here is not None:
            while not job.done:
                self._idle.add(here)
                try:
                    here.pause()
                finally:
                    self._idle.discard(here)
                here.finish_others()
            return
        while not job.done:
            following = self._following()
            if following is not None:
                self._give_turn(following)
            elif self._waiting:
                self._train_waiting()
            else:
                raise RuntimeError("torchblob: no task can go on; they were cancelled.")

    def add_waiting(self, job: Job, member: Member) -> None:
        """Note that a job waits for its network to be trained."""
        if self._most_bytes is None:
            self._most_bytes = free_bytes(torch.device(member.net.device)) // 4
        self._waiting[job] = member
        self._waiting_bytes += member.n_bytes()

    def cancel(self, jobs: Iterable[Job]) -> None:
        """End jobs: those that have begun with a last turn."""
        for job in jobs:
            if job.done or job.cancelled:
                continue
            job.cancelled = True
            if job in self._new:
                self._new.remove(job)
                job.done = True
            elif job is not self._running and job not in self._ready:
                member = self._waiting.pop(job, None)
                if member is not None:
                    self._waiting_bytes -= member.n_bytes()
                self._ready.append(job)

    def close(self) -> None:
        """End all jobs that have not ended; give torch its threads back."""
        try:
            self.cancel([*self._new, *self._live])
            while self._ready:
                self._give_turn(self._ready.popleft())
        finally:
            _SearchThreads.end()

    def _following(self) -> Job | None:
        """Return the job whose turn it is, if one can go on."""
        if self._ready:
            return self._ready.popleft()
        if not self._new:
            return None
        most_bytes = self._most_bytes or 0
        if len(self._live) < self._most_jobs:
            if not self._waiting or self._waiting_bytes < most_bytes:
                return self._new.popleft()
        elif not self._waiting:
            # All wait for others: the latest has no others of its own to come.
            return self._new.pop()
        return None

    def _give_turn(self, job: Job) -> None:
        """Let a job go on until its turn ends."""
        self._running = job
        self._live.add(job)
        with warnings.catch_warnings():  # see Job.pause
            try:
                job.go_on()
                job.turn_ended.wait()
            except BaseException:
                self._interrupt(job)
                raise
            finally:
                self._running = None
        if job.done:
            self._live.remove(job)
            job.join()
            submitter = job.submitter
            if submitter is None:
                job.finish()
            else:
                submitter.note_end(job)
                if submitter in self._idle and submitter not in self._ready:
                    self._ready.append(submitter)

    def _interrupt(self, job: Job) -> None:
        """End the job whose turn it is, which may run on; wait a little for it."""
        job.cancelled = True
        end = time.monotonic() + GRACE
        while not job.done and (seconds := end - time.monotonic()) > 0:
            if job.begun:
                job.go_on()  # if it has paused in the meantime
            job.turn_ended.wait(seconds)
        if job.done:
            self._live.discard(job)
            job.join()

    def _train_waiting(self) -> None:
        """Train all networks that are waited for."""
        torch.set_num_threads(self._n_threads)
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        jobs = {member: job for job, member in waiting.items()}
        for stack in stacks_of(list(jobs)):
            begin = time.perf_counter()
            try:
                train(stack)
            except Exception as error:
                for member in stack:
                    jobs[member].failure = error
            if self._report is not None:
                seconds = time.perf_counter() - begin
                self._report(f"Trained {len(stack)} networks in {seconds:.1f} s.")
        self._ready.extend(waiting)


class _SearchThreads:
    """The number of torch's threads that searches have, in whatever threads they run.

    Jobs set the number of their own threads, and with it torch's default for others.
    """

    _lock = threading.Lock()
    _n_open = 0
    _n_threads = 1

    @classmethod
    def begin(cls) -> int:
        """Note that a search begins; return its number of threads."""
        with cls._lock:
            if not cls._n_open:
                cls._n_threads = torch.get_num_threads()
            cls._n_open += 1
            return cls._n_threads

    @classmethod
    def end(cls) -> None:
        """Give torch its threads back at the end of a search."""
        with cls._lock:
            cls._n_open -= 1
            torch.set_num_threads(cls._n_threads)


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


def free_bytes(device: torch.device) -> int:
    """Return how much memory is free, or 4 GB where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return 4 * 2**30
