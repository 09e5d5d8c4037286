"""Networks, in terms of torch alone."""

from torchblob.nn._kernel import Kernel
from torchblob.nn._model import ACTIVATIONS, BlobModel, hidden_widths

__all__ = ["ACTIVATIONS", "BlobModel", "Kernel", "hidden_widths"]
