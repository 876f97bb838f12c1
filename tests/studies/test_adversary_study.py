"""The adversary study: all arms begin from one decoder on one set of codes, and a run from cells to a report."""

from copy import deepcopy

import pytest
import torch

from codebound.errors import InputError
from codebound.studies.adversary import measure
from codebound.studies.adversary.study import END, STUDY
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run

TINY = [
    "seeds=2", "base_steps=4", "steps=6", "points=2", "width=8", "depth=1", "discriminator_width=4", "pictures=24",
    "batch_size=8", "crop=16", "init_tokens=256", "codebook_size=16", "features=[pixels]", "begin=0.0", "ramp=0.0",
    "decoder_lr=0.03",
]  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 0.8])
def test_an_arm_moves_the_decoder_alone(weight):
    settings = STUDY.configure([], {}, TINY)
    images = measure.pictures(settings)
    tokenizer = measure.trained_tokenizer(settings, images, seed=0)
    own = deepcopy(tokenizer)
    codes = tokenizer.encode(images.held_out)
    curve, skipped, _ = measure._trained(
        measure.task_of(own, images, settings, weight, 0), settings, 0, lambda: {"psnr": 0.0}
    )
    assert skipped == 0
    assert [point["step"] for point in curve] == [0, 3, 6]
    assert torch.equal(own.encode(images.held_out), codes)
    before = tokenizer.state_dict()
    changed = {n.split(".")[0] for n, value in own.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"decoder"}


def test_from_cells_to_a_report(tmp_path):
    run(STUDY, tmp_path / "run", STUDY.configure([], {}, TINY), jobs=1)
    read = load(STUDY, tmp_path / "run")
    page = report.write(read).read_text(encoding="utf-8")
    assert "squared error alone" in page
    assert (tmp_path / "run" / "pictures" / "1.png").exists()

    # Arms of a seed begin from the same decoder and end apart.
    for seed in (0, 1):
        starts = [read.table.values("psnr", weight=w, step=0, space=None)[seed] for w in (0.0, 0.2, 0.8)]
        assert len(set(starts)) == 1
    ends = [read.table.values("psnr", weight=w, when=END, space=None)[0] for w in (0.0, 0.2, 0.8)]
    assert len(set(ends)) == 3

    # What stands beside squared error alone is that of the same seed.
    plain, other = (read.table.values("kernel", weight=w, when=END, space="pixels")[1] for w in (0.0, 0.8))
    below = read.table.values("below", weight=0.8, when=END, space="pixels")[1]
    assert below == pytest.approx(100 * (1 - other / plain))
    lost = read.table.values("lost", weight=0.8, when=END, space=None)[0]
    assert lost == pytest.approx(ends[0] - ends[2])
    assert not read.table.values("lost", weight=0.0, when=END)


def test_squared_error_alone_must_be_among_the_weights():
    with pytest.raises(InputError, match=r"weights=\[0\.2\]: 0, which the others"):
        STUDY.prepare(STUDY.configure([], {}, ["weights=[0.2]"]))
