"""Weights from arrays that are validated already: the net, the loop, its parts."""

from torchblob.training import _backend
from torchblob.training import _predictions as predictions
from torchblob.training._device import memory_errors, resolve_device, resolve_dtype
from torchblob.training._early_stopping import EarlyStopping, best_number
from torchblob.training._net import BlobNet
from torchblob.training._rates import SCHEDULES
from torchblob.training._samples import Samples, dense_rows
from torchblob.training._snapshot import (
    Memory,
    memory_of,
    remember,
    settings_of,
)
from torchblob.training._stack import train
from torchblob.training._task import DivergedError, Member, Task
from torchblob.training._threads import Crew, Threads

_backend.register()

__all__ = [
    "SCHEDULES",
    "BlobNet",
    "Crew",
    "DivergedError",
    "EarlyStopping",
    "Member",
    "Memory",
    "Samples",
    "Task",
    "Threads",
    "best_number",
    "dense_rows",
    "memory_errors",
    "memory_of",
    "predictions",
    "remember",
    "resolve_device",
    "resolve_dtype",
    "settings_of",
    "train",
]
