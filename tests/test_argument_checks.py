"""Arguments that are no numbers, or too large for one, are refused by name."""

import math

import numpy as np
import pytest

from codebound import arguments
from codebound.errors import InputError


@pytest.mark.parametrize("value", [math.nan, math.inf, "a", "3", None, True, 2.5, 0, [3]])
def test_what_is_no_count_is_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match=f"^size is {value}".replace("[", r"\[")):
        arguments.count("size", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, "a", "3", None, True, 10**400, 0.0])
def test_what_is_no_positive_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match=r"^level is "):
        arguments.number("level", value, above=0)


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3)])
def test_counts_and_numbers_of_other_types_are_taken(value: float | int) -> None:
    assert arguments.count("size", value) == 3
    assert arguments.number("level", value) == 3.0


def test_a_count_may_be_larger_than_any_float() -> None:
    assert arguments.count("size", 10**400) == 10**400
