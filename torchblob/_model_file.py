"""A fitted classifier as a file of numbers and names, without code.

A file is in the safetensors format: weights, and what the optimizer remembers of them,
are tensors; all else is JSON, under "torchblob" in the metadata of the header. "sha256"
there is the digest of the JSON followed by the bytes of the tensors.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sklearn
import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

from torchblob._facts import (
    MalformedError,
    NotStorableError,
    check_names,
    field,
    plain,
)
from torchblob._files import write_atomically
from torchblob._version import __version__
from torchblob.training import Memory, memory_of, settings_of

if TYPE_CHECKING:
    from torchblob._classifier import TorchBlobClassifier

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

MOST_LETTERS = 2**26
"""What the names of classes may take, as numpy has them: all as long as the longest."""

TOO_LONG = "the names of the classes are too long"

BEST = "best."
"""What the names of the weights begin with to which early stopping would return."""

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

    @property
    def memory(self) -> Memory:
        """What its network has learned."""
        tensors = {k: of for k, of in self.tensors.items() if not k.startswith(BEST)}
        return Memory(field(self.header, "memory", dict), tensors)


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
    net, memory = settings_of(clf.net_), memory_of(clf.net_, with_groups=with_code)
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
            name: encode(value, name, with_code=with_code)
            for name, value in clf.get_params(deep=False).items()
        },
        "classes": encode_classes(clf.classes_),
        "feature_names": None if names is None else names.tolist(),
        "best_epoch": clf.best_epoch_,
        "net": net,
        "memory": memory.facts,
    }
    return Model(header, memory.tensors)


def write(model: Model, path: Path) -> None:
    """Write a file.

    Raises
    ------
    NotStorableError
        If the header is too large.
    OSError
        If the file can't be written; one that was there is as it was.
    """
    text = json.dumps(model.header, separators=(",", ":"))
    metadata = {"torchblob": text, "sha256": "0" * 64}
    data = bytearray(to_safetensors(model.tensors, metadata))
    # Nothing in the text can look like this, since its quotes are escaped.
    at = data.index(b'"sha256":"') + len(b'"sha256":"')
    data[at : at + 64] = _digest(text, data).encode()
    size = _header_size(data)
    if size > MOST_HEADER_BYTES:
        raise NotStorableError(
            f"what is not weights takes {size} bytes, where a file has room for "
            f"{MOST_HEADER_BYTES}: history_ and the names of features are long"
        )
    write_atomically(path, data)


def read(path: Path) -> Model:
    """Read a file that :func:`write` has written, or one of an earlier version.

    Raises
    ------
    MalformedError
        If it is damaged, of another kind or of a later version.
    OSError
        If it can't be read.
    """
    if path.exists() and not path.is_file():
        raise MalformedError("it is no regular file")
    with open(path, "rb") as file:
        size = _header_size(file.read(8))
        if size > MOST_HEADER_BYTES:
            raise MalformedError(
                "it is no safetensors file, which begins with the size of its header, "
                f"or that is over {MOST_HEADER_BYTES} bytes"
            )
        # All at once: another process may put another file there meanwhile.
        file.seek(0)
        data = file.read()
    try:
        tensors = from_safetensors(data)
    except (KeyError, SafetensorError) as error:  # a key is a type that torch lacks
        raise MalformedError(
            f"it is no safetensors file, or not a whole one: {error}"
        ) from error
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    if "torchblob" not in metadata:
        raise MalformedError("it has tensors, but is not of torchblob")
    text = field(metadata, "torchblob", str)
    if metadata.get("sha256") != _digest(text, data):
        raise MalformedError("it is damaged: its digest is that of other contents")
    return Model(_parse(text), tensors)


def _header_size(data: bytes | bytearray) -> int:
    """Return the size of a header, which the first eight bytes of a file give."""
    return int.from_bytes(data[:8], "little")


def _digest(text: str, data: bytes | bytearray) -> str:
    """Return the digest of the JSON and of the bytes of all tensors in a file."""
    # A change of any other bit makes another error.
    digest = hashlib.sha256(text.encode())
    digest.update(memoryview(data)[8 + _header_size(data) :])
    return digest.hexdigest()


def _parse(text: str) -> dict[str, Any]:
    """Return the JSON of a file of this version or an earlier one."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"its header is no JSON ({error})") from error
    if type(header) is not dict:
        raise MalformedError("its header is no JSON object")
    check_names(header, ENTRIES, "the header")
    number = field(header, "format", int)
    if number != FORMAT:
        versions = field(header, "versions", dict)
        raise MalformedError(
            f"it has format {number}, of torchblob {versions.get('torchblob')!r:.20}, "
            f"and torchblob {__version__} reads format {FORMAT}: update it"
        )
    return header


def encode(value: Any, name: str, *, with_code: bool) -> Any:
    """Return the value of a parameter as JSON has it.

    A tuple, a dict, whose keys may be numbers, or code is a dict of one entry.
    """
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.ndarray):
        return encode(value.tolist(), name, with_code=with_code)
    if isinstance(value, list | tuple):
        entries = [encode(entry, name, with_code=with_code) for entry in value]
        return {"tuple": entries} if isinstance(value, tuple) else entries
    if isinstance(value, dict):
        items = [list(item) for item in value.items()]
        return {"dict": encode(items, name, with_code=with_code)}
    try:
        return plain(value, name)
    except NotStorableError:
        if not with_code:
            raise
        return {"code": getattr(value, "__qualname__", type(value).__qualname__)}


def has_code(value: Any) -> bool:
    """Return whether a parameter, as JSON has it, is code or has some in it."""
    if isinstance(value, list):
        return any(map(has_code, value))
    return isinstance(value, dict) and (
        "code" in value or any(map(has_code, value.values()))
    )


def decode(value: Any, name: str) -> Any:
    """Return the value of a parameter."""
    if isinstance(value, list):
        return [decode(entry, name) for entry in value]
    if not isinstance(value, dict):
        return value
    if "code" in value:
        raise MalformedError(
            f"{name} is code, {value['code']!r:.80}, which no file holds"
        )
    check_names(value, ("tuple", "dict"), name)
    if "tuple" in value:
        return tuple(decode(field(value, "tuple", list), name))
    try:
        return {k: decode(of, name) for k, of in field(value, "dict", list)}
    except (TypeError, ValueError) as error:
        raise MalformedError(f"{name} has items that are no pairs") from error


def encode_classes(classes: np.ndarray) -> dict[str, Any]:
    """Return class labels as JSON has them."""
    if classes.dtype.kind == "U":
        if classes.nbytes > 4 * MOST_LETTERS:
            raise NotStorableError(TOO_LONG)
        return {"dtype": "str", "values": classes.tolist()}
    if not DTYPE_OF_CLASSES.fullmatch(classes.dtype.str):
        raise NotStorableError(f"the classes are of {classes.dtype}")
    values = classes.view(np.int64) if classes.dtype.kind in "mM" else classes
    return {"dtype": classes.dtype.str, "values": values.tolist()}


def decode_classes(encoded: dict[str, Any]) -> np.ndarray:
    """Return class labels."""
    check_names(encoded, ("dtype", "values"), "classes")
    name, values = field(encoded, "dtype", str), field(encoded, "values", list)
    if name != "str" and not DTYPE_OF_CLASSES.fullmatch(name):
        raise MalformedError(f"there are no classes of {name!r:.80}")
    is_time = name[1] in "mM"
    longest = max((len(value) for value in values if type(value) is str), default=0)
    if len(values) * longest > MOST_LETTERS:
        raise MalformedError(TOO_LONG)
    try:
        with np.errstate(over="ignore"):  # what is no number of this type shows below
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
