"""Work that a GPU repeats without being told each operation again."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 2
"""Calls before the capture, in which optimizers and libraries make what they keep."""


_CAPTURING = threading.Lock()
"""torch allows one capture at a time in a process."""


class CudaGraph:
    """Operations of a function, captured without being carried out.

    A small network's operations take a GPU less time than their launches take the
    processor; a graph is one launch. See the notes on CUDA graphs in torch's
    documentation, whose rules the function must keep: no operation waits for the
    device, and all tensors from outside stay where they are.

    Parameters
    ----------
    function : callable without arguments
        Returns a tensor.
    device : torch.device
        Where its operations are carried out.
    """

    def __init__(
        self, function: Callable[[], torch.Tensor], device: torch.device
    ) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        with (
            _CAPTURING,
            torch.cuda.device(device),
            # Where a capture fails, torch leaves its stream the current one; this
            # context makes that of before current again.
            torch.cuda.stream(torch.cuda.current_stream(device)),
            torch.cuda.graph(
                self._graph,
                # The default is one stream for all devices.
                stream=torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
                # What other threads do meanwhile is their affair.
                capture_error_mode="thread_local",
            ),
        ):
            self._result = function()

    def replay(self) -> torch.Tensor:
        """Carry out the operations; return the function's result."""
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._result


GRAPHS: dict[str, Any] = {"cuda": CudaGraph}
"""Type of a device -> what captures its operations."""

CAPTURABLE: dict[type[torch.optim.Optimizer], dict[str, Any]] = {
    torch.optim.SGD: {"fused": True, "foreach": False},
    torch.optim.Adam: {"fused": True, "capturable": True},
    torch.optim.AdamW: {"fused": True, "capturable": True},
}
"""Optimizer -> settings with which a step, at a rate that is a tensor, is captured."""


class Replay:
    """Call a function, from some call on by a graph of its operations.

    Parameters
    ----------
    function : callable without arguments
        Returns a tensor.
    device : torch.device
        Where its operations are carried out.
    captures : bool
        Whether they can be captured, where the device has graphs.
    """

    def __init__(
        self,
        function: Callable[[], torch.Tensor],
        device: torch.device,
        *,
        captures: bool,
    ) -> None:
        self._function, self._device = function, device
        self._make_graph = GRAPHS.get(device.type) if captures else None
        self._calls = 0
        self._graph: Any = None

    def __call__(self) -> torch.Tensor:
        """Return the function's result, a tensor of the caller's own."""
        self._calls += 1
        if self._make_graph is None or self._calls <= WARM_UP:
            return self._function()
        if self._graph is None:
            try:
                self._graph = self._make_graph(self._function, self._device)
            except RuntimeError as error:
                self._make_graph = None
                warnings.warn(
                    "torchblob goes on without a CUDA graph, which is slower for small "
                    f"networks; capturing one failed: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return self._function()
        return self._graph.replay().clone()
