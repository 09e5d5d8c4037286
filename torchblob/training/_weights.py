"""The parameters of several networks in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torchblob.nn import BlobModel, Kernel
from torchblob.training._sections import Section


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
    parameters : list of list of torch.nn.Parameter
        The weights and biases of each network.
    flat : torch.nn.Parameter of shape (n_parameters,)
        All parameters of all networks, with its gradient in `flat.grad`.
    values_and_gradients : tuple of two torch.Tensor of shape (n_parameters,)
        The memory of both.
    """

    def __init__(self, modules: Sequence[BlobModel]) -> None:
        self._modules = modules
        self.parameters = [parameters_of(module) for module in modules]
        by_layer = [p for of in zip(*self.parameters, strict=True) for p in of]
        self.flat = nn.Parameter(torch.cat([p.detach().flatten() for p in by_layer]))
        self.flat.grad = torch.zeros_like(self.flat)
        self.values_and_gradients = (self.flat.detach(), self.flat.grad)
        self._shapes = [parameter.shape for parameter in self.parameters[0]]
        whole = self.sections([slice(0, len(modules))])[0][0]
        self._values, self._gradients = map(whole.split, self.values_and_gradients)
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
        """Return a kernel of some networks, which works on the stack itself.

        Parameters
        ----------
        networks : slice
            Which.
        extra : bool
            Whether it has gradients of its own instead of the stack's, to compute
            beside a kernel that has those.
        """
        at = networks.start if networks.stop - networks.start == 1 else networks
        values, gradients = (
            [layer[at] for layer in layers]
            for layers in (self._values, self._gradients)
        )
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

    def sections(self, runs: Sequence[slice]) -> list[list[Section]]:
        """Return what an optimizer trains, for runs of networks that it treats alike.

        Parameters
        ----------
        runs : sequence of slice
            Networks side by side; together they are all.

        Returns
        -------
        list of list of Section
            Of each run: one that is all of `flat` if there is but one run, else one for
            each weight and bias.
        """
        if len(runs) == 1:
            return [[Section(self.flat, runs[0], slice(None), self._shapes)]]
        return [
            [self._section(networks, number) for number in range(len(self._shapes))]
            for networks in runs
        ]

    def _section(self, networks: slice, number: int) -> Section:
        """Return the section of one weight or bias of some networks."""
        parameter = nn.Parameter(self._values[number][networks].view(-1))
        parameter.grad = self._gradients[number][networks].view(-1)
        layers = slice(number, number + 1)
        return Section(parameter, networks, layers, self._shapes[layers])

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
        by_layer = [values.flatten(1).isfinite().all(1) for values in self._values]
        finite: list[bool] = torch.stack(by_layer).all(0).tolist()
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
