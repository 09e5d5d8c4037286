"""A fitted classifier as an ONNX model, for runtimes that know nothing of torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from torchblob._classifier import TorchBlobClassifier
from torchblob._files import path_of, write_atomically
from torchblob._version import __version__
from torchblob.nn import BlobModel, has_hooks

if TYPE_CHECKING:
    from onnx import ModelProto

# Every operator that is used is in this version, with the meaning that it still has:
# Erf since 9, Gemm without a bias since 11, Softmax along one axis since 13. The format
# of files is the one that came with it.
OPSET, IR_VERSION = 13, 7

FLOAT, DOUBLE = 1, 11  # numbers of `onnx.TensorProto`
ELEMENT_TYPES = {torch.float32: FLOAT, torch.float64: DOUBLE}

# A file holds less than 2 GiB; one MiB of it is for the nodes.
MAX_BYTES = 2**31 - 2**20


def to_onnx(clf: TorchBlobClassifier, path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier as an ONNX model, to run without Python or torch.

    The model computes what :meth:`~TorchBlobClassifier.predict` and
    :meth:`~TorchBlobClassifier.predict_proba` return. To write it takes the package
    onnx, and to run it onnxruntime, for example.

    Parameters
    ----------
    clf : TorchBlobClassifier
        A fitted classifier, on any device; not modified.
    path : str or PathLike
        The file to write. One that is there is replaced when the new one is complete.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    sklearn.exceptions.NotFittedError
        If the classifier is not fitted.
    TypeError
        If `clf` is another kind of estimator, or the path is no path.
    ValueError
        If an ONNX model can't hold it: classes that are neither strings nor integers of
        64 bits, layers of other kinds than those of a BlobModel, 2 GiB of weights.

    Notes
    -----
    Inputs and outputs have the names that skl2onnx gives them. "X" is a tensor of shape
    (n_samples, n_features) in the precision of the network, float32 or float64. Out
    come

    - "label", (n_samples,): strings, or int64 for all other classes, with 0 and 1 for
      False and True;
    - "probabilities", (n_samples, n_classes): in the order of `classes_`, in the
      precision of the network.

    The model's metadata have "classes" and, if there are any, "feature_names", as JSON.
    Values of X are not checked: NaN leads to NaN.

    The operators are those of opset 13. For float64 onnxruntime lacks three of them:
    ELU and leaky ReLU are composed of others, and the error function within GELU is
    taken in float32, which puts the output of a unit off by up to 1e-7.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from torchblob import TorchBlobClassifier, to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> clf = TorchBlobClassifier(optimizer="adam", lr=0.05, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(clf, f"{folder}/iris.onnx")
    ...     session = InferenceSession(f"{folder}/iris.onnx")
    >>> labels, probabilities = session.run(None, {"X": X[[0, 149]]})
    >>> labels.tolist()
    [0, 2]
    >>> np.allclose(probabilities, clf.predict_proba(X[[0, 149]]), atol=1e-5)
    True
    """
    if not isinstance(clf, TorchBlobClassifier):
        raise TypeError(
            f"to_onnx needs a TorchBlobClassifier. Got {type(clf).__name__}. Pass the "
            "classifier alone, such as pipeline[-1] or search.best_estimator_, and do "
            "the other steps of a Pipeline before the model. A TorchBlobClassifierCV, "
            "of several networks and their encoders, can't be written."
        )
    where = path_of(path, "to_onnx")
    check_is_fitted(clf)
    write_atomically(where, _to_model(clf).SerializeToString())


def _to_model(clf: TorchBlobClassifier) -> ModelProto:
    try:
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise ImportError(
            "to_onnx needs the package onnx, which could not be imported. Install it, "
            "for example by: python -m pip install onnx"
        ) from error
    labels = _labels(clf.classes_)
    graph = _to_graph(clf.module_, labels)
    label_type = helper.np_dtype_to_tensor_dtype(labels.dtype)
    shapes = {
        "X": (graph.element_type, [None, clf.n_features_in_]),
        "label": (label_type, [None]),
        "probabilities": (graph.element_type, [None, len(labels)]),
    }
    X, *outputs = (
        helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items()
    )
    nodes = [
        helper.make_node(operator, inputs, [output], output, **attributes)
        for operator, inputs, output, attributes in graph.nodes
    ]
    constants = [
        numpy_helper.from_array(a, name) for name, a in graph.constants.items()
    ]
    name = type(clf).__name__
    model = helper.make_model(
        helper.make_graph(nodes, name, [X], outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="torchblob",
        producer_version=__version__,
        doc_string=f"{name} of torchblob {__version__}",
    )
    metadata = {"classes": json.dumps(labels.tolist())}
    if hasattr(clf, "feature_names_in_"):
        metadata["feature_names"] = json.dumps(clf.feature_names_in_.tolist())
    helper.set_model_props(model, metadata)
    return model


def _to_graph(module: BlobModel, labels: np.ndarray) -> _Graph:
    """Return what computes "label" and "probabilities" from "X"."""
    graph = _Graph(next(module.parameters()).dtype)
    with torch.no_grad():
        logits = _add_layers(graph, module)
    graph.add("Softmax", logits, axis=1, output="probabilities")
    # Of the logits, as in `predict`: rounding makes more probabilities equal.
    codes = graph.add("ArgMax", logits, axis=1, keepdims=0)
    graph.constants["classes"] = labels
    graph.add("Gather", "classes", codes, axis=0, output="label")
    n_bytes = sum(constant.nbytes for constant in graph.constants.values())
    if n_bytes > MAX_BYTES:
        raise ValueError(
            f"to_onnx needs a network of at most {MAX_BYTES} bytes, the limit of ONNX "
            f"files. Got one of {n_bytes} bytes. Fit one with fewer hidden units or "
            "features, or with dtype='float32', which takes half of float64."
        )
    return graph


def _labels(classes: np.ndarray) -> np.ndarray:
    """Return classes as ONNX has them, int64 or strings in an array of objects."""
    values = classes.tolist()
    if classes.dtype.kind == "U":
        try:
            "".join(values).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "to_onnx needs classes that UTF-8 can encode, the strings of ONNX. Got "
                f"{values}. Fit with other names of the classes."
            ) from error
        return np.array(values, dtype=object)
    # Bools and floats become ints, as in skl2onnx.
    if classes.dtype.kind not in "biuf" or not all(
        -(2**63) <= value < 2**63 and value == int(value) for value in values
    ):
        raise ValueError(
            "to_onnx needs classes that are strings or integers of 64 bits, the labels "
            f"that ONNX has. Got {values}, of the type {classes.dtype}. Fit with y as "
            "strings, for example."
        )
    return np.array([int(value) for value in values], dtype=np.int64)


class _Graph:
    """What a model computes, in plain Python.

    Parameters
    ----------
    dtype : torch.dtype
        Of the network.

    Attributes
    ----------
    nodes : list of (operator, names of inputs, name of the output, attributes)
        In the order in which they are computed.
    constants : dict of str to ndarray
        By name.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        if dtype not in ELEMENT_TYPES:
            raise ValueError(
                "to_onnx needs a network in float32 or float64. Got one in "
                f"{str(dtype).removeprefix('torch.')}. Convert it before: "
                "clf.module_.float()"
            )
        self.dtype = dtype
        self.element_type = ELEMENT_TYPES[dtype]
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(
        self,
        operator: str,
        *inputs: str | float | torch.Tensor,
        output: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node and return the name of its output.

        An input is the name of another node's output, or else a constant.
        """
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        names = []
        for number, value in enumerate(inputs):
            if isinstance(value, str):
                names.append(value)
            else:
                names.append(f"{output}_{number}")
                constant = torch.as_tensor(value, dtype=self.dtype, device="cpu")
                self.constants[names[-1]] = constant.detach().numpy()
        self.nodes.append((operator, names, output, attributes))
        return output


def _add_layers(graph: _Graph, module: BlobModel) -> str:
    """Add the layers of a network, from "X" on, and return the name of the logits."""
    values, layers = "X", module.linear_layer_stack
    if has_hooks(module) or has_hooks(layers):
        raise ValueError(
            "to_onnx needs a network that is its layers. Got one with hooks: remove "
            "them, or write the module with torch.onnx.export instead."
        )
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            values = _add_linear(graph, values, layer, number)
        elif has_hooks(layer):
            raise _unknown(layer, number, "it has hooks")
        elif type(layer) in ACTIVATIONS and _is_exact(layer):
            values = ACTIVATIONS[type(layer)](graph, values, layer)
        elif not isinstance(layer, nn.Dropout):
            raise _unknown(layer, number, "it is of another kind")
    return values


def _is_exact(layer: nn.Module) -> bool:
    """Return whether an activation is not an approximation of its name."""
    return getattr(layer, "approximate", "none") == "none"


def _add_linear(graph: _Graph, values: str, layer: nn.Linear, number: int) -> str:
    # The call comes first: it is when prune and its like compute the weight.
    row = layer.weight.new_ones(1, layer.in_features)
    computed, weight, bias = layer(row), layer.weight, layer.bias
    expected = nn.functional.linear(row, weight, bias)
    if not torch.allclose(computed, expected, equal_nan=True):
        raise _unknown(layer, number, "it computes more than its weight and bias do")
    biases = () if bias is None else (bias,)
    return graph.add("Gemm", values, weight, *biases, transB=1)


def _unknown(layer: nn.Module, number: int, reason: str) -> ValueError:
    return ValueError(
        "to_onnx needs the layers of a BlobModel: linear ones, dropout, and its "
        f"activations. Got, as number {number} of module_.linear_layer_stack, "
        f"{layer!r}: {reason}. Write the module with torch.onnx.export instead."
    )


# Of these operators, onnxruntime has Erf, LeakyRelu and Elu for float32 alone.


def _gelu(graph: _Graph, z: str, layer: nn.GELU) -> str:
    # In this order onnxruntime takes it as one operator.
    scaled = graph.add("Div", z, math.sqrt(2))
    if graph.element_type == DOUBLE:
        single = graph.add("Cast", scaled, to=FLOAT)
        erf = graph.add("Cast", graph.add("Erf", single), to=DOUBLE)
    else:
        erf = graph.add("Erf", scaled)
    return graph.add("Mul", graph.add("Mul", z, graph.add("Add", erf, 1.0)), 0.5)


def _silu(graph: _Graph, z: str, layer: nn.SiLU) -> str:
    return graph.add("Mul", z, graph.add("Sigmoid", z))


def _leaky_relu(graph: _Graph, z: str, layer: nn.LeakyReLU) -> str:
    if graph.element_type == FLOAT:
        return graph.add("LeakyRelu", z, alpha=layer.negative_slope)
    below = graph.add("Mul", graph.add("Min", z, 0.0), layer.negative_slope)
    return graph.add("Add", graph.add("Relu", z), below)


def _elu(graph: _Graph, z: str, layer: nn.ELU) -> str:
    if graph.element_type == FLOAT:
        return graph.add("Elu", z, alpha=layer.alpha)
    exp = graph.add("Exp", graph.add("Min", z, 0.0))
    below = graph.add("Mul", graph.add("Sub", exp, 1.0), layer.alpha)
    return graph.add("Add", graph.add("Relu", z), below)


ACTIVATIONS: dict[type[nn.Module], Callable[[_Graph, str, Any], str]] = {
    nn.ReLU: lambda graph, z, layer: graph.add("Relu", z),
    nn.Tanh: lambda graph, z, layer: graph.add("Tanh", z),
    nn.Sigmoid: lambda graph, z, layer: graph.add("Sigmoid", z),
    nn.LeakyReLU: _leaky_relu,
    nn.ELU: _elu,
    nn.GELU: _gelu,
    nn.SiLU: _silu,
}
"""Module of an activation -> adds it to a graph, and returns the name of its output."""
