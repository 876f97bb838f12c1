"""The utilisation study: cells, resumption, summary, what it says, and its page."""

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
from codebound.reporting.claims import Status
from codebound.runs import settings as runs
from codebound.studies.utilisation import arms, report, study, summary
from codebound.studies.utilisation.findings import findings
from codebound.studies.utilisation.settings import QUICK, Settings

TINY = {
    "arms": ["vq-ema", "vq-ema-norevival", "ba", "fsq"], "sizes": [32], "seeds": 2, "bad_start_size": 32,
    "bad_start_arms": ["vq-ema", "ba"], "large_sizes": [64], "large_arms": ["vq-ema"], "huge_sizes": [],
    "fewer_seeds": 1, "dim": 4, "width": 8, "depth": 1, "crop": 16, "steps": 4, "batch_size": 4, "held_out": 64,
    "init_tokens": 256, "evaluations": 2,
}  # fmt: skip


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("utilisation") / "run"
    study.run(folder, Settings(**TINY))
    return folder


def synthetic(tmp_path: Path, **more: object) -> summary.StudyData:
    """A run whose figures are made up: PSNR rises with K, BA is 0.5 dB above EMA, FSQ 1 dB below and full."""
    settings = Settings(
        **{"arms": ["vq-ema", "vq-ema-norevival", "ba", "fsq"], "sizes": [256, 512], "large_sizes": [4096, 16384],
           "large_arms": ["vq-ema", "fsq"], "huge_sizes": [], "bad_start_size": None, **more}
    )  # fmt: skip
    cells: dict = {}
    for cell in study.cells(settings):
        shift = {"ba": 0.5, "fsq": -1.0}.get(cell.arm, 0.0)
        usage = {"fsq": 0.99, "vq-ema-norevival": 0.115}.get(cell.arm, 0.9) + 0.001 * cell.seed
        final = dict.fromkeys(summary.FIGURES, 1.0) | {
            "psnr": 20 + np.log2(cell.codebook_size) / 10 + shift + 0.01 * cell.seed, "usage": usage,
            "tokens": 327680.0,
        }  # fmt: skip
        content = {"final": final, "curve": [{**final, "step": 0}], "cell_seconds": 1.0}
        cells.setdefault((cell.arm, cell.codebook_size, cell.start), {})[cell.seed] = content
    return summary.StudyData(tmp_path, settings, {}, cells, [])


def test_the_full_study_has_the_cells_that_were_asked_for() -> None:
    found = study.cells(Settings())
    assert len(found) == len(set(found))
    by_size = {
        size: [c for c in found if c.codebook_size == size and c.start == "kmeans"]
        for size in (512, 4096, 65536)
    }
    assert {c.arm for c in by_size[512]} == set(arms.ARMS)
    assert {c.seed for c in by_size[512]} == {0, 1, 2, 3, 4}
    assert (len({c.arm for c in by_size[4096]}), len({c.seed for c in by_size[4096]})) == (6, 3)
    assert "ba" in {c.arm for c in found if c.codebook_size == 16384}
    assert {c.arm for c in by_size[65536]} == {"vq-ema", "rotation", "simvq", "fsq"}
    tokens = Settings().held_out * (Settings().crop // Settings().stride) ** 2
    assert tokens >= 5 * 65536
    assert len(study.cells(Settings(**QUICK))) < 20


def test_arms_of_a_seed_share_weights_and_crops() -> None:
    settings = Settings(**TINY)
    images = open_images("photos", runs.picture_request(settings.run(32, 0)))
    built = {}
    for arm in ("vq-ema", "ba"):
        torch.manual_seed(1)
        own = settings.run(32, 1)
        quantizer = arms.build(arm, "kmeans", runs.quantizer_request(own, 4, images))
        from codebound.tokenizers import ImageTokenizer

        built[arm] = ImageTokenizer(quantizer, width=8, depth=1)
    for name, one in built["vq-ema"].encoder.named_parameters():
        assert torch.equal(one, dict(built["ba"].encoder.named_parameters())[name])


def test_a_bad_start_does_not_look_at_the_data_and_fsq_has_none() -> None:
    settings = Settings(**TINY)
    images = open_images("photos", runs.picture_request(settings.run(32, 0)))
    request = runs.quantizer_request(settings.run(32, 0), 4, images)
    assert arms.build("vq-ema", "bad", request).init == Normal(std=1.0)
    with pytest.raises(InputError, match="no bad start"):
        arms.build("fsq", "bad", request)
    documents = arms.build("ba-documents", "kmeans", request)
    assert (documents.assign.start, documents.assign.end, documents.assign.scaled) == (0.5, 3.0, False)


def test_a_finished_cell_is_not_computed_again_and_a_lost_one_comes_out_the_same(
    finished: Path, monkeypatch
) -> None:
    settings = Settings(**TINY)
    name = "ba-32-kmeans-1"
    file = finished / "cells" / f"{name}.json"
    before = json.loads(file.read_text())
    file.unlink()
    assert summary.load(finished).missing == [name]
    computed = []
    train_cell = study.train_cell
    monkeypatch.setattr(study, "train_cell", lambda s, c: computed.append(c) or train_cell(s, c))
    study.run(finished, settings)
    assert [cell.name for cell in computed] == [name]
    after = json.loads(file.read_text())
    assert {k: v for k, v in after.items() if k != "cell_seconds"} == {
        k: v for k, v in before.items() if k != "cell_seconds"
    }
    assert [point["step"] for point in after["curve"]] == [0, 2, 4]


def test_the_page_and_the_tables(finished: Path) -> None:
    code, out, err = call("study", "report", str(finished), "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results["complete"]
    row = next(
        r for r in results["rows"] if (r["arm"], r["codebook_size"], r["start"]) == ("vq-ema", 32, "kmeans")
    )
    psnr = [
        json.loads(p.read_text())["final"]["psnr"]
        for p in sorted((finished / "cells").glob("vq-ema-32-kmeans-*"))
    ]
    assert row["figures"]["psnr"]["mean"] == pytest.approx(np.mean(psnr))
    text = (finished / "report.html").read_text(encoding="utf-8")
    assert "from a bad start" in text
    for tag in ("figure", "table", "details", "main", "ul"):
        assert text.count(f"<{tag}") == text.count(f"</{tag}>")
    code, out, _ = call("study", "report", str(finished))
    assert code == 0
    assert "EMA, no revival" in out


def test_what_it_says_is_what_the_figures_are(tmp_path: Path) -> None:
    data = synthetic(tmp_path)
    rows = summary.summarise(data)
    ba = next(r for r in rows if (r.arm, r.codebook_size) == ("ba", 512))
    assert ba.psnr_gain is not None
    assert ba.psnr_gain.mean == pytest.approx(0.5)
    wins, _, order, scale = findings(data, rows)
    assert "higher PSNR in 2, the lower in 0; 0 are undecided" in wins.text
    assert any("highest PSNR BA, scaled slope, γ = 1, highest usage FSQ" in item for item in order.items)
    assert "is met at K = 16,384" in scale.text
    assert any("FSQ, K = 16,384: usage 99.1" in i and "meets the bar" in i for i in scale.items)
    assert any("EMA, K = 16,384: usage 90.1" in i and "does not meet it" in i for i in scale.items)


def test_claims_are_judged_by_the_figures(tmp_path: Path) -> None:
    data = synthetic(tmp_path, large_arms=["vq-ema", "vq-ema-norevival", "fsq"])
    status = {v.id: v.status for v in report.judge(data)}
    assert status["B-collapse/codebook_size=16384,start=kmeans/usage"] is Status.CONFIRMED
    assert status["B5-usage-ema/codebook_size=512,start=kmeans/usage"] is Status.REFUTED
    assert status["B6-usage/codebook_size=16384,start=kmeans/usage"] is Status.REFUTED
    assert status["B6-usage-fsq/codebook_size=16384,start=kmeans/usage"] is Status.CONFIRMED
    assert status["B6-usage/codebook_size=65536,start=kmeans/usage"] is Status.NOT_TESTABLE
    assert status["B5-absolute"] is Status.NOT_TESTABLE


def test_even_usage_is_that_of_throwing_balls_into_bins() -> None:
    generator = np.random.default_rng(0)
    seen = [len(np.unique(generator.integers(0, 100, 250))) / 100 for _ in range(400)]
    assert summary.even_usage(100, 250) == pytest.approx(np.mean(seen), abs=0.005)


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
    code, _, err = call(
        "study", "utilisation", "--out", str(tmp_path / "run"), "--set", setting, "--jobs", "1"
    )
    assert code == 2
    assert message in err
    assert "\n" not in err.strip()
    assert not (tmp_path / "run").exists()


def test_the_gain_at_equal_rate_is_read_off_the_baselines_own_curve(tmp_path) -> None:
    data = synthetic(tmp_path)
    rates = {256: 0.4, 512: 0.5, 4096: 0.7, 16384: 0.8}
    for (arm, size, _), by_seed in data.cells.items():
        for cell in by_seed.values():
            cell["final"]["bpp_entropy"] = rates[size] - (0.05 if arm == "ba" else 0.0)
    rows = {(row.arm, row.codebook_size): row for row in summary.summarise(data)}
    assert rows["vq-ema", 512].rate_gain is None  # the curve itself
    assert rows["ba", 256].rate_gain is None  # its rate is below the curve
    at_512 = rows["ba", 512].rate_gain
    assert at_512 is not None
    # Half way between K = 256 and 512 the baseline has 0.05 dB less than at 512; BA has 0.5 more.
    assert at_512.mean == pytest.approx(0.55)
    assert rows["vq-ema-norevival", 512].plain_gain is None
    assert "And at equal rate?" in [f.title for f in findings(data, summary.summarise(data))]


def test_the_documents_blahut_arimoto_does_not_revive() -> None:
    request = runs.quantizer_request(
        Settings().run(64, 0), 10, open_images("photos", runs.picture_request(Settings(**TINY).run(32, 0)))
    )
    assert arms.build("ba-documents", "kmeans", request).revival == Never()
    assert arms.build("ba-norevival", "kmeans", request).revival == Never()
    assert arms.build("ba", "kmeans", request).revival != Never()
