"""Small neural networks in PyTorch as scikit-learn classifiers."""

from torchblob._classifier import TorchBlobClassifier
from torchblob._onnx import to_onnx
from torchblob.nn import BlobModel

__all__ = ["BlobModel", "TorchBlobClassifier", "__version__", "to_onnx"]

__version__ = "0.1.0"
