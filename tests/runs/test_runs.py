"""Runs of the image tokenizer: the folder, the figures, the commands."""

import csv
import json
import math
import shutil
import signal
import sys
from collections import namedtuple
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from commands import call
from PIL import Image

from codebound import config
from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.data.image_sources import open_images
from codebound.data.images import photographs
from codebound.data.picture_request import PictureRequest
from codebound.engine import trainer
from codebound.errors import InputError
from codebound.evaluate import tokenizers as evaluation
from codebound.metrics.probe import linear_probe
from codebound.quantize import Trellis, VectorQuantizer, to_spec
from codebound.recipes import named as quantizers
from codebound.runs import labels
from codebound.runs import settings as settings_module
from codebound.runs.settings import Settings
from codebound.tokenizers import ImageTokenizer

TINY = {
    "codebook_size": 16, "dim": 4, "width": 8, "depth": 1, "crop": 16, "steps": 12, "batch_size": 4, "held_out": 64,
    "init_tokens": 256, "log_every": 2, "evaluate_every": 6, "checkpoint_every": 4, "warmup": 2, "seed": 3,
}  # fmt: skip


def train(folder: Path, *arguments: str, **more: object) -> tuple[int, str, str]:
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump({**TINY, **more}))
    return call("train", str(file), "--out", str(folder), *arguments)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> str:
    """A few small pictures: their runs are judged in no time."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, photograph in enumerate(photographs("train")[:4]):
        Image.fromarray(photograph.pixels[100:140, 100:160]).save(folder / f"{i}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    code, out, err = train(folder)
    assert code == 0, err
    assert "Report:" in out
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory, pictures: str) -> Path:
    """A finished run on the small pictures."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    code, _, err = train(folder, data=pictures)
    assert code == 0, err
    return folder


@pytest.mark.slow
def test_the_folder_holds_what_a_run_is(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.yaml", "study.json", "metrics.jsonl", "metrics.csv", "checkpoints", "model", "final_metrics.json",
        "samples.png", "report.html", "code_counts.json",
    }  # fmt: skip
    settings = config.from_yaml(Settings, run / "config.yaml")
    assert settings == Settings(**TINY)
    study = json.loads((run / "study.json").read_text())
    assert study["fingerprint"] == config.fingerprint(settings)
    assert (
        study["identity"]["data"] == open_images("photos", settings_module.picture_request(settings)).digest
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    table = list(csv.DictReader((run / "metrics.csv").open()))
    assert [int(row["step"]) for row in table] == [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10, 12]
    assert float(table[-1]["psnr"]) == rows[-1]["psnr"]
    assert Image.open(run / "samples.png").size[0] > 500


def test_the_saved_model_has_the_figures_that_were_saved(run: Path) -> None:
    final = json.loads((run / "final_metrics.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert final["held_out"]["psnr"] == rows[-1]["psnr"]  # the averaged weights were judged and saved
    code, out, _ = call("eval", str(run), "--json")
    assert code == 0
    again = json.loads(out)
    for part in ("held_out", "whole"):
        assert again[part] == pytest.approx(final[part], nan_ok=True)
    counts = json.loads((run / "code_counts.json").read_text())
    assert sum(counts[0]) == final["held_out"]["tokens"] == 64 * 16
    assert np.mean(np.array(counts[0]) > 0) == final["held_out"]["usage"]


def test_figures_by_hand(run: Path) -> None:
    tokenizer = ImageTokenizer.from_pretrained(run / "model")
    images = open_images("photos", settings_module.picture_request(Settings(**TINY))).held_out
    found = evaluation.held_out_figures(tokenizer, images)
    again = (tokenizer.decode(tokenizer.encode(images)).double() * 255).round()
    assert found["psnr"] == pytest.approx(
        10 * np.log10(255**2 / (again - images).square().mean().item()), abs=1e-4
    )
    assert found["bpp_nominal"] == pytest.approx(4 / 16)
    assert found["entropy_bits"] / 16 <= found["bpp_entropy"] <= 4 / 16
    assert found["perplexity"] == pytest.approx(2 ** found["entropy_bits"])


def test_psnr_ssim_and_ms_ssim_are_the_usual_ones(run: Path) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    tokenizer = ImageTokenizer.from_pretrained(run / "model")
    pictures = [p.unsqueeze(0) for p in open_images("photos").whole]
    found = evaluation.similarity(tokenizer, pictures)
    psnr, ssim = [], []
    for picture in pictures:
        again = evaluation.reproduced(tokenizer, tokenizer.encode(picture), picture)
        one, other = (x[0].permute(1, 2, 0).double().numpy() for x in (picture / 255, again))
        psnr.append(peak_signal_noise_ratio(one, other, data_range=1.0))
        ssim.append(
            structural_similarity(
                one, other, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
        )  # fmt: skip
    assert found["psnr"] == pytest.approx(np.mean(psnr), abs=1e-4)
    assert found["ssim"] == pytest.approx(np.mean(ssim), abs=1e-4)
    assert 0 < found["ms_ssim"] < 1
    assert evaluation.similarity(tokenizer, [p[..., :160, :] for p in pictures])["ms_ssim"] is None
    assert evaluation.similarity(tokenizer, [p[..., :8, :8] for p in pictures])["ssim"] is None


@pytest.mark.slow
def test_a_run_is_not_overwritten_and_a_finished_one_resumes_to_itself(small: Path) -> None:
    code, _, err = train(small)
    assert code == 2
    assert "--resume goes on with it" in err
    before = {p.name: p.read_bytes() for p in (small / "model").iterdir()}
    log = (small / "metrics.jsonl").read_bytes()
    code, _, err = call("train", "--resume", "--out", str(small))
    assert code == 0, err
    assert {p.name: p.read_bytes() for p in (small / "model").iterdir()} == before
    assert (small / "metrics.jsonl").read_bytes() == log


def test_other_settings_do_not_resume(run: Path) -> None:
    code, _, err = call("train", "--resume", "--out", str(run), "--set", "lr=0.5")
    assert code == 2
    assert "lr: 0.006 → 0.5" in err
    assert "\n" not in err.strip()


def test_resume_needs_a_run(tmp_path: Path) -> None:
    code, _, err = call("train", "--resume", "--out", str(tmp_path / "none"))
    assert code == 2
    assert "holds no run" in err


def test_ctrl_c_leaves_a_run_that_goes_on(small: Path, tmp_path: Path, pictures: str, monkeypatch) -> None:
    step = trainer.Trainer.step

    def interrupted(self):
        if self.progress.step == 6:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(trainer.Trainer, "step", interrupted)
    code, _, err = train(tmp_path / "cut", data=pictures)
    assert code == 130
    assert f"--resume --out {tmp_path / 'cut'}" in err
    assert not (tmp_path / "cut" / "final_metrics.json").exists()
    code, _, err = call("report", str(tmp_path / "cut"))
    assert code == 2
    assert "not finished" in err
    monkeypatch.setattr(trainer.Trainer, "step", step)
    code, _, err = call("train", "--resume", "--out", str(tmp_path / "cut"))
    assert code == 0, err
    one, other = (f / "model" / "model.safetensors" for f in (small, tmp_path / "cut"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_reports_side_by_side(small: Path, pictures: str, tmp_path: Path) -> None:
    other = tmp_path / "fsq"
    code, _, err = train(other, "--quantizer", "fsq", "--codebook-size", "64", data=pictures)
    assert code == 0, err
    code, _, err = call("report", str(small), str(other), "--out", str(tmp_path / "both.html"))
    assert code == 0, err
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<td><code>quantizer</code></td><td>vq-ema</td><td>fsq</td>" in text
    assert text.count("data:image/png;base64,") == 5
    final = json.loads((other / "final_metrics.json").read_text())
    assert final["held_out"]["gap_db"] is None  # FSQ bends its latents
    assert f"{final['held_out']['psnr']:.2f}" in text
    figures = json.loads(call("report", str(small), str(other), "--json")[1])
    assert figures["fsq"] == final
    for tag in ("figure", "table", "details", "main"):
        assert text.count(f"<{tag}") == text.count(f"</{tag}>")


def test_eval_on_other_pictures(run: Path, tmp_path: Path) -> None:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    code, out, _ = call("eval", str(run), "--data", f"folder:{tmp_path}", "--json")
    assert code == 0
    found = json.loads(out)
    assert (
        found["held_out"]["psnr"] < json.loads((run / "final_metrics.json").read_text())["held_out"]["psnr"]
    )
    assert found["whole"]["ms_ssim"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codebook-size", "0"], "codebook_size must be at least 2"),
        (["--codebook-size", "1"], "codebook_size must be at least 2"),
        (["--codebook-size", "10000000"], "is more than the 157,440 latents that photos has"),
        (["--quantizer", "vq"], "quantizer='vq' is unknown; accepted: vq-ema"),
        (["--data", "imagenet"], "data='imagenet' is unknown; accepted: photos"),
        (["--data", "folder:/no/such"], "/no/such"),
        (["--steps", "0"], "setting steps=0 is not accepted"),
        (["--set", "widths=3"], "did you mean 'width'"),
        (["--set", "stride=5"], "stride must be one of"),
        (["--set", "clip=-1"], "setting clip=-1 is not accepted"),
        (
            ["priors"],
            "neither a kind (tokenizer, prior, classifier, vqvae2, vqgan, audio, sound-prior) nor a settings file",
        ),
        (["prior"], "give the run of a tokenizer: codebound train prior RUN"),
        (["tokenizer", "tokenizer"], "train takes a kind"),
        (["--quantizer", "lfq", "--codebook-size", "100"], "no power of two"),
        (["--quantizer", "fsq", "--codebook-size", "8"], "at least 25"),
        (["--quantizer", "pq", "--set", "stages=3"], "dim=16"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--device", "cuda"], "device=cuda is not there"),
        (["--devices", "0"], "devices must be at least 1"),
        (["--precision", "16"], "precision='16' is not accepted"),
        (["/no/such.yaml"], "/no/such.yaml can't be read"),
    ],
)
def test_what_is_refused_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    code, _, err = call("train", *arguments, "--out", str(tmp_path / "run"))
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert "\n" not in err.strip()
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cpu._is_amx_tile_supported(), reason="this CPU has AMX")
def test_bf16_is_refused_on_a_cpu_without_amx(tmp_path: Path) -> None:
    code, _, err = call("train", "--precision", "bf16", "--device", "cpu", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "AMX" in err


def test_too_little_disk_space_is_refused_before_training(tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1 << 20))
    code, _, err = train(tmp_path / "run")
    assert code == 2
    assert "1 MiB are free on the disk, the run needs about" in err
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_leaves_a_run_that_goes_on(tmp_path: Path, pictures: str, monkeypatch) -> None:
    from codebound.engine.checkpoints import Checkpoints

    save = Checkpoints.save

    def full(self, step, state, best=False):
        if step >= 8:
            raise OSError(28, "No space left on device")
        return save(self, step, state, best=best)

    monkeypatch.setattr(Checkpoints, "save", full)
    code, _, err = train(tmp_path / "run", data=pictures)
    assert code == 2
    assert "No space left on device; the last checkpoint is whole" in err
    monkeypatch.setattr(Checkpoints, "save", save)
    assert call("train", "--resume", "--out", str(tmp_path / "run"))[0] == 0


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_trackers_that_are_missing_are_named(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, {"wandb": "wandb", "tensorboard": "torch.utils.tensorboard"}[name], None)
    code, _, err = train(tmp_path / "run", f"--{name}")
    assert code == 2
    assert f"pip install 'codebound[{name}]'" in err


@pytest.mark.slow
def test_tensorboard_reads_what_was_logged(tmp_path: Path, pictures: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    assert train(out, "--tensorboard", "--steps", "6", data=pictures)[0] == 0
    logged = EventAccumulator(str(out / "tensorboard")).Reload()
    assert len(logged.Scalars("loss")) == 3
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    wanted = {row["step"]: row["loss"] for row in rows if row.get("loss") is not None}
    assert {e.step: e.value for e in logged.Scalars("loss")} == pytest.approx(wanted)


@pytest.mark.slow
def test_wandb_keeps_one_entry_over_a_resume_and_one_for_each_folder(
    tmp_path: Path, pictures: str, monkeypatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = set()
    for parent in ("a", "b"):
        out = tmp_path / parent / "run"  # of the same name
        out.parent.mkdir()
        assert train(out, "--wandb", "--steps", "6", data=pictures)[0] == 0
        assert call("train", "--resume", "--wandb", "--out", str(out))[0] == 0
        entries = list(out.glob("wandb/offline-run-*/*.wandb"))
        assert len(entries) == 2  # the files of two processes, of one entry
        (found,) = {path.stem.removeprefix("run-") for path in entries}
        assert found == (out / "wandb-id").read_text()
        ids.add(found)
    assert len(ids) == 2


@pytest.mark.parametrize("kind", quantizers.KINDS)
def test_every_quantizer_trains_and_becomes_a_description(kind: str) -> None:
    settings = Settings(**{**TINY, "quantizer": kind, "codebook_size": 32, "stages": 2})
    request = settings_module.quantizer_request(
        settings, 12, open_images("photos", settings_module.picture_request(settings))
    )
    built = quantizers.quantizer(kind, request)
    again = quantizers.quantizer(to_spec(built), request)
    assert to_spec(again) == to_spec(built)
    if isinstance(built, Trellis):  # no table: bits of its entropy-coded levels
        assert built.rate == 5.0
    else:
        assert math.prod(built.codebook_sizes) in {32, 30, 32**2}


def test_levels_of_fsq() -> None:
    assert quantizers.levels(256) == (8, 6, 5)  # the paper's table 1
    assert quantizers.levels(512) == (8, 8, 8)
    assert quantizers.levels(65536) == (8, 8, 8, 5, 5, 5)
    for size in (25, 100, 2000, 100_000):
        assert abs(np.log2(np.prod(quantizers.levels(size)) / size)) < 0.1


def test_held_out_tokens_are_five_for_each_codeword() -> None:
    for size in (512, 4096, 65536):
        count = settings_module.picture_request(Settings(codebook_size=size)).held_out
        assert count * 64 >= 5 * size


def test_epochs_are_steps(run: Path) -> None:
    images = open_images("photos", settings_module.picture_request(Settings(**TINY)))
    assert settings_module.recipe(Settings(epochs=2, batch_size=64), images).steps == 256
    assert settings_module.recipe(Settings(steps=7), images).steps == 7


def test_the_table_s_rows_are_figures_that_runs_have(run: Path) -> None:
    final = json.loads((run / "final_metrics.json").read_text())
    found = {label: cells[0] for label, cells, _ in labels.rows([final])}
    assert found["PSNR, dB"] == f"{final['held_out']['psnr']:.2f}"
    assert "linear probe on the codes" not in found


def test_a_linear_probe_finds_what_is_linear_and_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(600, 5, generator=generator), torch.randn(5, 3, generator=generator)
    labels_ = (x @ y).argmax(1)
    constant = torch.cat([x, torch.ones(600, 1)], dim=1)
    assert linear_probe(constant[:400], labels_[:400], constant[400:], labels_[400:]) > 0.93
    shuffled = labels_[torch.randperm(600, generator=generator)]
    assert linear_probe(x[:400], shuffled[:400], x[400:], shuffled[400:]) < 0.6
    with pytest.raises(InputError, match="classes"):
        linear_probe(x, labels_ * 0, x, labels_ * 0)


def test_the_probe_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator) + torch.randn(500, 4, generator=generator)).argmax(1)
    ours = linear_probe(x[:300], y[:300], x[300:], y[300:], penalty=1e-2)
    standard = ((x - x[:300].mean(0)) / x[:300].std(0)).numpy()
    theirs = LogisticRegression(C=1 / (1e-2 * 300), max_iter=1000).fit(standard[:300], y[:300])
    assert ours == pytest.approx(theirs.score(standard[300:], y[300:]), abs=0.011)


def test_the_probe_reads_classes_from_frozen_codes_where_there_are_some() -> None:
    generator = torch.Generator().manual_seed(0)
    labels_ = torch.arange(60) % 3
    shades = (labels_ * 100 + 20).view(-1, 1, 1, 1)
    images = (shades + torch.randint(0, 20, (60, 1, 16, 16), generator=generator)).to(torch.uint8)
    part = LabelledPictures(images, labels_)
    torch.manual_seed(0)
    vq = VectorQuantizer(4, 32)
    tokenizer = ImageTokenizer(vq, channels=1, width=8, depth=1)
    vq.init_(tokenizer.latents(images))
    assert evaluation.probe_accuracy(tokenizer, FixedPictures("shades", "", part, part, 60)) == 1.0
    assert evaluation.probe_accuracy(tokenizer, open_images("photos", PictureRequest(held_out=8))) is None


@pytest.mark.slow
def test_the_notebook_runs(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    other = tmp_path / "other"
    assert train(other, "--quantizer", "ba")[0] == 0
    monkeypatch.setenv("CODEBOUND_RUNS", f"{run}:{other}")
    file = Path(__file__).parents[2] / "notebooks" / "results.ipynb"
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    space: dict[str, object] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            exec(compile(cell.source, file.name, "exec"), space)
    shown = capsys.readouterr().out
    assert "2 runs: tiny, other" in shown
    final = json.loads((run / "final_metrics.json").read_text())
    assert f"{final['held_out']['psnr']:.2f}" in shown
