"""The study of tokenizers trained with a trellis code: curves at equal bytes, and a run from cells to a report."""

import pytest
import torch

from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.trained_trellis import study, training
from codebound.studies.trained_trellis.study import STUDY


def test_squares_of_tokens_and_back():
    z = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    squares = training._squares(z, 2)
    assert squares.shape == (2, 2, 3, 12)
    assert squares[1, 1, 2].tolist() == z[1, 2:, 4:].flatten().tolist()
    assert torch.equal(training._whole(squares, 2), z)


def test_a_curve_has_no_point_beyond_its_ends():
    curve = [(0.4, 26.0), (0.1, 22.0)]
    assert study._at(curve, 0.2) == pytest.approx(24.0)
    assert study._at(curve, 0.405) == pytest.approx(26.0)
    assert study._at(curve, 0.5) is None
    assert study._at(curve, None) is None


def test_from_cells_to_a_report(tmp_path, monkeypatch):
    sizes = {"trellis": (8, 40), "rvq": (2,)}
    few = {name: training.ARMS[name]._replace(sizes=own) for name, own in sizes.items()}
    for module in (study, training):
        monkeypatch.setattr(module, "ARMS", few)
    monkeypatch.setattr(training, "FIT", 6)
    settings = STUDY.configure([], {}, ["seeds=1", "steps=8", "held_out=32"])
    run(STUDY, tmp_path / "run", settings, jobs=1)
    read = load(STUDY, tmp_path / "run")
    report.write(read)
    assert "Trellis, squares" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    # More bits, more PSNR; the rate is about the one that is held, and residual codebooks have 16 bits a token.
    low, high = (read.table.interval("psnr", code="trellis", size=size).mean for size in (8, 40))
    assert low < high
    assert read.table.interval("bpp_nominal", code="rvq", size=2).mean == pytest.approx(16 / 64)
    assert 0.5 < read.table.interval("bpp", code="trellis-squares", size=40).mean / (40 / 64) < 1.5
    lead = read.table.interval("nominal_lead_trellis", code="rvq", size=2).mean
    peer = read.table.interval("psnr", code="rvq", size=2).mean
    assert low - 0.01 < lead + peer < high + 0.01
