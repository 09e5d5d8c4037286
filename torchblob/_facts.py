"""Numbers, names and lists that go into JSON, and are checked when they come back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

NUMBER = (int, float)


class NotStorableError(ValueError):
    """Something can't be kept without code."""


class MalformedError(ValueError):
    """What should come back is not what was kept."""


def plain(value: Any, what: str) -> Any:
    """Return a value as JSON has it: numbers of Python, lists, dicts with names.

    Raises
    ------
    NotStorableError
        If it has no such form; `what` says what it is.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [plain(entry, what) for entry in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: plain(entry, what) for key, entry in value.items()}
    raise NotStorableError(f"{what} is {value!r:.80}, of {type(value)}")


def field(facts: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """Return an entry that must be of one of some types, of which bool is no int.

    Raises
    ------
    MalformedError
        If it is missing or of another type.
    """
    value = facts.get(name)
    if type(value) not in kinds:
        needed = " or ".join(kind.__name__ for kind in kinds)
        given = f"{value!r:.80}" if name in facts else "nothing"
        raise MalformedError(f"{name!r} must be {needed}, not {given}")
    return value


def number(facts: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """Return an entry that must be a number, of one of some types if they are given.

    Raises
    ------
    MalformedError
        If it is missing, of another type, or not in the range [0, 2**63).
    """
    value = field(facts, name, *(kinds or NUMBER))
    if not 0 <= value < 2**63:
        raise MalformedError(
            f"{name!r} must be in the range [0, 2**63), not {value!r:.80}"
        )
    return value


def list_of(facts: Mapping[str, Any], name: str, *kinds: type) -> list[Any]:
    """Return an entry that must be a list of values of some types.

    Raises
    ------
    MalformedError
        If it is missing or another.
    """
    values = field(facts, name, list)
    for value in values:
        if type(value) not in kinds:
            needed = " or ".join(kind.__name__ for kind in kinds)
            raise MalformedError(
                f"{name!r} must be a list of {needed}, not {value!r:.80}"
            )
    return values


def one_of(known: Mapping[str, T], facts: Mapping[str, Any], name: str) -> T:
    """Return what an entry, which must be one of the names that are known, stands for.

    Raises
    ------
    MalformedError
        If it is missing or another.
    """
    value = field(facts, name, str)
    if value not in known:
        raise MalformedError(f"{name!r} must be in {sorted(known)}, not {value!r:.80}")
    return known[value]


def check_names(facts: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Check that there are no other entries than are known.

    Raises
    ------
    MalformedError
        If there are.
    """
    if unknown := sorted(facts.keys() - set(known)):
        raise MalformedError(f"{what} has unknown entries, {unknown[:5]!r:.200}")
