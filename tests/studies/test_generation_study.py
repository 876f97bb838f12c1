"""The generation study on pictures of a stranger's folder: from cells to a report, and what adds up in it."""

import math

import numpy as np
import pytest
from PIL import Image

from codebound.errors import InputError
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.generation.study import STUDY

TINY = [
    "seeds=1", "sizes=[8]", "steps=4", "prior_steps=3", "neighbour_steps=4", "neighbour_hidden=8", "judge_steps=3",
    "width=8", "depth=1", "prior_width=16", "prior_depth=1", "samples=24", "guidances=[1, 2]", "held_out=48",
    "channels=1", "init_tokens=256", "batch_size=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Bright and dark pictures of 16×16 in two folders of classes."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 50)):
        (root / name).mkdir()
        for number in range(300):
            pixels = (level + 40 * rng.random((16, 16))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03d}.png")
    return root


def test_from_cells_to_a_report(tmp_path, shapes):
    settings = STUDY.configure([], {"data": f"classes:{shapes}"}, [*TINY, "crop=16"])
    run(STUDY, tmp_path / "run", settings, jobs=1)
    read = load(STUDY, tmp_path / "run")
    page = report.write(read).read_text(encoding="utf-8")
    assert "the tokenizer loses" in page
    (cell,) = read.cells.values()
    assert (tmp_path / "run" / "pictures" / "0-8.png").exists()

    # Bits of a token with its share of the class are at least those of an exact prior; no class for neighbours.
    assert set(cell["priors"]) == {"autoregressive", "masked", "neighbours"}
    assert set(cell["priors"]["neighbours"]["samples"]) == {"1"}
    autoregressive = cell["priors"]["autoregressive"]
    assert autoregressive["bits_per_token"] == pytest.approx(math.log2(8) + 1 / 16, abs=1.0)
    for figures in autoregressive["samples"]["2"]["spaces"]:
        assert figures["pictures"] == 24
        assert ("right_class" in figures["samples"]) == (figures["space"] == "classifier")
        assert (
            figures["floor"]
            == autoregressive["samples"]["1"]["spaces"][figures["space"] != "classifier"]["floor"]
        )

    # The parts of a distance add up to what the samples have above the floor.
    at = {"codebook_size": 8, "prior": "masked", "guidance": 1.0, "space": "classifier"}
    parts = [read.table.values(name, **at)[0] for name in ("by_tokenizer", "by_prior")]
    floor = read.table.values("frechet", codebook_size=8, space="classifier", of="floor")[0]
    assert sum(parts) == pytest.approx(read.table.values("frechet", **at)[0] - floor)


def test_pictures_without_classes_are_refused():
    settings = STUDY.configure([], {"data": "photos"}, TINY)
    with pytest.raises(InputError, match="at least two classes"):
        STUDY.prepare(settings)
