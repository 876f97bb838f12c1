"""Argument checks shared by the closed forms of this package."""

import math

from codebound.errors import InputError


def number(
    name: str, value: float | int, *, above: float | int = -math.inf, least: float | int = -math.inf
) -> float:
    """`value` as a float, or InputError unless it is finite, > `above` and >= `least`."""
    if not math.isfinite(value) or value <= above or value < least:
        bound = f"> {above:g}" if above > -math.inf else f">= {least:g}" if least > -math.inf else "finite"
        raise InputError(f"{name} is {value}; a finite number {bound} is accepted")
    return float(value)


def count(name: str, value: int, *, least: int = 1) -> int:
    """`value`, or InputError unless it is an integer >= `least`."""
    if value != int(value) or value < least:
        raise InputError(f"{name} is {value}; an integer >= {least} is accepted")
    return int(value)
