"""docs/choosing.md: what the table says to take can be taken."""

import re
from pathlib import Path

import pytest

from codebound import FSQ, Product, Residual, VectorQuantizer, recipes
from codebound.quantize import EMA, Gradient, Quantizer, Rotation

PAGE = (Path(__file__).parent.parent / "docs/choosing.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Which quantizer?")[2].partition("```python")[0]
ROWS = [row.split("|")[4:6] for row in TABLE.splitlines() if row.startswith("| ")][1:]
ANSWERS = [answer for take, _ in ROWS for answer in re.findall(r"`([^`]+)`", take)]
# What a reader fills in.
FILLED = {"dim": 8, "K": 64, "levels": (5, 5), "bits": 8, "bandwidth": 3.0}
CLASSES = (EMA, FSQ, Gradient, Product, Residual, Rotation, VectorQuantizer)
NAMES = {**FILLED, "recipes": recipes, "range": range, **{kind.__name__: kind for kind in CLASSES}}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_answer_makes_a_quantizer(answer: str) -> None:
    assert isinstance(eval(answer, NAMES), Quantizer)


def test_each_row_says_whether_it_was_measured() -> None:
    assert len(ROWS) >= 10
    for _, evidence in ROWS:
        assert re.match(r" (not )?measured", evidence), evidence
