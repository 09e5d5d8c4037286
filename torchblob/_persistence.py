"""Classifiers as files of numbers and names, without code.

A file is in the safetensors format: weights, and what the optimizer remembers of them,
are tensors; all else is JSON, under "torchblob" in the metadata of the header.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from sklearn.utils.validation import check_is_fitted

from torchblob._classifier import TorchBlobClassifier
from torchblob._facts import (
    MalformedError,
    NotStorableError,
    check_names,
    field,
    list_of,
    plain,
)
from torchblob._files import write_atomically
from torchblob._version import __version__
from torchblob.training import BlobNet, Memory, memory_of, resolve_device, settings_of

FORMAT = 1
"""Number of the layout of the JSON; that of all lower numbers is understood too."""

MOST_HEADER_BYTES = 2**24
"""What a header may take: as much as a history of some 200,000 epochs does."""

ENTRIES = (
    "format",
    "versions",
    "estimator",
    "params",
    "classes",
    "feature_names",
    "best_epoch",
    "net",
    "memory",
    "training",
)
"""What there is in the JSON; the last of a training that is not over."""

DTYPE_OF_CLASSES = re.compile(r"[<>|]([biuf][1248]|[mM]8(\[\d*[a-zA-Z]+\])?)")
"""How numpy calls the types of class labels, except for strings."""


class Model(NamedTuple):
    """A classifier as a file has it.

    Parameters
    ----------
    header : dict
        The JSON, with `ENTRIES`.
    tensors : dict of str to torch.Tensor
        On the CPU.
    """

    header: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def save(clf: TorchBlobClassifier, path: str | os.PathLike[str]) -> None:
    """Save a fitted classifier in a file without code.

    Parameters
    ----------
    clf : TorchBlobClassifier
        The classifier.
    path : str or os.PathLike
        Where. A file that is there is replaced when the new one is complete: whatever
        happens meanwhile, one of the two is there as a whole.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the classifier is not fitted.
    TypeError
        If it is no TorchBlobClassifier, but for example a Pipeline.
    ValueError
        If a parameter is code, such as an optimizer of your own or a callback.
    OSError
        If the file can't be written; one that was there is as it was.

    See Also
    --------
    load : Load it.

    Notes
    -----
    The file has the parameters, classes and names of features, the weights and the
    history, and what the optimizer remembers, so that `partial_fit` goes on as it would
    have. It lacks what `set_fit_request` and `set_callbacks` have set.

    The format is `safetensors <https://huggingface.co/docs/safetensors>`_. The weights
    are the tensors "layer.0.weight", "layer.0.bias" and so on.

    Examples
    --------
    >>> import torchblob
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from tempfile import TemporaryDirectory
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = torchblob.TorchBlobClassifier(random_state=0).fit(X, y)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "iris.safetensors"
    ...     torchblob.save(clf, path)
    ...     same = torchblob.load(path)
    >>> bool((same.predict(X) == clf.predict(X)).all())
    True
    """
    if type(clf) is not TorchBlobClassifier:
        raise TypeError(
            f"torchblob.save needs a TorchBlobClassifier. Got {type(clf).__name__}: "
            "save the TorchBlobClassifier in it, or all of it by skops or joblib."
        )
    check_is_fitted(clf)
    clf._check_parameters()
    try:
        write(model_of(clf), path)
    except NotStorableError as error:
        raise ValueError(
            f"torchblob.save writes numbers and names only, and {error}. Change it, a "
            "parameter by set_params, which leaves the fitted network as it is; or use "
            "joblib.dump."
        ) from error


def load(
    path: str | os.PathLike[str], device: str | torch.device = "auto"
) -> TorchBlobClassifier:
    """Load a classifier that :func:`save` has saved.

    No code of the file's is run, whatever is in it, so it may come from anybody.

    Parameters
    ----------
    path : str or os.PathLike
        Where it is.
    device : str or torch.device, default="auto"
        Where the network is to be, and the parameter `device` of the classifier. "auto"
        is CUDA where there is a GPU, else MPS, else the CPU; also the CPU instead of
        MPS, which has no float64, for a network of float64.

    Returns
    -------
    clf : TorchBlobClassifier
        As it was saved. Its predictions are the same to the bit on the same kind of
        device, and to rounding on others.

    Raises
    ------
    ValueError
        If the file is damaged, of another kind or of a later version, or there is no
        such device.
    OSError
        If there is no such file, or it can't be read.

    See Also
    --------
    save : Save it.

    Examples
    --------
    >>> import torchblob
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from tempfile import TemporaryDirectory
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = torchblob.TorchBlobClassifier(random_state=0).fit(X, y)
    >>> with TemporaryDirectory() as folder:
    ...     torchblob.save(clf, Path(folder) / "iris.safetensors")
    ...     same = torchblob.load(Path(folder) / "iris.safetensors", device="cpu")
    >>> same.device_
    device(type='cpu')
    """
    where = resolve_device(device, "torchblob.load")
    model = read(path)
    with _about(path):
        return _classifier_of(model, device, where)


def model_of(clf: TorchBlobClassifier, *, with_code: bool = False) -> Model:
    """Return a fitted classifier as a file has it.

    Parameters
    ----------
    clf : TorchBlobClassifier
        The classifier.
    with_code : bool, default=False
        Whether parameters that are code are kept by their names, which say no more than
        that they are the same or others.

    Raises
    ------
    NotStorableError
        If something is not numbers and names.
    """
    net, memory = settings_of(clf.net_), memory_of(clf.net_)
    if net["optimizer"] is None and not with_code:
        memory = memory.without_optimizer()
    names = getattr(clf, "feature_names_in_", None)
    header = {
        "format": FORMAT,
        "versions": {
            "torchblob": __version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "estimator": type(clf).__name__,
        "params": {
            name: _encode(value, name, with_code=with_code)
            for name, value in clf.get_params(deep=False).items()
        },
        "classes": _encode_classes(clf.classes_),
        "feature_names": None if names is None else names.tolist(),
        "best_epoch": clf.best_epoch_,
        "net": net,
        "memory": memory.facts,
    }
    return Model(header, memory.tensors)


def write(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a file.

    Raises
    ------
    NotStorableError
        If the header is too large.
    OSError
        If the file can't be written; one that was there is as it was.
    """
    text = json.dumps(model.header, separators=(",", ":"))
    data = to_safetensors(model.tensors, {"torchblob": text})
    size = _header_size(data)
    if size > MOST_HEADER_BYTES:
        raise NotStorableError(
            f"what is not weights takes {size} bytes, where a file has room for "
            f"{MOST_HEADER_BYTES}: history_ and the names of features are long"
        )
    write_atomically(path, data)


def read(path: str | os.PathLike[str]) -> Model:
    """Read a file that :func:`write` has written, or one of an earlier version.

    Raises
    ------
    ValueError
        If it is damaged, of another kind or of a later version.
    OSError
        If it can't be read.
    """
    if not Path(path).is_file():
        open(path, "rb").close()  # says why, unless it is a device or the like
        raise ValueError(f"torchblob.load needs a file. Got {os.fspath(path)!r}.")
    with _about(path):
        with open(path, "rb") as file:
            size = _header_size(file.read(8))
        if size > MOST_HEADER_BYTES:
            raise MalformedError(f"its header would have {size} bytes")
        try:
            with safe_open(path, "pt") as content:
                text = (content.metadata() or {}).get("torchblob")
                if text is None:
                    raise MalformedError("it has tensors, but is not of torchblob")
                header, names = _parse(text), content.keys()
                return Model(header, {name: content.get_tensor(name) for name in names})
        except SafetensorError as error:
            raise MalformedError(f"it is no safetensors file: {error}") from error


def _header_size(data: bytes) -> int:
    """Return the size of a header, which the first eight bytes of a file give."""
    return int.from_bytes(data[:8], "little")


def _parse(text: str) -> dict[str, Any]:
    """Return the JSON of a file of this version or an earlier one."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"its header is no JSON ({error})") from error
    if type(header) is not dict:
        raise MalformedError("its header is no JSON object")
    number = field(header, "format", int)
    if number != FORMAT:
        versions = field(header, "versions", dict)
        raise MalformedError(
            f"it has format {number}, of torchblob {versions.get('torchblob')!r:.20}, "
            f"and torchblob {__version__} reads format {FORMAT}: update it"
        )
    return header


@contextmanager
def _about(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of which file an error in the block is."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"torchblob.load can't use {os.fspath(path)!r}: {error}. It needs a file "
            "that torchblob.save has written, as a whole."
        ) from error


def _classifier_of(
    model: Model, device: str | torch.device, where: torch.device
) -> TorchBlobClassifier:
    """Return the classifier of a file, with its network on a device that is present."""
    header, tensors = model
    check_names(header, ENTRIES, "the header")
    if (estimator := field(header, "estimator", str)) != TorchBlobClassifier.__name__:
        raise MalformedError(f"it is of a {estimator!r:.80}")
    params = field(header, "params", dict)
    check_names(params, TorchBlobClassifier().get_params(), "params")
    decoded = {name: _decode(value, name) for name, value in params.items()}
    clf = TorchBlobClassifier(**decoded | {"device": device})
    clf._check_parameters()
    net = field(header, "net", dict)
    if net.get("dtype") == "float64" and where.type == "mps":
        if device != "auto":
            raise MalformedError("its network is of float64, which MPS devices lack")
        where = torch.device("cpu")
    memory = Memory(field(header, "memory", dict), tensors)
    clf.net_ = BlobNet.restored(net, memory, str(where))
    clf.classes_ = _decode_classes(field(header, "classes", dict))
    layers = clf.module_.linear_layers
    if len(clf.classes_) != layers[-1].out_features:
        raise MalformedError(
            f"there are {len(clf.classes_)} classes, {layers[-1].out_features} logits"
        )
    clf.n_features_in_ = layers[0].in_features
    if header.get("feature_names") is not None:
        names = list_of(header, "feature_names", str)
        if len(names) != clf.n_features_in_:
            raise MalformedError(
                f"there are {len(names)} names for {clf.n_features_in_} features"
            )
        clf.feature_names_in_ = np.array(names, dtype=object)
    clf.best_epoch_ = field(header, "best_epoch", int, type(None))
    return clf


def _encode(value: Any, name: str, *, with_code: bool) -> Any:
    """Return the value of a parameter as JSON has it.

    A tuple, a dict, whose keys may be numbers, or code is a dict of one entry.
    """
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.ndarray):
        return _encode(value.tolist(), name, with_code=with_code)
    if isinstance(value, list | tuple):
        entries = [_encode(entry, name, with_code=with_code) for entry in value]
        return {"tuple": entries} if isinstance(value, tuple) else entries
    if isinstance(value, dict):
        items = [list(item) for item in value.items()]
        return {"dict": _encode(items, name, with_code=with_code)}
    try:
        return plain(value, name)
    except NotStorableError:
        if not with_code:
            raise
        return {"code": getattr(value, "__qualname__", type(value).__qualname__)}


def _decode(value: Any, name: str) -> Any:
    """Return the value of a parameter."""
    if isinstance(value, list):
        return [_decode(entry, name) for entry in value]
    if not isinstance(value, dict):
        return value
    if "code" in value:
        raise MalformedError(
            f"{name} is code, {value['code']!r:.80}, which no file holds"
        )
    check_names(value, ("tuple", "dict"), name)
    if "tuple" in value:
        return tuple(_decode(field(value, "tuple", list), name))
    try:
        return {k: _decode(of, name) for k, of in field(value, "dict", list)}
    except (TypeError, ValueError) as error:
        raise MalformedError(f"{name} has items that are no pairs") from error


def _encode_classes(classes: np.ndarray) -> dict[str, Any]:
    """Return class labels as JSON has them."""
    if classes.dtype.kind == "U":
        return {"dtype": "str", "values": classes.tolist()}
    if not DTYPE_OF_CLASSES.fullmatch(classes.dtype.str):
        raise NotStorableError(f"the classes are of {classes.dtype}")
    values = classes.view(np.int64) if classes.dtype.kind in "mM" else classes
    return {"dtype": classes.dtype.str, "values": values.tolist()}


def _decode_classes(encoded: dict[str, Any]) -> np.ndarray:
    """Return class labels."""
    check_names(encoded, ("dtype", "values"), "classes")
    name, values = field(encoded, "dtype", str), field(encoded, "values", list)
    if name != "str" and not DTYPE_OF_CLASSES.fullmatch(name):
        raise MalformedError(f"there are no classes of {name!r:.80}")
    is_time = name[1] in "mM"
    try:
        array = np.array(values, dtype=np.int64 if is_time else name)
        classes = array.view(name) if is_time else array
        is_sound = array.tolist() == values and np.array_equal(
            np.unique(classes), classes
        )
    except (OverflowError, TypeError, ValueError) as error:
        raise MalformedError(f"{values!r:.80} are no {name}: {error}") from error
    if not is_sound:
        raise MalformedError(f"{values!r:.80} are no classes of {name}")
    return classes
