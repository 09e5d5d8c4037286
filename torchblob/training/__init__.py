"""Training of networks on arrays that are validated already."""

from torchblob.training._early_stopping import EarlyStopping
from torchblob.training._net import BlobNet
from torchblob.training._samples import Samples
from torchblob.training._stack import SCHEDULES, Task, train

__all__ = ["SCHEDULES", "BlobNet", "EarlyStopping", "Samples", "Task", "train"]
