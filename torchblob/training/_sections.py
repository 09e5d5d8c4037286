"""Parts of a stack that are parameters of an optimizer, and what it remembers of them.

An optimizer remembers something of each parameter, such as momenta and the number of
steps. What the optimizers of single networks remember moves into that of a stack when
it begins, and back when it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import nn


class Section(NamedTuple):
    """Networks side by side in one parameter.

    Parameters
    ----------
    parameter : torch.nn.Parameter of shape (K, n_parameters)
        The values, a row for each network; and the gradients.
    networks : slice
        Whose they are.
    shapes : list of torch.Size
        Of each network's weights and biases, which make up its row.
    """

    parameter: nn.Parameter
    networks: slice
    shapes: list[torch.Size]


def by_layer(rows: torch.Tensor, shapes: Sequence[torch.Size]) -> list[torch.Tensor]:
    """Return views of rows, (K, n_parameters): (K, ...) of each weight or bias."""
    sizes = [shape.numel() for shape in shapes]
    return [
        part.view(len(rows), *shape)
        for part, shape in zip(torch.split(rows, sizes, 1), shapes, strict=True)
    ]


def load_state(
    optimizer: torch.optim.Optimizer,
    section: Section,
    parameters: Sequence[Sequence[nn.Parameter]],
    own: Sequence[torch.optim.Optimizer],
) -> None:
    """Give an optimizer what those of single networks remember.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        That of the section.
    section : Section
        The networks.
    parameters : sequence of sequences of torch.nn.Parameter
        Of each network. All have made the same number of steps: see :func:`is_uniform`.
    own : sequence of torch.optim.Optimizer
        Of each network.
    """
    states = [
        [optimizer_.state.get(parameter, {}) for parameter in of_one]
        for of_one, optimizer_ in zip(parameters, own, strict=True)
    ]
    for name, value in states[0][0].items():
        if _is_per_weight(value):
            value = torch.stack(
                [torch.cat([state[name].flatten() for state in of]) for of in states]
            )
        put_state(optimizer, section.parameter, name, value)


def save_state(
    optimizer: torch.optim.Optimizer,
    section: Section,
    k: int,
    parameters: Sequence[nn.Parameter],
    own: torch.optim.Optimizer,
) -> None:
    """Give the optimizer of a network its part of what one remembers.

    Parameters
    ----------
    optimizer, section
        As in :func:`load_state`.
    k : int
        Number of the network in the section.
    parameters : sequence of torch.nn.Parameter
        Of the network.
    own : torch.optim.Optimizer
        Of the network.
    """
    for name, value in optimizer.state[section.parameter].items():
        of_layers = [value] * len(parameters)
        if _is_per_weight(value):
            of_layers = [layer[k] for layer in by_layer(value, section.shapes)]
        for parameter, of_one in zip(parameters, of_layers, strict=True):
            put_state(own, parameter, name, of_one)


def copy_state(
    to: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    other: torch.optim.Optimizer,
    of_other: Sequence[nn.Parameter],
) -> None:
    """Copy what an optimizer remembers of parameters to another one of its class.

    Parameters
    ----------
    to : torch.optim.Optimizer
        The other one, which keeps its settings.
    parameters : sequence of torch.nn.Parameter
        Those of `to`, which may lie on another device.
    other : torch.optim.Optimizer
        That remembers.
    of_other : sequence of torch.nn.Parameter
        Its parameters, in the same order.
    """
    for parameter, its in zip(parameters, of_other, strict=True):
        for name, value in other.state.get(its, {}).items():
            put_state(to, parameter, name, value)


def put_state(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, name: str, value: Any
) -> None:
    """Let an optimizer remember a copy of an entry, in the place where torch has it.

    That is the device of the parameter, except for the number of steps, which is on the
    CPU unless a kernel reads it.
    """
    if isinstance(value, torch.Tensor):
        groups = optimizer.param_groups
        is_read = any(g.get("fused") or g.get("capturable") for g in groups)
        on_cpu = name == "step" and not is_read
        # Not deepcopy, which would copy all that the tensor is a view of.
        value = value.detach().to("cpu" if on_cpu else parameter.device, copy=True)
    else:
        value = deepcopy(value)
    optimizer.state[parameter][name] = value


def complete_state(optimizer: torch.optim.Optimizer) -> None:
    """Add the buffers that RMSprop needs where it had no momentum before."""
    if isinstance(optimizer, torch.optim.RMSprop):
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                if state := optimizer.state.get(parameter):
                    state.setdefault("momentum_buffer", torch.zeros_like(parameter))


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


def _is_per_weight(value: Any) -> bool:
    """Return whether an entry of an optimizer's state is one number a weight."""
    return isinstance(value, torch.Tensor) and value.ndim > 0
