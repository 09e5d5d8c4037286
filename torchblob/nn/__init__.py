"""Networks, in terms of torch alone."""

from torchblob.nn._kernel import Kernel, Step, Targets, make_targets, negated_targets
from torchblob.nn._model import ACTIVATIONS, BlobModel, hidden_widths

__all__ = [
    "ACTIVATIONS",
    "BlobModel",
    "Kernel",
    "Step",
    "Targets",
    "hidden_widths",
    "make_targets",
    "negated_targets",
]
