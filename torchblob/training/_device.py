"""Where to compute, and in which precision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from skorch.exceptions import DeviceWarning


def available_devices() -> list[str]:
    """Return the names of the devices that are present, the preferred one first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def resolve_device(device: str | torch.device, name: str) -> torch.device:
    """Return the device that `device` names.

    Parameters
    ----------
    device : str or torch.device
        "auto" (CUDA, else MPS, else CPU), a device of torch or its name.
    name : str
        The estimator's name, for the error.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    present = available_devices()
    if device == "auto":
        return torch.device(present[0])
    try:
        wanted = torch.device(device)
    except RuntimeError:  # not a name of torch's
        wanted = None
    if wanted is not None:
        if wanted.type == "cuda" and wanted.index is None and "cuda:0" in present:
            return torch.device("cuda", torch.cuda.current_device())
        if wanted.type == "cuda" and str(wanted) in present:
            return wanted
        if wanted.type in present:
            return torch.device(wanted.type)
    hint = ""
    if wanted is not None and wanted.type == "cuda" and torch.version.cuda is None:
        hint = f" This build of torch, {torch.__version__}, has no CUDA."
    raise ValueError(
        f"The 'device' parameter of {name} must be 'auto' or a device that is present "
        f"({', '.join(map(repr, present))}). Got {str(device)!r} instead.{hint}"
    )


def present_or_cpu(device: str) -> torch.device:
    """Return a device if it is present, or else, with a DeviceWarning, the CPU."""
    try:
        return resolve_device(device, "")
    except ValueError:
        warnings.warn(
            f"A network that was on the device {device!r}, which is not present, is on "
            "the CPU now.",
            DeviceWarning,
            stacklevel=2,
        )
        return torch.device("cpu")


@contextmanager
def memory_errors(name: str) -> Iterator[None]:
    """Make a MemoryError of torch's error for want of the host's memory.

    Parameters
    ----------
    name : str
        The estimator's name, for the error.
    """
    try:
        yield
    except RuntimeError as error:
        # torch has a type for such errors of a GPU, but none for those of the host.
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(
            f"{name}: there is no memory for a network and data of these sizes. Give "
            f"fewer hidden_units, or fewer rows at once. {error}"
        ) from error


def resolve_dtype(
    dtype: str, data_is_float64: bool, device: torch.device, name: str
) -> torch.dtype:
    """Return the precision that `dtype` names; "auto" follows the data on a CPU.

    Raises
    ------
    ValueError
        If the device has no such precision.
    """
    if dtype == "auto":
        double = data_is_float64 and device.type == "cpu"
        return torch.float64 if double else torch.float32
    if dtype == "float64" and device.type == "mps":
        raise ValueError(
            f"The 'dtype' parameter of {name} must be 'auto' or 'float32' on an MPS "
            "device, which has no float64. Got 'float64' instead."
        )
    return torch.float64 if dtype == "float64" else torch.float32
