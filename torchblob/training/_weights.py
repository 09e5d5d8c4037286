"""The parameters of several networks in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torchblob.nn import BlobModel, Kernel
from torchblob.training._sections import Section, by_layer


class StackedWeights:
    """The parameters of K networks of one shape, a row each of one tensor.

    A row has the weights of the first layer, then its biases, and so on. Networks side
    by side are one contiguous parameter for an optimizer, for which that is several
    times faster than many small ones; a layer of all networks is a view for the kernel,
    (K, units, inputs).

    In its context, the parameters and gradients of the modules are views of the stack:
    what happens to one happens to the other. A kernel of several networks has gradients
    of its own, layer by layer, which is faster: see :meth:`kernel`.

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
    parameters : list of list of torch.nn.Parameter
        The weights and biases of each network.
    values, gradients : torch.Tensor of shape (K, n_parameters)
        Those of all networks.
    """

    def __init__(self, modules: Sequence[BlobModel]) -> None:
        self._modules = modules
        self.parameters = [parameters_of(module) for module in modules]
        self._shapes = [parameter.shape for parameter in self.parameters[0]]
        self.values = torch.stack(
            [torch.cat([p.detach().flatten() for p in of]) for of in self.parameters]
        )
        self.gradients = torch.zeros_like(self.values)
        self._values = by_layer(self.values, self._shapes)
        self._gradients = by_layer(self.gradients, self._shapes)
        self._stacked: set[int] = set()

    def __enter__(self) -> StackedWeights:
        try:
            for k, parameters in enumerate(self.parameters):
                self._stacked.add(k)
                for parameter, values in zip(parameters, self._values, strict=True):
                    parameter.data = values[k]
            self.show_gradients()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for k in list(self._stacked):
            self.give_back(k)

    def kernel(self, networks: slice, *, extra: bool) -> Kernel:
        """Return a kernel of some networks, which works on the stack's values.

        Parameters
        ----------
        networks : slice
            Which.
        extra : bool
            Whether it has gradients of its own even if it is of one network, to compute
            beside another kernel.
        """
        alone = networks.stop - networks.start == 1
        at = networks.start if alone else networks
        values, gradients = (
            [layer[at] for layer in layers]
            for layers in (self._values, self._gradients)
        )
        if extra or not alone:
            gradients = [gradient.new_empty(gradient.shape) for gradient in gradients]
        module = self._modules[0]
        return Kernel(
            values[::2],
            values[1::2],
            module.activation,
            gradients=gradients,
            dropout=module.dropout > 0,
        )

    def section(self, networks: slice) -> Section:
        """Return networks side by side as what an optimizer trains."""
        parameter = nn.Parameter(self.values[networks])
        parameter.grad = self.gradients[networks]
        return Section(parameter, networks, self._shapes)

    def show_gradients(self) -> None:
        """Show the modules' own optimizers the gradients of what is not frozen."""
        for k, parameters in enumerate(self.parameters):
            for parameter, gradients in zip(parameters, self._gradients, strict=True):
                parameter.grad = gradients[k] if parameter.requires_grad else None

    def take_in(self) -> None:
        """Bring tensors that somebody has put in the place of the views into the stack.

        That is what `parameter.data = tensor` does, in an optimizer or a callback.

        Raises
        ------
        ValueError
            If a layer has got another parameter, which no optimizer would train.
        """
        for k, parameters in enumerate(self.parameters):
            now = parameters_of(self._modules[k])
            for parameter, values, of_now in zip(
                parameters, self._values, now, strict=True
            ):
                if parameter is not of_now:
                    raise ValueError(
                        "during training a layer must keep its parameters, which the "
                        "optimizer knows. A callback put another parameter in the "
                        "place of one; write into it instead: parameter.copy_(values)"
                    )
                if parameter.data_ptr() != values[k].data_ptr():
                    values[k].copy_(parameter.data)
                    parameter.data = values[k]

    def shows_gradients(self) -> bool:
        """Return whether the modules' gradients are still the stack's views."""
        return all(
            parameter.grad is not None
            and parameter.grad.data_ptr() == gradients[k].data_ptr()
            for k, parameters in enumerate(self.parameters)
            for parameter, gradients in zip(parameters, self._gradients, strict=True)
            if parameter.requires_grad
        )

    def are_finite(self) -> list[bool]:
        """Return for each network whether all of its parameters are finite."""
        finite: list[bool] = self.values.isfinite().all(1).tolist()
        return finite

    def give_back(self, k: int) -> None:
        """Give the `k`-th network parameters of its own, as they are now.

        A view would keep, and pickle, the whole stack.
        """
        self._stacked.discard(k)
        for parameter in self.parameters[k]:
            parameter.data, parameter.grad = parameter.data.clone(), None


def parameters_of(module: BlobModel) -> list[nn.Parameter]:
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
