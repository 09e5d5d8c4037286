"""Small neural networks in PyTorch as scikit-learn classifiers."""

from torchblob._classifier import TorchBlobClassifier
from torchblob.nn import BlobModel

__all__ = ["BlobModel", "TorchBlobClassifier", "__version__"]

__version__ = "0.1.0"
