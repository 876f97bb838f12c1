"""Argument checks shared by the closed forms of this package."""

import math
from numbers import Integral, Real
from typing import Any

from codebound.errors import InputError


def number(name: str, value: Any, *, above: float | int = -math.inf, least: float | int = -math.inf) -> float:
    """`value` as a float, or InputError unless it is a finite number, > `above` and >= `least`."""
    real = _as_float(value)
    if not math.isfinite(real) or real <= above or real < least:
        bound = f"> {above:g}" if above > -math.inf else f">= {least:g}" if least > -math.inf else "finite"
        raise InputError(f"{name} is {value}; a finite number {bound} is accepted")
    return real


def count(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int, or InputError unless it is an integer >= `least`."""
    if not (_as_float(value).is_integer() or _is_integer(value)) or value < least:
        raise InputError(f"{name} is {value}; an integer >= {least} is accepted")
    return int(value)


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
