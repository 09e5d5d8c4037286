"""Small neural networks in PyTorch as scikit-learn classifiers."""

from torchblob._classifier import TorchBlobClassifier
from torchblob._persistence import load, save
from torchblob.nn import BlobModel

__all__ = ["BlobModel", "TorchBlobClassifier", "__version__", "load", "save"]

__version__ = "0.1.0"
