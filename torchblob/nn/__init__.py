"""Networks, in terms of torch alone."""

from torchblob.nn._kernel import Kernel, Step
from torchblob.nn._model import ACTIVATIONS, BlobModel, has_hooks, hidden_widths
from torchblob.nn._targets import Targets, make_targets, negated_targets

__all__ = [
    "ACTIVATIONS",
    "BlobModel",
    "Kernel",
    "Step",
    "Targets",
    "has_hooks",
    "hidden_widths",
    "make_targets",
    "negated_targets",
]
