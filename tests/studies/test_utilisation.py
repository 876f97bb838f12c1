"""The utilisation study: its cells, arms, numbers and what it says of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from codebound.cli import app
from codebound.data.image_sources import open_images
from codebound.errors import InputError
from codebound.quantize.init import Normal
from codebound.quantize.revival import Never
from codebound.recipes.named import QuantizerRequest
from codebound.reporting.claims import Status
from codebound.runs import settings as runs
from codebound.studies.framework import report
from codebound.studies.framework.cells import Cell
from codebound.studies.framework.results import FinishedCell, StudyRun, load
from codebound.studies.framework.run import run
from codebound.studies.utilisation import arms, summary, training
from codebound.studies.utilisation.findings import answer, findings
from codebound.studies.utilisation.settings import Settings
from codebound.studies.utilisation.study import STUDY

TINY = {
    "arms": ["vq-ema", "vq-ema-norevival", "ba", "fsq"], "sizes": [32], "seeds": 2, "bad_start_size": 32,
    "bad_start_arms": ["vq-ema"], "large_sizes": [64], "large_arms": ["vq-ema"], "huge_sizes": [],
    "fewer_seeds": 1, "dim": 4, "width": 8, "depth": 1, "crop": 16, "steps": 4, "batch_size": 4, "held_out": 64,
    "init_tokens": 256, "evaluations": 2,
}  # fmt: skip
REQUEST = QuantizerRequest(codebook_size=64, dim=4, depth=1, commitment=0.25, steps=10, tokens=10_000, seed=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("utilisation") / "run"
    run(STUDY, folder, Settings(**TINY))
    return folder


def made_up(**more: object) -> StudyRun[Settings]:
    """A run whose figures are made up: PSNR rises with K, BA is 0.5 dB above EMA, FSQ 1 dB below and full."""
    settings = Settings(
        **{"arms": ["vq-ema", "vq-ema-norevival", "ba", "fsq"], "sizes": [256, 512], "large_sizes": [4096, 16384],
           "large_arms": ["vq-ema", "fsq"], "huge_sizes": [], "bad_start_size": None, **more}
    )  # fmt: skip
    rates = {256: 0.4, 512: 0.5, 4096: 0.7, 16384: 0.8}
    cells = {}
    for cell in STUDY.cells(settings):
        arm, size, seed = cell["arm"], cell["codebook_size"], cell["seed"]
        shift = {"ba": 0.5, "fsq": -1.0}.get(arm, 0.0)
        final = dict.fromkeys([metric.name for metric in summary.FIGURES], 1.0) | {
            "psnr": 20 + np.log2(size) / 10 + shift + 0.01 * seed,
            "usage": {"fsq": 0.99, "vq-ema-norevival": 0.115}.get(arm, 0.9) + 0.001 * seed,
            "bpp_entropy": rates[size] - (0.05 if arm == "ba" else 0.0),
            "tokens": 327680.0,
        }
        content = {"final": final, "curve": [{**final, "step": 0}], "cell_seconds": 1.0}
        cells[cell.name] = FinishedCell(cell, Path(f"{cell.name}.json"), content)
    return StudyRun(STUDY, Path("made-up"), {}, settings, cells, ())


def test_the_full_study_has_the_cells_that_were_asked_for() -> None:
    cells = STUDY.cells(Settings())
    by_size = {
        size: [c for c in cells if c["codebook_size"] == size and c["start"] == "kmeans"]
        for size in (512, 4096, 16384, 65536)
    }
    assert {c["arm"] for c in by_size[512]} == set(arms.ARMS)
    assert {c["seed"] for c in by_size[512]} == {0, 1, 2, 3, 4}
    assert (len({c["arm"] for c in by_size[4096]}), len({c["seed"] for c in by_size[4096]})) == (7, 3)
    assert "ba" in {c["arm"] for c in by_size[16384]}
    assert {c["arm"] for c in by_size[65536]} == {"vq-ema", "rotation", "simvq", "fsq"}
    tokens = Settings().held_out * (Settings().crop // Settings().stride) ** 2
    assert tokens >= 5 * 65536
    assert len(STUDY.cells(STUDY.configure(["quick"], {}))) < 20


def test_a_training_has_the_settings_of_the_study() -> None:
    own = Settings(steps=7, lr=0.01, recolour=0.5, memory=5).training(64, 3)
    assert (own.codebook_size, own.seed, own.steps, own.lr) == (64, 3, 7, 0.01)
    assert (own.recolour, own.memory, own.width) == (0.5, 5, 32)


def test_arms_of_a_seed_share_weights() -> None:
    own = Settings(**TINY).training(32, 1)
    images = open_images("photos", runs.picture_request(own))
    built = {}
    for arm in ("vq-ema", "ba"):
        torch.manual_seed(1)
        built[arm] = runs.around(arms.build(arm, "kmeans", REQUEST), own, images)
    for name, one in built["vq-ema"].encoder.named_parameters():
        assert torch.equal(one, dict(built["ba"].encoder.named_parameters())[name])


def test_arms_are_what_their_names_say() -> None:
    assert arms.build("vq-ema", "bad", REQUEST).init == Normal(std=1.0)
    with pytest.raises(InputError, match="no bad start"):
        Settings(bad_start_arms=["fsq"])
    proposed = arms.build("ba-documents", "kmeans", REQUEST)
    assert (proposed.assign.start, proposed.assign.end, proposed.assign.scaled) == (0.5, 3.0, False)
    assert proposed.revival == arms.build("ba-norevival", "kmeans", REQUEST).revival == Never()
    assert arms.build("ba", "kmeans", REQUEST).revival != Never()


def test_a_cell_is_a_pure_function_and_its_curve_ends_with_its_final_figures(finished: Path) -> None:
    cell = Cell("", {"arm": "ba", "codebook_size": 32, "start": "kmeans", "seed": 1})
    again = training.train(Settings(**TINY), cell)
    recorded = json.loads((finished / "cells" / "ba-32-kmeans-1.json").read_text())
    assert json.loads(json.dumps(again)) == {name: recorded[name] for name in again}
    assert [point["step"] for point in again["curve"]] == [0, 2, 4]
    assert again["curve"][-1] == again["final"]
    assert 0 < again["final"]["usage_training"] <= 1


def test_rows_are_means_over_the_cells(finished: Path) -> None:
    loaded = load(STUDY, finished)
    report.write(loaded)
    results = json.loads((finished / "results.json").read_text())
    keys = [(row["codebook_size"], row["start"], row["arm"]) for row in results["rows"]]
    small = [(32, "kmeans", arm) for arm in TINY["arms"]]
    assert keys == [*small, (32, "bad", "vq-ema"), (64, "kmeans", "vq-ema")]
    psnr = [loaded.cells[f"vq-ema-32-kmeans-{seed}"]["final"]["psnr"] for seed in (0, 1)]
    assert results["rows"][0]["figures"]["psnr"]["mean"] == pytest.approx(np.mean(psnr))
    assert results["rows"][0]["seeds"] == 2
    assert sorted(path.stem for path in (finished / "figures").iterdir()) == ["curves", "rate", "sizes"]


def test_what_it_says_is_what_the_figures_are() -> None:
    rows = summary.rows(made_up())
    soft, rate, order, scale = findings(rows)
    assert "higher in 2, lower in 0, undecided in 0 of 2 comparisons" in soft.text
    assert soft.items[1].startswith("BA, scaled, γ = 1, K = 512, from k-means: +0.50\u00a0dB")
    assert "In 0 of 2 comparisons" in order.text
    assert any("highest PSNR BA, scaled, γ = 1, highest usage FSQ" in item for item in order.items)
    assert "is met at K = 16,384" in scale.text
    usage = {"FSQ": "usage 99.1\u00a0%", "EMA": "usage 90.1\u00a0%"}
    bar = {item.split(",")[0]: item for item in scale.items}
    assert usage["FSQ"] in bar["FSQ"]
    assert bar["FSQ"].endswith("meets the bar")
    assert usage["EMA"] in bar["EMA"]
    assert bar["EMA"].endswith("does not meet it")
    said = answer(rows)
    assert "uses 90.2\u00a0% of its codewords" in said
    assert "11.7\u00a0% where they are not; revival leaves PSNR undecided, +0.00\u00a0dB" in said
    assert "From 256 to 16,384 codewords" in said
    assert "changes PSNR by +0.60\u00a0dB" in said
    assert rate.title == "And at equal rate?"


def test_the_gain_at_equal_rate_is_read_off_the_baselines_own_curve() -> None:
    rows = {(row.arm, row.codebook_size): row for row in summary.rows(made_up())}
    assert rows["vq-ema", 512].to_json()[summary.GAIN_AT_RATE] is None  # the curve itself
    assert rows["ba", 256].to_json()[summary.GAIN_AT_RATE] is None  # its rate is below the curve
    # Half way between K = 256 and 512 the baseline has 0.05 dB less than at 512; BA has 0.5 more.
    assert rows["ba", 512].of(summary.GAIN_AT_RATE).mean == pytest.approx(0.55)
    assert rows["ba", 512].of(summary.GAIN).mean == pytest.approx(0.5)
    assert rows["vq-ema-norevival", 512].to_json()[summary.GAIN_PLAIN] is None


def test_claims_are_judged_by_the_figures() -> None:
    verdicts = made_up(large_arms=["vq-ema", "vq-ema-norevival", "fsq"]).verdicts
    status = {verdict.id: verdict.status for verdict in verdicts}
    assert status["use-collapse/codebook_size=16384,start=kmeans/usage"] is Status.CONFIRMED
    assert status["use-usage-ema/codebook_size=512,start=kmeans/usage"] is Status.REFUTED
    assert status["large-usage/codebook_size=16384,start=kmeans/usage"] is Status.REFUTED
    assert status["large-usage-fsq/codebook_size=16384,start=kmeans/usage"] is Status.CONFIRMED
    assert status["large-usage/codebook_size=65536,start=kmeans/usage"] is Status.NOT_TESTABLE
    assert status["use-absolute"] is Status.NOT_TESTABLE


def test_even_usage_is_that_of_throwing_balls_into_bins() -> None:
    generator = np.random.default_rng(0)
    usage = [len(np.unique(generator.integers(0, 100, 250))) / 100 for _ in range(400)]
    assert summary.even_usage(100, 250) == pytest.approx(np.mean(usage), abs=0.005)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("arms=[vq-ema, vq]", "unknown arm 'vq'"),
        ("arms=[ba]", "arms must include vq-ema"),
        ("steps=0", "setting steps=0"),
        ("sizes=[1]", "at least 2"),
        ("sizes=[1000000]", "latents"),
        ("armss=[ba]", "did you mean 'arms'"),
    ],
)
def test_what_is_refused_in_one_line(setting: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = CliRunner().invoke(
        app,
        ["study", "utilisation", "--out", str(folder), "--set", setting, "--jobs", "1"],
        env={"COLUMNS": "200"},
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert "\n" not in result.stderr.strip()
    assert not folder.exists()
