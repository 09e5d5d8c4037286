"""What several files of tests use."""

import signal
import threading
from contextlib import contextmanager

import torch


def weights(fitted):
    """Return all weights and biases of a classifier or a net, (n_parameters,)."""
    return torch.cat([p.detach().flatten() for p in fitted.module_.parameters()])


@contextmanager
def ctrl_c_after(seconds):
    """Press Ctrl-C in the main thread when some seconds of the block have passed.

    And again until the block ends: Python loses one that comes in a finalizer.
    """
    ended = threading.Event()

    def press():
        pause = seconds
        while not ended.wait(pause):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            pause = 2

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
