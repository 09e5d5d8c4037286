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
from typing import Any

import torch

from torchblob.training._jobs import Job, current_job
from torchblob.training._stack import stacks_of, train
from torchblob.training._task import Member

GRACE = 1.0
"""Seconds for which an interrupt waits for the job whose turn it is."""


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
        while job.begun and not job.done and (seconds := end - time.monotonic()) > 0:
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
                self._report(f"Trained a stack of {len(stack)} in {seconds:.1f} s.")
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


def free_bytes(device: torch.device) -> int:
    """Return how much memory is free, or 4 GB where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return 4 * 2**30
