"""The hierarchy study: sizes of equal bits, codes of many pictures in one file, and a run from cells to a report."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from codebound.codec.grids import decompress_indices
from codebound.errors import InputError
from codebound.quantize import FSQ
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.hierarchy import measure
from codebound.studies.hierarchy.arms import codebook_sizes
from codebound.studies.hierarchy.study import STUDY
from codebound.tokenizers import ImageTokenizer


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_sizes_take_equal_bits(levels):
    sizes = codebook_sizes(levels, 64, 576.0)
    tokens = [64 // 4 ** (levels - 1 - level) for level in range(levels)]
    bits = sum(count * math.log2(size) for count, size in zip(tokens, sizes, strict=True))
    assert bits == pytest.approx(576.0, rel=0.01)
    assert sizes[:-1] == (512,) * (levels - 1)


def test_too_few_bits_for_the_coarse_levels_are_refused():
    with pytest.raises(InputError, match=r"bits=150: 2 levels leave 0\.09 bits"):
        codebook_sizes(2, 64, 150.0)


def test_grids_side_by_side_keep_every_index_at_its_place(monkeypatch):
    grid = torch.arange(2 * measure.ACROSS * 6).reshape(-1, 2, 3, 1)
    wide = measure.side_by_side(grid)
    assert wide.shape == (4, 3 * measure.ACROSS, 1)
    for number in (0, 1, measure.ACROSS, 2 * measure.ACROSS - 1):
        row, column = divmod(number, measure.ACROSS)
        part = wide[2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        assert np.array_equal(part, grid[number].numpy())


def test_costs_are_those_of_a_file_of_the_codes(monkeypatch):
    written = []
    compress = measure.compress_indices
    monkeypatch.setattr(measure, "compress_indices", lambda *a: written.append(compress(*a)) or written[-1])
    tokenizer = ImageTokenizer(FSQ((4, 3)), channels=1, width=8, depth=0, stride=4).eval()
    pictures = torch.randint(256, (32, 1, 8, 12), dtype=torch.uint8)
    found = measure.costs(tokenizer, pictures)

    grid = tokenizer.encode(pictures)
    assert np.array_equal(decompress_indices(written[0]), measure.side_by_side(grid))
    assert found["file_bits"] == 8 * len(written[0]) / 32
    assert found["nominal_bits"] == pytest.approx(6 * math.log2(12))
    shares = grid.flatten().bincount() / grid.numel()
    plain = -6 * float((shares * shares.clamp_min(1e-12).log2()).sum())
    assert plain <= found["entropy_bits"] < plain + 0.5  # with the correction of Miller and Madow


def test_from_cells_to_a_report(tmp_path):
    sets = [
        "seeds=2", "arms=[one, two, three]", "bits=[64, 128]", "crop=16", "channels=1", "width=8", "steps=6",
        "prior_steps=3", "prior_width=16", "prior_depth=1", "held_out=64", "samples=32", "features=[pixels]",
        "batch_size=16", "init_tokens=1024",
    ]  # fmt: skip
    run(STUDY, tmp_path / "run", STUDY.configure([], {}, sets), jobs=1)
    read = load(STUDY, tmp_path / "run")
    page = report.write(read).read_text(encoding="utf-8")
    assert "two levels" in page
    assert "beside one level, two levels" in read.content.answer

    # Bits of levels add up, and a Gaussian reference is better at more bits.
    cell = read.cells["three-128-0"]
    assert cell["nominal_bits"] == pytest.approx(128, rel=0.03)
    assert sum(level["prior_bits"] for level in cell["levels"]) == pytest.approx(cell["prior_bits"])
    assert len(cell["levels"]) == 3
    assert (tmp_path / "run" / "pictures" / "three-128-0.png").exists()
    assert "prior_bits" not in read.cells["three-64-0"].content
    few, many = (read.cells[f"one-{bits}-0"] for bits in (64, 128))
    assert few["file_bits"] < many["file_bits"]
    assert few["gaussian_psnr"] < many["gaussian_psnr"]

    # A gain is over the same seed's single level, in the middle of the bytes that both reach: of 60 … 120 and 80 … 140
    # bits at 100, where one level has 20 + 4·⅔ dB and two have 21.5 + 6·⅓. Three levels have no such bytes.
    curves = {
        "one": ((60, 20.0), (120, 24.0)),
        "two": ((80, 21.5), (140, 27.5)),
        "three": ((200, 30.0), (220, 31.0)),
    }
    cells = {}
    for name, finished in read.cells.items():
        size, psnr = curves[finished.cell["arm"]][finished.cell["bits"] == 128]
        above = 1.0 if finished.cell["arm"] == "one" and finished.cell["seed"] == 1 else 0.0
        content = {**finished.content, "file_bits": size, "psnr": psnr + above}
        cells[name] = replace(finished, content=content)
    table = replace(read, cells=cells).table
    gains = table.values("gain", arm="two", bits="equal bytes")
    assert gains == pytest.approx({0: 23.5 - (20 + 8 / 3), 1: 23.5 - (21 + 8 / 3)})
    assert not table.values("gain", arm="three", bits="equal bytes")


def test_arms_must_have_what_others_are_compared_with():
    with pytest.raises(InputError, match="arms must include one"):
        STUDY.configure([], {}, ["arms=[two]"])
    with pytest.raises(InputError, match="unknown arm 'four'"):
        STUDY.configure([], {}, ["arms=[one, four]"])


def test_augmentation_that_would_not_reach_the_priors_is_refused():
    with pytest.raises(InputError, match=r"flip=0\.5: this study augments no pictures"):
        STUDY.configure([], {}, ["flip=0.5"])
