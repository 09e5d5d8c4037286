"""What a net is and has learned, as numbers and tensors: what is kept without code.

The numbers are such as JSON holds. What comes back may be from a file that was damaged
or forged, so all of it is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from skorch.history import History

from torchblob._facts import (
    NUMBER,
    MalformedError,
    NotStorableError,
    check_names,
    field,
    list_of,
    number,
    one_of,
    plain,
)
from torchblob.training._sections import complete_state, put_state
from torchblob.training._task import BEST, ELEMENTWISE
from torchblob.training._weights import parameters_of

if TYPE_CHECKING:
    from torchblob.training._net import BlobNet

PARAMS: dict[str, tuple[type, ...]] = {
    "batch_size": (int,),
    "criterion__label_smoothing": NUMBER,
    "iterator_valid__batch_size": (int,),
    "lr": NUMBER,
    "max_epochs": (int,),
    "module__activation": (str,),
    "module__dropout": NUMBER,
    "optimizer__foreach": (bool,),
    "optimizer__fused": (bool,),
    "optimizer__momentum": NUMBER,
    "optimizer__weight_decay": NUMBER,
    "seed": (int,),
    "verbose": (bool, int),
}
"""Parameters of a net that are kept as they are, and their types."""

IMPLIED = (
    "callbacks",
    "classes",
    "device",
    "dtype",
    "module__hidden_units",
    "module__input_features",
    "module__output_features",
    "optimizer",
)
"""Parameters that are kept in another form, or follow from the weights."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}

OPTIMIZERS = {optimizer.__name__: optimizer for optimizer in ELEMENTWISE}

REMEMBERED = {
    torch.optim.SGD: {"momentum_buffer"},
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.RMSprop: {"step", "square_avg", "momentum_buffer"},
}
"""What an optimizer remembers of a parameter."""

OPTIONAL = {"momentum_buffer"}
"""What some of them remember only with momentum."""

CHANGED = "a layer of the network was changed, or has a hook"
"""Why a net is more than its settings and weights."""

RATES = {"lr", "initial_lr"}
"""Settings of an optimizer that change in the course of a training."""


class Memory(NamedTuple):
    """What a net has learned.

    Parameters
    ----------
    facts : dict
        Its history, and what else is no tensor.
    tensors : dict of str to torch.Tensor
        On the CPU: "layer.0.weight", "layer.0.bias" and so on, and what the optimizer
        remembers of the parameter of each number, as "optimizer.0.exp_avg".
    """

    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def without_optimizer(self) -> Memory:
        """Return what there is for a net with another optimizer, of one group."""
        tensors = {k: of for k, of in self.tensors.items() if k.startswith("layer.")}
        facts = {k: of for k, of in self.facts.items() if k != "groups"}
        return Memory({**facts, "numbers": {}, "rates": [{}]}, tensors)


def settings_of(net: BlobNet) -> dict[str, Any]:
    """Return what a net was made with, except for callbacks.

    An optimizer that is none of `OPTIMIZERS` is left out, and stands as None.

    Raises
    ------
    NotStorableError
        If that is code.
    """
    params, defaults = net.get_params(deep=False), type(net)().get_params(deep=False)
    known = [name for name in OPTIMIZERS if OPTIMIZERS[name] is net.optimizer]
    kept = {}
    for name, value in params.items():
        if name.startswith("optimizer__") and not known:
            continue
        if name in PARAMS:
            kept[name] = plain(value, name)
        elif not (
            name in IMPLIED or name.startswith("_") or value == defaults.get(name)
        ):
            raise NotStorableError(f"{name} of the net is {value!r:.80}")
    return {
        "params": kept,
        "optimizer": known[0] if known else None,
        "dtype": str(net.dtype).removeprefix("torch."),
        "device": str(net.device),
    }


def params_from(settings: Mapping[str, Any], widths: Sequence[int]) -> dict[str, Any]:
    """Return the parameters of a net, except for its device.

    Parameters
    ----------
    settings : dict
        As :func:`settings_of` returns them.
    widths : sequence of int
        Number of features, of units of each hidden layer, and of classes.

    Raises
    ------
    MalformedError
        If the settings are no such dict.
    """
    check_names(settings, ("params", "optimizer", "dtype", "device"), "net")
    params = field(settings, "params", dict)
    check_names(params, PARAMS, "params")
    for name in params:
        if type(field(params, name, *PARAMS[name])) in NUMBER:
            number(params, name)
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD
    if settings.get("optimizer") is not None:
        optimizer = one_of(OPTIMIZERS, settings, "optimizer")
    return {
        **params,
        "module__input_features": widths[0],
        "module__hidden_units": tuple(widths[1:-1]),
        "module__output_features": widths[-1],
        "classes": list(range(widths[-1])),
        "callbacks": [],
        "optimizer": optimizer,
        "dtype": one_of(DTYPES, settings, "dtype"),
    }


def widths_of(tensors: Mapping[str, torch.Tensor]) -> list[int]:
    """Return the number of features, of units of each hidden layer, and of classes.

    Raises
    ------
    MalformedError
        If the tensors have no layers that fit together.
    """
    shapes = []
    for name, bias_name in _pairs(sum(name.startswith("layer.") for name in tensors)):
        shape, of_bias = (
            tuple(tensors[key].shape) if key in tensors else None
            for key in (name, bias_name)
        )
        if shape is None or len(shape) != 2 or 0 in shape or of_bias != shape[:1]:
            raise MalformedError(
                f"{name} and {bias_name} must have the shapes (units, inputs) and "
                f"(units,), not {shape} and {of_bias}"
            )
        shapes.append(shape)
    if not shapes:
        raise MalformedError("there is no layer")
    for below, above in pairwise(shapes):
        if below[0] != above[1]:
            raise MalformedError(
                f"a layer of {below[0]} units is followed by one of {above[1]} inputs"
            )
    return [shapes[0][1], *(units for units, _ in shapes)]


def memory_of(net: BlobNet, *, with_groups: bool = False) -> Memory:
    """Return what a net has learned.

    Parameters
    ----------
    net : BlobNet
        The net.
    with_groups : bool, default=False
        Whether to keep all settings of its optimizer, which an optimizer of the user's
        or a callback may change in the course of a training.

    Raises
    ------
    NotStorableError
        If its optimizer or its history remembers what is neither number nor tensor, or
        its module is not as the net has made it.
    """
    try:
        parameters = parameters_of(net.module_)
    except ValueError as error:
        raise NotStorableError(str(error)) from error
    if not net.module_.is_as_made:
        raise NotStorableError(CHANGED)
    if any(parameter.dtype != net.dtype for parameter in parameters):
        raise NotStorableError(f"the network is not of {net.dtype} any longer")
    tensors = dict(zip(_names(len(parameters)), map(_kept, parameters), strict=True))
    numbers = {}
    for i, parameter in enumerate(parameters):
        for name, value in net.optimizer_.state.get(parameter, {}).items():
            key = f"optimizer.{i}.{name}"
            if isinstance(value, torch.Tensor):
                tensors[key] = _kept(value)
            else:
                numbers[key] = plain(value, f"what the optimizer remembers, {name},")
    facts = {
        "frozen": [i for i, p in enumerate(parameters) if not p.requires_grad],
        "rates": [
            {name: plain(group[name], name) for name in RATES if name in group}
            for group in net.optimizer_.param_groups
        ],
        "numbers": numbers,
        "history": _by_names(net.history),
    }
    if with_groups:
        facts["groups"] = [
            {
                name: plain(value, f"{name} of the optimizer")
                for name, value in group.items()
                if name != "params"
            }
            for group in net.optimizer_.param_groups
        ]
    return Memory(facts, tensors)


def drop_incomplete(optimizer: torch.optim.Optimizer) -> None:
    """Drop what an optimizer had only begun to remember when it was interrupted."""
    needed = REMEMBERED.get(type(optimizer), set()) - OPTIONAL
    for of_one in optimizer.state.values():
        if not needed <= of_one.keys():
            of_one.clear()


def remember(net: BlobNet, memory: Memory) -> None:
    """Give a net what another one of its shape, precision and optimizer has learned.

    Parameters
    ----------
    net : BlobNet
        On any device.
    memory : Memory
        Of the other.

    Raises
    ------
    MalformedError
        If it is not that of such a net.
    """
    facts, tensors = memory
    check_names(facts, ("frozen", "rates", "groups", "numbers", "history"), "memory")
    parameters = parameters_of(net.module_)
    names = _names(len(parameters))
    for name, parameter in zip(names, parameters, strict=True):
        _check_like(tensors.get(name), parameter, name)
        if not tensors[name].isfinite().all():
            raise MalformedError(f"{name} has values that are infinite or NaN")
    frozen = list_of(facts, "frozen", int)
    if not set(frozen) <= set(range(len(parameters))):
        raise MalformedError(f"there are no such parameters as in 'frozen': {frozen}")
    history = _from_names(list_of(facts, "history", dict))
    state = _state_from(net, facts, tensors)
    of_optimizer = [name for name in tensors if name.startswith("optimizer.")]
    check_names(tensors, [*names, *of_optimizer], "tensors")
    groups = net.optimizer_.param_groups
    rates = _of_groups(facts, "rates", groups)
    for of_group in rates:
        check_names(of_group, RATES, "rates")
    settings = rates
    if "groups" in facts and (net.callbacks or net.optimizer not in ELEMENTWISE):
        settings = _of_groups(facts, "groups", groups)
    with torch.no_grad():
        for i, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
            parameter.copy_(tensors[name])
            parameter.requires_grad_(i not in frozen)
    for parameter, of_one in zip(parameters, state, strict=True):
        for name, value in of_one.items():
            put_state(net.optimizer_, parameter, name, value)
    complete_state(net.optimizer_)
    for group, of_group in zip(groups, settings, strict=True):
        for name, value in of_group.items():
            if isinstance(group.get(name), tuple) and isinstance(value, list):
                value = tuple(value)  # which JSON lacks
            group[name] = value
    net.history_ = history


def _of_groups(
    facts: Mapping[str, Any], name: str, groups: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return an entry that has settings of each group of an optimizer's parameters."""
    settings = list_of(facts, name, dict)
    if len(settings) != len(groups) or any("params" in of for of in settings):
        raise MalformedError(
            f"{name!r} must have an entry for each group of parameters, "
            f"{len(groups)}, not {settings!r:.80}"
        )
    for of_group in settings:
        for rate in RATES & of_group.keys():
            number(of_group, rate)
    return settings


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy on the CPU of a tensor, which may be a view of a stack."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _pairs(n_parameters: int) -> list[tuple[str, str]]:
    """Return the names of the weight and the bias of each layer."""
    return [
        (f"layer.{number}.weight", f"layer.{number}.bias")
        for number in range(n_parameters // 2)
    ]


def _names(n_parameters: int) -> list[str]:
    """Return the names of the parameters, in the order of the layers."""
    return [name for pair in _pairs(n_parameters) for name in pair]


def _check_like(value: Any, like: torch.Tensor, name: str) -> None:
    """Check that a value is a tensor of the shape and precision of another."""
    if not isinstance(value, torch.Tensor):
        given = "missing" if value is None else f"{value!r:.80}"
    elif (value.shape, value.dtype) != (like.shape, like.dtype):
        given = f"of shape {tuple(value.shape)} and {value.dtype}"
    else:
        return
    raise MalformedError(
        f"{name} must be of shape {tuple(like.shape)} and {like.dtype}, not {given}"
    )


def _state_from(
    net: BlobNet, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> list[dict[str, Any]]:
    """Return what the optimizer remembers of each parameter."""
    parameters = parameters_of(net.module_)
    remembered = {k: of for k, of in tensors.items() if k.startswith("optimizer.")}
    remembered |= field(facts, "numbers", dict)
    state: dict[str, dict[str, Any]] = {
        f"optimizer.{i}.": {} for i in range(len(parameters))
    }
    for key, value in remembered.items():
        at = key.rfind(".") + 1
        if key[:at] not in state:
            raise MalformedError(f"{key!r:.80} is of no parameter")
        state[key[:at]][key[at:]] = value
    known = REMEMBERED.get(net.optimizer)
    is_fused = any(group.get("fused") for group in net.optimizer_.param_groups)
    for parameter, (key, of_one) in zip(parameters, state.items(), strict=True):
        if known is not None:
            check_names(of_one, known, key)
            if of_one and not known - OPTIONAL <= of_one.keys():
                raise MalformedError(f"{key} must have {sorted(known - OPTIONAL)}")
        for name, value in of_one.items():
            if known is None and not isinstance(value, torch.Tensor):
                field(of_one, name, *NUMBER, bool, type(None))
            elif (known or is_fused) and not (value is None and name in OPTIONAL):
                like = parameter
                if name == "step" and getattr(value, "dtype", None) in DTYPES.values():
                    like = value.new_empty(())
                _check_like(value, like, key + name)  # torch's kernels trust them
    return list(state.values())


def _by_names(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a history with the names once for all rows that have the same."""
    return [
        {
            "names": list(names),
            "rows": [
                [plain(value, f"the history's {name}") for name, value in row.items()]
                for row in rows
            ],
        }
        for names, rows in groupby(history, tuple)
    ]


def _from_names(parts: Sequence[dict[str, Any]]) -> History:
    """Return the history whose rows :func:`_by_names` has returned."""
    history = History()
    for part in parts:
        check_names(part, ("names", "rows"), "history")
        names = list_of(part, "names", str)
        for values in list_of(part, "rows", list):
            if len(values) != len(names):
                raise MalformedError(f"{values!r:.80} are no values of {names!r:.80}")
            row = dict(zip(names, values, strict=True))
            for name, flag, _ in BEST:
                if name == "train_loss" or name in row or flag in row:
                    field(row, name, *NUMBER)
            history.append(row)
    return history
