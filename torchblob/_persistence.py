"""Saving and loading classifiers without code."""

from __future__ import annotations

import os

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from torchblob._classifier import TorchBlobClassifier
from torchblob._facts import (
    MalformedError,
    NotStorableError,
    check_names,
    field,
    list_of,
)
from torchblob._files import path_of
from torchblob._model_file import (
    Model,
    decode,
    decode_classes,
    has_code,
    model_of,
    read,
    write,
)
from torchblob.training import BlobNet, resolve_device


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
        If it is no TorchBlobClassifier, such as a Pipeline, or the path is no path.
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

    A process that is killed meanwhile can leave a file beside it whose name ends in
    ".part", which nothing needs.

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
            f"torchblob.save needs a TorchBlobClassifier. Got {type(clf).__name__}. "
            "Save it as a whole by joblib or skops; or, of a Pipeline or a search, the "
            "classifier alone, pipeline[-1] or search.best_estimator_."
        )
    where = path_of(path, "torchblob.save")
    check_is_fitted(clf)
    clf._check_parameters()
    try:
        write(model_of(clf), where)
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
    TypeError
        If the path is no path.
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
    name = "torchblob.load"
    file, where = path_of(path, name), resolve_device(device, name)
    try:
        return _classifier_of(read(file), device, where)
    except (ValueError, RecursionError) as error:
        reason = str(error).removesuffix(".")
        raise ValueError(
            f"{name} can't use {os.fspath(file)!r}: {reason}. It needs a file that "
            "torchblob.save has written, as a whole."
        ) from error


def _classifier_of(
    model: Model, device: str | torch.device, where: torch.device
) -> TorchBlobClassifier:
    """Return the classifier of a file, with its network on a device that is present."""
    header = model.header
    if (estimator := field(header, "estimator", str)) != TorchBlobClassifier.__name__:
        raise MalformedError(f"it is of a {estimator!r:.80}")
    params = field(header, "params", dict)
    check_names(params, TorchBlobClassifier().get_params(), "params")
    if "training" in header:  # of a checkpoint, in which code stands by its name
        params = {name: of for name, of in params.items() if not has_code(of)}
    decoded = {name: decode(value, name) for name, value in params.items()}
    clf = TorchBlobClassifier(**decoded | {"device": device})
    clf._check_parameters()
    net = field(header, "net", dict)
    if net.get("dtype") == "float64" and where.type == "mps":
        if device != "auto":
            raise MalformedError("its network is of float64, which MPS devices lack")
        where = torch.device("cpu")
    memory = model.memory
    if net.get("optimizer") is None:
        memory = memory.without_optimizer()
    clf.net_ = BlobNet.restored(net, memory, str(where))
    clf.classes_ = decode_classes(field(header, "classes", dict))
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
    best = clf.best_epoch_ = field(header, "best_epoch", int, type(None))
    if best is not None and not 1 <= best <= clf.n_iter_:
        raise MalformedError(f"the best epoch, {best}, is not in the history")
    return clf
