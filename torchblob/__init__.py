"""Small neural networks in PyTorch as scikit-learn classifiers."""

from torchblob._classifier import TorchBlobClassifier
from torchblob._classifier_cv import TorchBlobClassifierCV
from torchblob._onnx import to_onnx
from torchblob._persistence import load, save
from torchblob._version import __version__
from torchblob.nn import BlobModel

__all__ = [
    "BlobModel",
    "TorchBlobClassifier",
    "TorchBlobClassifierCV",
    "__version__",
    "load",
    "save",
    "to_onnx",
]
