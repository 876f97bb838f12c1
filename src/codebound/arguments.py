"""Checks of arguments: what is no number, or not of the accepted ones, is refused by name."""

import math
from numbers import Integral, Real
from typing import Any

from codebound.errors import InputError


def number(
    name: str,
    value: Any,
    *,
    above: float | int = -math.inf,
    least: float | int = -math.inf,
    below: float | int = math.inf,
    most: float | int = math.inf,
) -> float:
    """`value` as a float, or InputError unless it is a finite number, > `above`, >= `least`, < `below`, <= `most`."""
    real = _as_float(value)
    if not (math.isfinite(real) and above < real < below and least <= real <= most):
        limits = [(">", above), (">=", least), ("<", below), ("<=", most)]
        bounds = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if math.isfinite(limit))
        raise InputError(f"{name} is {value}; it must be a finite number {bounds}".rstrip())
    return real


def count(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int, or InputError unless it is an integer >= `least`."""
    if not (_as_float(value).is_integer() or _is_integer(value)) or value < least:
        raise InputError(f"{name} is {value}; it must be an integer >= {least}")
    return int(value)


def whole(name: str, value: Any, *, least: int = 1, most: float | int = math.inf) -> int:
    """`value`, or InputError unless it is an int (no float, though it may be whole) in `least` … `most`."""
    if not _is_integer(value) or not least <= value <= most:
        bounds = f"in {least} … {most:g}" if math.isfinite(most) else f">= {least}"
        raise InputError(f"{name} is {value!r}; it must be an int {bounds}")
    return int(value)


def seed(value: Any) -> int:
    """`value`, or InputError unless a generator takes it as its seed."""
    return whole("seed", value, least=-(2**63), most=2**63 - 1)


def one_of(name: str, value: Any, accepted: tuple[Any, ...]) -> None:
    """InputError unless `value` is one of those."""
    if value not in accepted:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, accepted))}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    """nan for what is no number, inf for an int beyond float64."""
    # True is an int, too, but nobody means it as a number.
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
