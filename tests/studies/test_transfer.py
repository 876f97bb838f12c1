"""The transfer study: its pictures, what a refit changes and leaves, and a run from cells to a report."""

import pytest
import torch

from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.transfer import measure
from codebound.studies.transfer.domains import SIDE, letters, spectrograms
from codebound.studies.transfer.study import AS_IT_IS, EVERY, STUDY

TINY = [
    "seeds=2", "domains=[letters, spectrograms]", "steps=4", "refit_steps=3", "refit_pictures=32", "width=8",
    "held_out=32", "pictures=64", "batch_size=16", "init_tokens=512", "codebook_size=16",
]  # fmt: skip


@pytest.mark.parametrize("make", [letters, spectrograms])
def test_pictures_are_of_the_seed_and_show_something(make):
    pictures, again, others = make(64, 10), make(64, 10), make(64, 11)
    assert pictures.shape == (64, 1, SIDE, SIDE)
    assert torch.equal(pictures, again)
    assert not torch.equal(pictures, others)
    assert (pictures.flatten(1).float().std(1) > 10).all()


def test_spectrograms_are_in_decibels_below_their_loudest_point():
    pictures = spectrograms(16, 3).float()
    assert (pictures.amax((1, 2, 3)) == 255).all()
    assert pictures.mean() < 128  # most of a picture is more than 30 dB below


def test_refits_leave_what_they_should(monkeypatch):
    settings = STUDY.configure([], {}, TINY)
    source, target = (measure.pictures(settings, name) for name in settings.domains)
    tokenizer = measure.trained(settings, source, seed=0)
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    kept = {}
    figures = measure.figures
    monkeypatch.setattr(
        measure, "figures", lambda one, images: kept.setdefault(len(kept), one) and figures(one, images)
    )
    found = measure.refits(tokenizer, target, settings, seed=0)
    assert list(found) == ["codebook", "decoder", "codebook and decoder", "everything"]

    # The tokenizer itself is as it was; of each refit only its parts have moved.
    parts = {"codebook": {"quantizer"}, "decoder": {"decoder"}, "codebook and decoder": {"quantizer", "decoder"},
             "everything": {"encoder", "quantizer", "decoder"}}  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in tokenizer.state_dict().items())
    for moved, one in zip(parts.values(), kept.values(), strict=True):
        changed = {
            n.split(".")[0] for n, value in one.state_dict().items() if not torch.equal(value, before[n])
        }
        assert changed == moved


def test_from_cells_to_a_report(tmp_path):
    run(STUDY, tmp_path / "run", STUDY.configure([], {}, TINY), jobs=1)
    read = load(STUDY, tmp_path / "run")
    page = report.write(read).read_text(encoding="utf-8")
    assert "spectrograms" in page
    assert "Fashion" in page

    # Short of the target's own tokenizer of the same seed; the mean over pairs is that of both sources.
    cells = {(c.cell["source"], c.cell["seed"]): c["targets"] for c in read.cells.values()}
    own = cells["spectrograms", 1]["spectrograms"][AS_IT_IS]["psnr"]
    short = own - cells["letters", 1]["spectrograms"][AS_IT_IS]["psnr"]
    values = read.table.values("short", source="letters", target="spectrograms", refit=AS_IT_IS)
    assert values[1] == pytest.approx(short)
    each = [
        read.table.values("short", source=s, target=EVERY, refit="decoder")[1]
        for s in ("letters", "spectrograms")
    ]
    every = read.table.values("short", source="all", target=EVERY, refit="decoder")[1]
    assert every == pytest.approx(sum(each) / 2)
    assert "made good by: codebook" in read.content.answer
