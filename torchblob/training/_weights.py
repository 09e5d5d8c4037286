"""The parameters of several networks in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from torchblob.nn import BlobModel, Kernel


class StackedWeights:
    """The parameters of K networks of one shape, side by side in one tensor.

    The tensor has the weights of the first layer, network after network, then its
    biases, and so on: each layer's are one contiguous (K, units, inputs) for the
    kernel, and all together are one parameter for the optimizer, for which that is
    several times faster than many small ones.

    While they are stacked, the parameters and gradients of the modules are views of
    the stack: what happens to one happens to the other.

    Parameters
    ----------
    modules : sequence of BlobModel
        Networks of one shape, precision and device.

    Attributes
    ----------
    flat : torch.nn.Parameter of shape (n_parameters,)
        All parameters of all networks, with its gradient in `flat.grad`.
    values_and_gradients : tuple of two torch.Tensor of shape (n_parameters,)
        The memory of both.
    """

    def __init__(self, modules: Sequence[BlobModel]) -> None:
        self._parameters = [list(module.parameters()) for module in modules]
        by_layer = [p for of in zip(*self._parameters, strict=True) for p in of]
        self.flat = nn.Parameter(torch.cat([p.detach().flatten() for p in by_layer]))
        self.flat.grad = torch.zeros_like(self.flat)
        self.values_and_gradients = (self.flat.detach(), self.flat.grad)
        self._values, self._gradients = map(self._layers, self.values_and_gradients)
        self._activation, self._dropout = modules[0].activation, modules[0].dropout
        for k, parameters in enumerate(self._parameters):
            values = self._of(k, self._values)
            for parameter, value in zip(parameters, values, strict=True):
                parameter.data = value
        self.show_gradients()

    def kernel(self, networks: slice, *, extra: bool) -> Kernel:
        """Return a kernel of some networks, which works on the stack itself.

        Parameters
        ----------
        networks : slice
            Which.
        extra : bool
            Whether it has gradients of its own instead of the stack's, to compute
            beside a kernel that has those.
        """
        values, gradients = self._values, self._gradients
        if len(self._parameters) > 1:
            at = networks.start if networks.stop - networks.start == 1 else networks
            values, gradients = ([la[at] for la in of] for of in (values, gradients))
        if extra:
            gradients = [torch.empty_like(gradient) for gradient in gradients]
        return Kernel(
            values[::2],
            values[1::2],
            self._activation,
            gradients=gradients,
            dropout=self._dropout > 0,
        )

    def show_gradients(self) -> None:
        """Show the modules' own optimizers the gradients of what is not frozen."""
        for k, parameters in enumerate(self._parameters):
            gradients = self._of(k, self._gradients)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.requires_grad else None

    def take_in(self) -> None:
        """Bring tensors that somebody has put in the place of the views into the stack.

        That is what `parameter.data = tensor` does, in an optimizer or a callback.
        """
        for k, parameters in enumerate(self._parameters):
            values = self._of(k, self._values)
            for parameter, value in zip(parameters, values, strict=True):
                if parameter.data_ptr() != value.data_ptr():
                    value.copy_(parameter.data)
                    parameter.data = value

    def shows_gradients(self) -> bool:
        """Return whether the modules' gradients are still the stack's views."""
        return all(
            parameter.grad is not None and parameter.grad.data_ptr() == view.data_ptr()
            for k, parameters in enumerate(self._parameters)
            for parameter, view in zip(
                parameters, self._of(k, self._gradients), strict=True
            )
            if parameter.requires_grad
        )

    def give_back(self, k: int) -> None:
        """Give the `k`-th network parameters of its own, as they are now.

        A view would keep, and pickle, the whole stack.
        """
        for parameter in self._parameters[k]:
            parameter.data, parameter.grad = parameter.data.clone(), None

    def load_state(
        self,
        optimizer: torch.optim.Optimizer,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> None:
        """Give `optimizer`, which is that of `flat`, the state of each network's own.

        All parameters have made the same number of steps: see :func:`is_uniform`.
        """
        states = [
            own.state.get(parameter, {})
            for parameters in zip(*self._parameters, strict=True)
            for own, parameter in zip(optimizers, parameters, strict=True)
        ]
        for name, value in states[0].items():
            if _is_per_weight(value):
                value = torch.cat([state[name].flatten() for state in states])
            elif isinstance(value, torch.Tensor):
                value = value.to(self.flat.device)
            optimizer.state[self.flat][name] = value

    def save_state(
        self,
        optimizer: torch.optim.Optimizer,
        k: int,
        own: torch.optim.Optimizer,
    ) -> None:
        """Give the `k`-th network's own optimizer its part of the state."""
        for name, value in optimizer.state[self.flat].items():
            parts = [value] * len(self._parameters[k])
            if _is_per_weight(value):
                parts = self._of(k, self._layers(value))
            for parameter, part in zip(self._parameters[k], parts, strict=True):
                own.state[parameter][name] = (
                    part.clone() if isinstance(part, torch.Tensor) else part
                )

    def _layers(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Return each layer's views, (K, ...), or (...) for K = 1, in their order."""
        n_networks = len(self._parameters)
        shapes = [parameter.shape for parameter in self._parameters[0]]
        sizes = [n_networks * shape.numel() for shape in shapes]
        stack = () if n_networks == 1 else (n_networks,)
        return [
            part.view(*stack, *shape)
            for part, shape in zip(torch.split(flat, sizes), shapes, strict=True)
        ]

    def _of(self, k: int, layers: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the views of the `k`-th network."""
        return layers if len(self._parameters) == 1 else [layer[k] for layer in layers]


def _is_per_weight(value: Any) -> bool:
    """Return whether an entry of an optimizer's state is one number a weight."""
    return isinstance(value, torch.Tensor) and value.ndim > 0


def is_uniform(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether all parameters have made the same number of steps.

    They have not if some were frozen for a while; then one state can't do for all.
    """
    states = [
        optimizer.state.get(parameter, {})
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    counters = [
        {
            name: None if _is_per_weight(value) else float(value or 0)
            for name, value in state.items()
        }
        for state in states
    ]
    return all(counter == counters[0] for counter in counters)
