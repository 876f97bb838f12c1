"""The prior in the package and its tokenizer: small, of each other, and of the ten classes that it says."""

import json
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import nbformat
import numpy as np
import pytest
import torch
from commands import call
from PIL import Image

from codebound.data.labelled import FASHION_CLASSES
from codebound.errors import InputError
from codebound.generators import AutoregressivePrior, MaskedPrior, default_model
from codebound.generators.prior import DEFAULT
from codebound.tokenizers.opening import digest

MOST = 6_000_000  # bytes, of both
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def test_both_parts_are_of_each_other_and_small() -> None:
    prior, tokenizer = default_model()
    assert prior.tokenizer == digest(tokenizer)
    assert prior.classes == FASHION_CLASSES
    assert prior.layout.describe() == "7x7 of [512]"
    assert sum(file.stat().st_size for file in DEFAULT.glob("*/*")) <= MOST
    assert not prior.training
    assert not tokenizer.training


def test_the_name_stands_for_the_prior_in_the_package_and_for_no_other_kind() -> None:
    prior, again = default_model().prior, AutoregressivePrior.from_pretrained("default")
    assert all(
        torch.equal(one, other) for one, other in zip(prior.parameters(), again.parameters(), strict=True)
    )
    with pytest.raises(InputError, match="kind MaskedPrior"):
        MaskedPrior.from_pretrained("default")


def test_a_sample_costs_less_given_its_own_class_than_given_another() -> None:
    prior = default_model().prior
    labels = torch.arange(10).repeat(2)
    indices = prior.sample(20, labels=labels, temperature=0.9)
    own, other = prior.bits(indices, labels), prior.bits(indices, (labels + 5) % 10)
    # Well below the 9 bits of an index that nothing is known of; and the class is in what was drawn.
    assert float(own.mean()) / prior.layout.length < 6
    assert int((own < other).sum()) >= 18


def test_the_command_samples_at_once(tmp_path: Path) -> None:
    code, text, err = call(
        "sample", "default", "--class", "all", "--count", "2", "--out", str(tmp_path / "x")
    )
    assert code == 0, err
    assert "2 pictures" in text
    about = json.loads((tmp_path / "x" / "samples.json").read_text())
    assert [row["class"] for row in about["samples"]] == list(FASHION_CLASSES[:2])
    assert about["tokenizer"] == digest(default_model().tokenizer)

    # Trousers are two legs on black: bright pixels and dark ones.
    pixels = np.array(Image.open(tmp_path / "x" / about["samples"][1]["file"]))
    assert pixels.shape == (28, 28)
    assert pixels.min() < 30
    assert pixels.max() > 120


def test_the_notebook_runs_and_prints_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib.use("Agg")
    path = Path(__file__).parents[2] / "notebooks" / "generation.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    space: dict[str, object] = {}
    figures = compared = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.name, "exec"), space)
            kept = "".join(output.text for output in cell.outputs if output.output_type == "stream")
            figures += sum(output.output_type == "display_data" for output in cell.outputs)
            found = capsys.readouterr().out
            assert NUMBER.sub("#", found) == NUMBER.sub("#", kept)
            # A draw within rounding of two tokens may go either way on another machine, and means with it a little.
            assert [*map(float, NUMBER.findall(found))] == pytest.approx(
                [*map(float, NUMBER.findall(kept))], rel=0.15
            )
            compared += len(NUMBER.findall(kept))
            matplotlib.pyplot.close("all")
    assert figures == 5
    assert compared > 20
