"""The compression study and the commands around files, with a small untrained model on small pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from codebound import Residual, VectorQuantizer, codec
from codebound.cli import app
from codebound.codec import tiles
from codebound.data.images import photographs
from codebound.metrics.rate_distortion import RateCurve, bd_rate
from codebound.priors.fitting import FitSettings, fit_prior
from codebound.studies.compression.comparison import compare
from codebound.studies.compression.study import STUDY, Settings
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.tokenizers import ImageTokenizer

SIZE = (48, 64)


def invoke(*arguments: str | Path) -> tuple[int, str]:
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    return found.exit_code, found.output


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, photo in enumerate(photographs("held_out")[:2]):
        Image.fromarray(photo.pixels[: SIZE[0], : SIZE[1]]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(
        Residual([VectorQuantizer(6, 16, seed=i) for i in range(2)]), width=8, depth=0, stride=8
    ).eval()
    tokenizer.quantizer.init_(tokenizer.latents(torch.rand(4, 3, 64, 64)).reshape(-1, 6))
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder)
    grid = tiles.encode(tokenizer, photographs("train")[0].pixels[:160, :160])
    fit_prior([grid], (16, 16), FitSettings(steps=5, width=4, hidden=4)).save(folder)
    return folder


def curve(shift: float, points: int = 5) -> RateCurve:
    """PSNR = 30 + 10·log10(rate) + shift."""
    rates = np.geomspace(0.05, 1, points)
    return RateCurve.of((float(r), float(30 + 10 * np.log10(r) + shift)) for r in rates)


def test_bd_rate_of_shifted_curves_is_the_shift() -> None:
    better, worse = curve(1.0), curve(0.0)
    assert bd_rate(better, worse) == pytest.approx(100 * (10**-0.1 - 1), abs=1e-6)
    assert bd_rate(worse, better) == pytest.approx(100 * (10**0.1 - 1), abs=1e-6)
    assert bd_rate(better, better) == pytest.approx(0.0, abs=1e-9)


def test_bd_rate_is_not_given_where_curves_do_not_overlap() -> None:
    assert bd_rate(curve(0.0), curve(12.5)) is None
    assert bd_rate(curve(0.0, points=1), curve(0.0)) is None


def test_quality_at_a_rate_is_not_extrapolated() -> None:
    found = curve(0.0)
    assert found.at(0.1) == pytest.approx(20.0, abs=0.01)
    assert found.at(0.04) is None
    assert found.at(1.1) is None
    assert RateCurve.of([(0.1, None), (0.2, None)]).at(0.1) is None
    assert RateCurve.of([(0.1, 3.0), (0.2, 4.0), (0.1, 2.0)]).at(0.1) == 3.0


def test_codecs_are_compared_on_the_pictures_where_both_have_the_rate() -> None:
    def picture(*codecs: tuple[str, float, float]) -> dict:
        points = [
            {"codec": codec, "bits_per_pixel": rate, "psnr": 30 + 10 * np.log10(rate) + shift, "ssim": None}
            | {"encode_s": 1.0, "decode_s": 2.0}
            for codec, least, shift in codecs
            for rate in (least, 0.2, 0.4, 0.8)
        ]
        return {"points": points}

    both, late = (picture(("codebound", 0.05, 1.0), ("jpeg", least, 0.0)) for least in (0.05, 0.15))
    ours, jpeg = compare([both, late], ["jpeg"], rate=0.1)
    assert (ours.psnr.n, jpeg.psnr.n, jpeg.our_gain_db.n, jpeg.bd_rate_percent.n) == (2, 1, 1, 2)
    assert jpeg.our_gain_db.mean == pytest.approx(1.0, abs=0.01)
    assert jpeg.our_gain_at_least_db.mean == pytest.approx(1.0, abs=0.01)
    assert jpeg.bd_rate_percent.mean == pytest.approx(100 * (10**-0.1 - 1), abs=0.1)
    assert jpeg.to_json()["ssim"] is None
    assert ours.to_json()["our_gain_db"] is None


@pytest.mark.slow
def test_a_study_of_two_pictures(pictures: Path, model: Path, tmp_path: Path) -> None:
    settings = Settings(data=str(pictures), model=str(model), codecs=("jpeg",), rate=1.0)
    run(STUDY, tmp_path / "run", settings)
    read = load(STUDY, tmp_path / "run")
    loaded = codec.load_model(model)
    for number in range(2):
        for quality in loaded.qualities:
            written = codec.compress(pictures / f"{number}.png", model=loaded, quality=quality)
            sizes = read.table.values("bytes", codec="tokens", quality=quality)
            assert sizes[number] == len(written)  # what counts is the file's size
        default = codec.compress(pictures / f"{number}.png", quality=36)
        assert read.table.values("bytes", codec="codebound", quality=36)[number] == len(default)
    for row in read.cells["ladder"]["rows"]:
        assert row["raw"] == 4.0
        assert row["network"] <= row["raw"] + 0.6
    report.write(read)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["codec"] for row in results["comparison"]] == [
        "codebound", "tokens", "jpeg",
    ]  # fmt: skip
    assert [picture["height"] for picture in results["pictures"]] == [SIZE[0]] * 2
    assert sorted(path.name for path in (tmp_path / "run" / "figures").iterdir()) == [
        "costs.png", "psnr.png", "ssim.png",
    ]  # fmt: skip


def test_unknown_codecs_and_folders_are_refused(tmp_path: Path) -> None:
    code, said = invoke("study", "compression", "--set", "codecs=[gif]", "--out", tmp_path / "a")
    assert code == 2
    assert "codecs" in said
    code, said = invoke("study", "compression", "--data", tmp_path / "none", "--out", tmp_path / "b")
    assert code == 2
    assert not (tmp_path / "b").exists()


def test_files_on_the_command_line(pictures: Path, model: Path, tmp_path: Path) -> None:
    code, said = invoke("compress", pictures, "--model", model, "--out", tmp_path / "small", "--json")
    assert code == 0, said
    rows = json.loads(said)
    assert [Path(row["file"]).name for row in rows] == ["0.cbd", "1.cbd"]
    assert all(Path(row["file"]).stat().st_size == row["bytes"] for row in rows)
    one = tmp_path / "small" / "0.cbd"
    code, said = invoke("info", one, "--json")
    assert code == 0
    found = json.loads(said)
    assert found["bytes"] == one.stat().st_size == found["overhead"] + found["grids"][0]["bytes"]
    assert found["picture"] == {"height": SIZE[0], "width": SIZE[1], "grey": False}
    assert found["model"] == codec.load_model(model).digest().hex()
    assert invoke("info", one)[0] == 0
    code, said = invoke("verify", tmp_path / "small", "--model", model)
    assert code == 0, said
    code, said = invoke("decompress", one, "--model", model, "--exact", "--out", tmp_path / "again.png")
    assert code == 0, said
    with Image.open(tmp_path / "again.png") as opened:
        assert opened.size == SIZE[::-1]
    exact = codec.decompress(one.read_bytes(), model=codec.load_model(model), exact=True)
    assert np.array_equal(np.array(Image.open(tmp_path / "again.png")), exact)


@pytest.mark.parametrize(
    ("quantizer", "weighs"), [pytest.param("rvq", True, marks=pytest.mark.slow), ("fsq", False)]
)
def test_a_prior_for_a_run(tmp_path: Path, quantizer: str, weighs: bool) -> None:
    """A run's tokenizer gets a prior, used in its files, and, where codewords are compared, a tradeoff."""
    folder, pictures = tmp_path / "run", tmp_path / "pictures"
    pictures.mkdir()
    for number, photo in enumerate(photographs("train")[:2]):
        Image.fromarray(photo.pixels[:160, :160]).save(pictures / f"{number}.png")
    small = [f"--set={s}" for s in ("crop=16", "stride=8", "width=8", "depth=0", "stages=2", "held_out=8")]
    small += [
        "--set=batch_size=8",
        "--set=init_tokens=64",
        "--set=warmup=1",
        "--set=linear=true",
        "--set=dim=6",
    ]
    what = ("--quantizer", quantizer, "--codebook-size", 25, "--steps", 3)
    code, said = invoke("train", "--data", f"folder:{pictures}", *what, *small, "--out", folder)
    assert code == 0, said
    code, said = invoke("fit-prior", folder, "--steps", 200, "--hidden", 16, "--json")
    assert code == 0, said
    assert (folder / "model" / "tradeoff.json").is_file() == weighs
    assert "## Prior" in (folder / "model" / "README.md").read_text(encoding="utf-8")
    model = codec.load_model(folder / "model")
    assert (model.tradeoff is not None) == weighs
    seen = pictures / "0.png"
    data = codec.compress(seen, model=model)
    assert "network" in codec.inspect(data).grids[0].modes
    assert len(data) <= len(codec.compress(seen, model=codec.Model(model.tokenizer)))
    assert codec.decompress(data, model=model).shape == (160, 160, 3)


def test_indices_on_the_command_line(model: Path, tmp_path: Path) -> None:
    indices = np.arange(30).reshape(5, 6, 1)
    (tmp_path / "grid.cbd").write_bytes(codec.compress_indices(indices, (30,)))
    code, said = invoke("decompress", tmp_path / "grid.cbd", "--model", model)
    assert code == 0, said
    assert np.array_equal(np.load(tmp_path / "grid.cbd.npy"), indices)
    several = [indices, indices[:2]]
    (tmp_path / "grids.cbd").write_bytes(codec.compress_grids(several, (30,)))
    code, said = invoke("decompress", tmp_path / "grids.cbd", "--model", model)
    assert code == 0, said
    with np.load(tmp_path / "grids.cbd.npz") as read:
        assert [np.array_equal(a, b) for a, b in zip(read.values(), several, strict=True)] == 2 * [True]


def test_refusals_on_the_command_line(pictures: Path, model: Path, tmp_path: Path) -> None:
    whole = codec.compress(pictures / "0.png", model=codec.load_model(model))
    (tmp_path / "good.cbd").write_bytes(whole)
    (tmp_path / "cut.cbd").write_bytes(whole[:-1])
    (tmp_path / "text.png").write_text("no picture")
    for arguments in (
        ("info", tmp_path / "cut.cbd"),
        ("verify", tmp_path / "cut.cbd", "--model", model),
        ("decompress", tmp_path / "cut.cbd", "--model", model),
        ("compress", tmp_path / "text.png", "--model", model),
        ("compress", tmp_path / "missing.png", "--model", model),
        ("compress", pictures / "0.png", "--model", model, "--quality", "3"),
        ("compress", pictures / "0.png", "--model", tmp_path),
        ("fit-prior", tmp_path),
    ):
        code, said = invoke(*arguments)
        assert code == 2, (arguments, said)
        assert "Traceback" not in said
    assert not (tmp_path / "cut.cbd.png").exists()
    code, said = invoke("verify", tmp_path, "--model", model)  # the good one is still checked
    assert code == 2
    assert "right" in said


def test_two_inputs_of_one_name_are_refused(pictures: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "0.png"
    other.write_bytes((pictures / "0.png").read_bytes())
    code, said = invoke("compress", pictures / "0.png", other, "--model", model, "--out", tmp_path / "out")
    assert code == 2
    assert "0.cbd" in said.replace("\n", "")
