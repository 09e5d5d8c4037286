"""The parameters of several networks in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
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

    In its context, the parameters and gradients of the modules are views of the stack:
    what happens to one happens to the other.

    Parameters
    ----------
    modules : sequence of BlobModel
        Networks of one shape, precision and device.

    Raises
    ------
    ValueError
        If a weight of a layer is not a parameter, but computed from others.

    Attributes
    ----------
    flat : torch.nn.Parameter of shape (n_parameters,)
        All parameters of all networks, with its gradient in `flat.grad`.
    values_and_gradients : tuple of two torch.Tensor of shape (n_parameters,)
        The memory of both.
    """

    def __init__(self, modules: Sequence[BlobModel]) -> None:
        self._modules = modules
        self._parameters = [_parameters(module) for module in modules]
        by_layer = [p for of in zip(*self._parameters, strict=True) for p in of]
        self.flat = nn.Parameter(torch.cat([p.detach().flatten() for p in by_layer]))
        self.flat.grad = torch.zeros_like(self.flat)
        self.values_and_gradients = (self.flat.detach(), self.flat.grad)
        self._values, self._gradients = map(self._layers, self.values_and_gradients)
        self._stacked: set[int] = set()

    def __enter__(self) -> StackedWeights:
        for k, parameters in enumerate(self._parameters):
            self._stacked.add(k)
            values = self._of(k, self._values)
            for parameter, value in zip(parameters, values, strict=True):
                parameter.data = value
        self.show_gradients()
        return self

    def __exit__(self, *error: object) -> None:
        for k in list(self._stacked):
            self.give_back(k)

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
        module = self._modules[0]
        return Kernel(
            values[::2],
            values[1::2],
            module.activation,
            gradients=gradients,
            dropout=module.dropout > 0,
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

        Raises
        ------
        ValueError
            If a layer has got another parameter, which no optimizer would train.
        """
        for k, parameters in enumerate(self._parameters):
            values, now = self._of(k, self._values), _parameters(self._modules[k])
            for parameter, value, of_now in zip(parameters, values, now, strict=True):
                if parameter is not of_now:
                    raise ValueError(
                        "during training a layer must keep its parameters, which the "
                        "optimizer knows. A callback put another parameter in the "
                        "place of one; write into it instead: parameter.copy_(values)"
                    )
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

    def are_finite(self) -> list[bool]:
        """Return for each network whether all of its parameters are finite."""
        n_networks = len(self._parameters)
        by_layer = [la.view(n_networks, -1).isfinite().all(1) for la in self._values]
        finite: list[bool] = torch.stack(by_layer).all(0).tolist()
        return finite

    def give_back(self, k: int) -> None:
        """Give the `k`-th network parameters of its own, as they are now.

        A view would keep, and pickle, the whole stack.
        """
        self._stacked.discard(k)
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
        if states[0]:
            of_all = {
                name: torch.cat([state[name].flatten() for state in states])
                if _is_per_weight(value)
                else deepcopy(value)
                for name, value in states[0].items()
            }
            set_state(optimizer, {0: of_all})

    def save_state(
        self,
        optimizer: torch.optim.Optimizer,
        k: int,
        own: torch.optim.Optimizer,
    ) -> None:
        """Give the `k`-th network's own optimizer its part of the state."""
        for name, value in optimizer.state[self.flat].items():
            if _is_per_weight(value):
                parts = self._of(k, self._layers(value))
            else:
                if isinstance(value, torch.Tensor):
                    value = value.cpu()  # counted there, where no graph is captured
                parts = [value] * len(self._parameters[k])
            for parameter, part in zip(self._parameters[k], parts, strict=True):
                own.state[parameter][name] = deepcopy(part)

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


def _parameters(module: BlobModel) -> list[nn.Parameter]:
    """Return the weight and the bias of each layer."""
    parameters = []
    for number, layer in enumerate(module.linear_layers):
        for parameter in (layer.weight, layer.bias):
            if not isinstance(parameter, nn.Parameter):
                raise ValueError(
                    "torchblob trains parameters, and the weight or bias of layer "
                    f"{number} is none: it is computed from others, as after "
                    "torch.nn.utils.prune or torch.nn.utils.parametrize. Make it a "
                    "parameter again, for example by prune.remove, or train the "
                    "module with a loop of your own."
                )
            parameters.append(parameter)
    return parameters


def set_state(
    optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]
) -> None:
    """Set what an optimizer remembers of each parameter, but not its settings.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Which brings tensors to the devices of its parameters, and owns them then.
    state : dict of int to dict
        As in :meth:`torch.optim.Optimizer.state_dict`.
    """
    settings = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": settings})


def _is_per_weight(value: Any) -> bool:
    """Return whether an entry of an optimizer's state is one number a weight."""
    return isinstance(value, torch.Tensor) and value.ndim > 0


def is_uniform(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether one state can do for all parameters.

    It can't if some are frozen, or were for a while and have made fewer steps.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not all(parameter.requires_grad for parameter in parameters):
        return False
    states = [optimizer.state.get(parameter, {}) for parameter in parameters]
    counters = [
        {
            name: None if _is_per_weight(value) else float(value or 0)
            for name, value in state.items()
        }
        for state in states
    ]
    return all(counter == counters[0] for counter in counters)
