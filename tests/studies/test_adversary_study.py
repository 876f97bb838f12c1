"""The adversary study: all arms begin from one decoder on one set of codes, and a run from cells to a report."""

from copy import deepcopy

import pytest
import torch

from codebound.errors import InputError
from codebound.quantize import FSQ
from codebound.reporting.statistics import mean_interval
from codebound.studies.adversary import measure
from codebound.studies.adversary.study import END, STUDY, _lower
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.tokenizers import ImageTokenizer

TINY = [
    "seeds=2", "base_steps=4", "steps=6", "points=2", "width=8", "depth=1", "discriminator_width=4", "pictures=24",
    "batch_size=8", "crop=16", "init_tokens=256", "codebook_size=16", "features=[pixels]", "begin=0.0", "ramp=0.0",
    "decoder_lr=0.03",
]  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 0.8])
def test_an_arm_moves_the_decoder_alone(weight):
    settings = STUDY.configure([], {}, TINY)
    images = measure.pictures(settings)
    tokenizer = measure.trained_tokenizer(
        settings, images, settings.codebook_size, settings.base_steps, seed=0
    )
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


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("weights=[0.2]", "weights.*0, which the others are compared with"),
        ("weights=[0, -1]", "weights.*numbers ≥ 0"),
        ("weights=[0, .inf]", "weights.*numbers ≥ 0"),
        ("weights=[0, 0.2, 0.2]", "weights.*each once"),
        ("features=[]", "features.*effnet and pixels"),
        ("features=[pixels, pixels]", "features.*effnet and pixels"),
    ],
)
def test_settings_that_can_not_be_compared_are_refused_at_once(given, says):
    with pytest.raises(InputError, match=says):
        STUDY.configure([], {}, [given])


def test_features_that_are_not_installed_are_refused_before_training(monkeypatch):
    monkeypatch.setattr(measure, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="extra 'perceptual'"):
        STUDY.prepare(STUDY.configure([], {}, [*TINY, "features=[effnet]"]))


@pytest.mark.parametrize("weight", [0.0, 0.8])
def test_pictures_of_an_arm_are_augmented_as_those_of_its_tokenizer(weight):
    settings = STUDY.configure([], {}, [*TINY, "flip=0.5", "shift=2"])
    images = measure.pictures(settings)
    tokenizer = ImageTokenizer(FSQ((4, 3)), channels=3, width=8, depth=0, stride=8)
    own = measure.task_of(tokenizer, images, settings, weight, 0).settings
    assert (own.flip, own.shift, own.turn, own.recolour) == (0.5, 2, 0.0, 0.0)


@pytest.mark.parametrize(
    ("values", "says"), [([12.0, 14.0], "13 % [0, 26] lower"), ([-12.0, -14.0], "13 % [0, 26] higher")]
)
def test_a_worse_arm_is_said_to_be_higher(values, says):
    assert _lower(mean_interval(values), "{:.0f}", "%") == says
