"""Networks, in terms of torch alone."""

from torchblob.nn._kernel import Kernel, Targets, make_targets
from torchblob.nn._model import ACTIVATIONS, BlobModel, hidden_widths

__all__ = [
    "ACTIVATIONS",
    "BlobModel",
    "Kernel",
    "Targets",
    "hidden_widths",
    "make_targets",
]
