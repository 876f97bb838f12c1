"""The study of sound designs: codes of equal bits, arms from equal codes, and a run from cells to a report."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from codebound import config
from codebound.data.sound_pack import PACK
from codebound.errors import InputError
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.sound_design.codes import KNOWN, Grid, adaptive_bits, codes_of, dealt, grid_of
from codebound.studies.sound_design.measure import arm, fitted, measure_loss
from codebound.studies.sound_design.settings import LOSSES, Settings
from codebound.studies.sound_design.study import NAMES, STUDY

TINY = [
    f"data=folder:{PACK}", "seeds=2", "bits=[6,8]", "codebook_size=16", "stages=2", "dim=16", "hop=320", "steps=3",
    "losses=[complex,stft-period,seanet]", "batch_size=2", "seconds=0.4", "fit_frames=600", "iterations=2", "clips=1",
    "width=8", "hidden=8", "blocks=1", "channels=2", "listeners=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    sigma = 2.0 ** -np.arange(8)
    return (np.random.default_rng(0).laplace(size=(3000, 8)) * sigma).astype(np.float32)


@pytest.mark.parametrize("bits", [6, 8])
def test_codes_spend_equal_bits(z: np.ndarray, bits: int) -> None:
    found = codes_of(bits, 16, z, 4, seed=0)
    assert list(found) == ["residual", "product", "fsq", "table"]
    errors = {}
    for name, code in found.items():
        indices = code.encode(z)
        assert indices.shape == (len(z), len(code.sizes))
        assert all(
            column.min() >= 0 and column.max() < k for column, k in zip(indices.T, code.sizes, strict=True)
        )
        nominal = math.log2(math.prod(code.sizes))
        assert nominal <= bits + 1e-9
        assert nominal == bits or name == "fsq"
        errors[name] = float(np.square(z - code.decode(indices)).mean())
    assert max(errors.values()) < np.square(z).mean() / 2
    assert errors["table"] == min(errors.values())


def test_a_grid_is_the_best_of_its_axis() -> None:
    """One bit for a fair coin: two levels, at the coin's two values."""
    z = np.random.default_rng(0).choice([-1.0, 1.0], size=(1000, 1)).astype(np.float32)
    grid = grid_of(1, np.concatenate([z, 0.01 * z], axis=1))
    assert grid.levels.tolist() == [2, 1]
    assert grid.sizes == (2,)
    assert np.abs(np.abs(grid.decode(grid.encode(np.concatenate([z, z], axis=1)))[:, 0]) - 1).max() < 0.1
    three = Grid(np.array([3]), np.array([0.5]))
    assert three.encode(np.array([[9.0], [0.1], [-9]], dtype=np.float32)).tolist() == [[2], [1], [0]]


def test_axes_are_dealt_to_parts_of_equal_weight() -> None:
    order = dealt(2.0 ** -np.arange(8), 2)
    assert sorted(order) == list(range(8))
    assert abs(sum(order[:4]) - sum(order[4:])) <= 1


def test_adaptive_counts_follow_a_recording() -> None:
    """Frequencies that hold cost their entropy; an index that never was in training becomes cheap while it comes."""
    rng = np.random.default_rng(0)
    train = rng.choice(4, size=(100_000, 1), p=[0.5, 0.25, 0.125, 0.125])
    held_out = rng.choice(4, size=(4000, 1), p=[0.5, 0.25, 0.125, 0.125])
    assert adaptive_bits(train, [held_out], [4]) == pytest.approx(1.75, abs=0.03)
    zeros, ones = np.zeros((100_000, 1), dtype=np.int64), np.ones((1000, 1), dtype=np.int64)
    expected = (math.lgamma(KNOWN + 1000) - math.lgamma(KNOWN)) / math.log(2) / 1000
    prior = KNOWN * 1 / 100_002
    expected -= (math.lgamma(prior + 1000) - math.lgamma(prior)) / math.log(2) / 1000
    assert adaptive_bits(zeros, [ones], [2]) == pytest.approx(expected, rel=1e-9)


def test_arms_of_a_seed_begin_from_one_code() -> None:
    settings = STUDY.configure([], {}, TINY)
    assert fitted(settings, 0)[1] is fitted(settings, 0)[1]
    one, other = (measure_loss(settings, 0, loss) for loss in ("complex", "stft-period"))
    assert one["before"] == other["before"]
    assert one["after"] != other["after"]
    assert all(arm(settings, 0, loss).steps == 3 for loss in LOSSES)
    assert arm(settings, 0, "stft-period").discriminators == ("stft", "period")


def test_from_cells_to_a_report(tmp_path: Path) -> None:
    run(STUDY, tmp_path / "run", STUDY.configure([], {}, TINY), jobs=1)
    read = load(STUDY, tmp_path / "run")
    page = report.write(read).read_text(encoding="utf-8")
    assert all(name.partition("'")[0] in page for name in NAMES.values())
    table = read.table
    assert len(table.values("behind", code="product", bits=8)) == 2
    assert set(table.levels("arm")) == {"none", "complex", "stft-period", "seanet"}
    more = table.values("si_sdr_more", arm="complex")[0]
    gap = table.values("si_sdr", arm="complex")[0] - table.values("si_sdr", arm="none")[0]
    assert more == pytest.approx(gap)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["answer"].startswith("At 8 bits a frame residual codebooks are nearer")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bits": (), "losses": ()}, "something to compare"),
        ({"codebook_size": 100}, "powers of two"),
        ({"hop": 160}, "with the arm seanet 320"),
        ({"losses": ("loud",)}, "losses"),
    ],
)
def test_settings_that_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        config.build(Settings, wrong)
