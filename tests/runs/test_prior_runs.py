"""A stranger's pictures of three classes: from folders to a tokenizer, a prior, samples and a completed picture."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import call
from PIL import Image

from codebound.codec.model import load_model
from codebound.data.image_sources import PictureRequest, open_images
from codebound.generators import AutoregressivePrior, LlamaPrior
from codebound.generators.neighbours import grid_bits, sample_grids
from codebound.runs import prior as prior_runs
from codebound.runs.tokenise import TokeniseSettings, tokenise
from codebound.tokenizers import ImageTokenizer

TOKENIZER = {
    "codebook_size": 16, "dim": 4, "width": 8, "depth": 1, "crop": 12, "steps": 6, "batch_size": 8, "held_out": 16,
    "init_tokens": 256, "log_every": 2, "evaluate_every": 6, "checkpoint_every": 6, "warmup": 2, "stride": 2,
}  # fmt: skip
PRIOR = {
    "width": 16, "depth": 1, "heads": 2, "steps": 6, "batch_size": 8, "log_every": 2, "evaluate_every": 3,
    "checkpoint_every": 3, "warmup": 2, "held_out": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """12×10 pictures in folders of their classes."""
    folder = tmp_path_factory.mktemp("set")
    random = np.random.default_rng(0)
    for name, colour in {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}.items():
        (folder / name).mkdir()
        for i in range(16):
            pixels = np.array(colour) * random.uniform(0.5, 1) + random.normal(0, 12, (12, 10, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


def settings(folder: Path, values: dict) -> str:
    file = folder / f"{values.get('kind', 'settings')}.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, pictures: Path) -> Path:
    root = tmp_path_factory.mktemp("runs")
    file = settings(root, {**TOKENIZER, "data": f"classes:{pictures}"})
    code, _, err = call("train", file, "--out", str(root / "tokens"))
    assert code == 0, err
    return root / "tokens"


@pytest.fixture(scope="module")
def run(tokenizer: Path) -> Path:
    folder = tokenizer.parent / "prior"
    file = settings(tokenizer.parent, {"kind": "prior", **PRIOR})
    code, out, err = call("train", "prior", str(tokenizer), file, "--out", str(folder))
    assert code == 0, err
    assert "bits per token" in out
    return folder


def test_classes_are_those_of_the_folders(pictures: Path) -> None:
    images = open_images(f"classes:{pictures}", PictureRequest(held_out=8))
    assert images.class_names == ("blue", "green", "red")
    shown = images.batch(0, 3, 20).float().mean((2, 3))
    assert torch.equal(2 - shown.argmax(1), images.labels(0, 3, 20))
    assert torch.equal(2 - images.held_out.float().mean((2, 3)).argmax(1), images.held_out_labels)
    # Larger pictures are cut into crops, of which each has its picture's class.
    crops = open_images(f"classes:{pictures}", PictureRequest(crop=8, held_out=8, memory=1_000))
    assert crops.class_names == ()  # read as they go: whose a crop is depends on which pictures can be read


def test_crops_have_the_classes_of_their_pictures(tmp_path: Path) -> None:
    for name, colour in {"red": (220, 30, 30), "green": (30, 220, 30)}.items():
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.new("RGB", (70 + i, 80), tuple(v - i for v in colour)).save(tmp_path / name / f"{i}.png")
    images = open_images(f"classes:{tmp_path}", PictureRequest(crop=16, held_out=12))
    assert images.class_names == ("green", "red")
    assert torch.equal(1 - images.batch(0, 3, 20).float().mean((2, 3)).argmax(1), images.labels(0, 3, 20))
    assert torch.equal(1 - images.held_out.float().mean((2, 3)).argmax(1), images.held_out_labels)
    Image.new("RGB", (70, 80)).save(tmp_path / "stray.png")
    code, _, err = call("train", "--data", f"classes:{tmp_path}", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "stray.png is in no class's folder" in err


def test_the_folder_holds_all_that_samples_are_made_of(run: Path, tokenizer: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {"config.yaml", "model", "tokenizer", "final_metrics.json", "samples.png", "report.html"}
    final = json.loads((run / "final_metrics.json").read_text())
    held_out = final["held_out"]
    assert held_out["pictures"] == 5  # a tenth of 48
    assert held_out["nominal_bits"] == 4
    assert held_out["order_zero_bits"] <= 4
    assert held_out["bits_per_pixel"] == pytest.approx(held_out["bits_per_token"] * 30 / 120)
    # The figures are those of the model in the folder.
    prior = AutoregressivePrior.from_pretrained(run / "model")
    code, out, _ = call("eval", str(run), "--json")
    assert code == 0
    assert json.loads(out)["held_out"]["bits_per_picture"] == pytest.approx(
        held_out["bits_per_picture"], rel=1e-5
    )
    assert prior.classes == ("blue", "green", "red")
    assert prior.layout.describe() == "6x5 of [16]"


def test_samples_by_hand_and_by_command(run: Path, tmp_path: Path) -> None:
    options = ["--class", "all", "--count", "7", "--guidance", "1.5", "--temperature", "0.9", "--seed", "4"]
    code, out, err = call("sample", str(run), *options, "--out", str(tmp_path / "samples"), "--json")
    assert code == 0, err
    about = json.loads(out)
    assert about == json.loads((tmp_path / "samples" / "samples.json").read_text())
    assert [row["class"] for row in about["samples"]] == ["blue", "green", "red"] * 2 + ["blue"]
    # The same by hand.
    prior, tokenizer = prior_runs.load_run(run)
    labels = [row["class"] for row in about["samples"]]
    indices = prior.sample(7, labels=labels, guidance=1.5, temperature=0.9, seed=4)
    pixels = (tokenizer.decode(indices) * 255).round().to(torch.uint8)
    bits = prior.bits(indices, labels)
    for row, picture, cost in zip(about["samples"], pixels, bits, strict=True):
        found = np.array(Image.open(tmp_path / "samples" / row["file"]))
        assert np.array_equal(found, picture.permute(1, 2, 0).numpy())
        assert row["bits"] == pytest.approx(float(cost), abs=1e-3)
    assert Image.open(tmp_path / "samples" / "grid.png").size[0] > 3 * 50
    code, _, err = call("sample", str(run), "--out", str(tmp_path / "samples"))
    assert code == 2
    assert "holds something already" in err


@pytest.fixture(scope="module")
def with_integers(tokenizer: Path) -> Path:
    """The tokenizer's run after `codebound fit-prior`."""
    folder = tokenizer.parent / "with-integers"
    shutil.copytree(tokenizer, folder)
    code, _, err = call("fit-prior", str(folder), "--steps", "20", "--hidden", "8")
    assert code == 0, err
    return folder


def test_the_integer_prior_samples_by_hand_and_by_command(with_integers: Path, tmp_path: Path) -> None:
    options = ["--count", "5", "--seed", "3", "--temperature", "0.7", "--out", str(tmp_path / "samples")]
    code, out, err = call("sample", str(with_integers), *options, "--json")
    assert code == 0, err
    about = json.loads(out)
    assert about["exact"]
    assert about["tokens"] == 30
    model = load_model(with_integers / "model")
    assert model.prior is not None
    indices = sample_grids(model.prior, 5, (6, 5), temperature=0.7, seed=3)
    pixels = (model.tokenizer.decode(indices, size=(12, 10)) * 255).round().to(torch.uint8)
    costs = grid_bits(model.prior, indices)
    for row, picture, cost in zip(about["samples"], pixels, costs, strict=True):
        found = np.array(Image.open(tmp_path / "samples" / row["file"]))
        assert np.array_equal(found, picture.permute(1, 2, 0).numpy())
        assert row["class"] is None
        assert row["bits"] == pytest.approx(float(cost), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "red"], "--class red: "),
        (["--guidance", "2"], "--guidance 2.0: "),
        (["--top-k", "3"], "--top-k 3: "),
        (["--top-p", "0.5"], "--top-p 0.5: "),
        (["--steps", "8"], "--steps 8: "),
        (["--from", "half.png"], "--from half.png: "),
        (["--temperature", "-1"], "temperature is -1"),
        (["--count", "0"], "--count 0 is not accepted"),
    ],
)
def test_what_the_integer_prior_does_not_know_is_refused(
    with_integers: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    code, _, err = call("sample", str(with_integers), *options, "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_prior_says_how_to_get_one(tokenizer: Path, tmp_path: Path) -> None:
    code, _, err = call("sample", str(tokenizer), "--out", str(tmp_path / "out"))
    assert code == 2
    assert f"is a tokenizer without a prior: codebound train prior {tokenizer}" in err


def test_a_picture_is_completed_and_what_was_given_stays(run: Path, pictures: Path, tmp_path: Path) -> None:
    source = pictures / "red" / "00.png"
    given = np.array(Image.open(source))
    mask = np.zeros((12, 10), dtype=np.uint8)
    mask[:, 6:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    kept = {"top": np.s_[:6], "left": np.s_[:, :5], str(tmp_path / "mask.png"): np.s_[:, 6:]}
    for number, (keep, part) in enumerate(kept.items()):
        folder = tmp_path / str(number)
        command = [
            "--from",
            str(source),
            "--keep",
            keep,
            "--class",
            "red",
            "--count",
            "2",
            "--out",
            str(folder),
        ]
        code, _, err = call("sample", str(run), *command)
        assert code == 0, err
        for name in ("00000-red.png", "00001-red.png"):
            found = np.array(Image.open(folder / name))
            assert np.array_equal(found[part], given[part])
            assert not np.array_equal(found, given)


def test_a_llama_prior_goes_through_the_same_commands(
    tokenizer: Path, pictures: Path, tmp_path: Path
) -> None:
    file = settings(tmp_path, {"kind": "prior", **PRIOR})
    command = ["train", "prior", str(tokenizer), file, "--kind", "llama", "--out", str(tmp_path / "run")]
    code, out, err = call(*command)
    assert code == 0, err
    assert "bits per token" in out
    assert (tmp_path / "run" / "report.html").is_file()
    code, out, err = call("eval", str(tmp_path / "run"), "--json")
    assert code == 0, err
    figures = json.loads(out)["held_out"]
    assert figures["exact"]
    # Samples, their likelihood, and a picture that is completed.
    sample = ["sample", str(tmp_path / "run"), "--class", "red", "--count", "2", "--json"]
    completion = ["--from", str(pictures / "red" / "00.png"), "--keep", "left", "--guidance", "1.5"]
    code, out, err = call(*sample, *completion, "--out", str(tmp_path / "completed"))
    assert code == 0, err
    prior, _ = prior_runs.load_run(tmp_path / "run")
    assert isinstance(prior, LlamaPrior)
    code, out, err = call(*sample, "--out", str(tmp_path / "samples"))
    assert code == 0, err
    drawn = prior.sample(2, labels="red")
    costs = prior.bits(drawn, "red").tolist()
    assert [row["bits"] for row in json.loads(out)["samples"]] == pytest.approx(costs, abs=1e-3)
    code, _, err = call(*sample, "--steps", "3", "--out", str(tmp_path / "steps"))
    assert code == 2
    assert "only a masked prior draws in steps; this one draws token after token" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--class", "yellow"],
            "labels='yellow' is no class of this prior; accepted: 0 … 2 or blue, green, red",
        ),
        (["--class", "3"], "labels=3 is no class"),
        (["--count", "0"], "--count 0 is not accepted"),
        (["--guidance", "2"], "needs a class for every picture"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--from", "MASK"], "the prior completes pictures of 12x10"),
        (["--from", "none.png"], "none.png"),
        (
            ["--from", "FIRST", "--keep", "diagonal"],
            "--keep diagonal: top, left, or the file of a mask is accepted",
        ),
    ],
)
def test_what_can_not_be_sampled_is_refused(
    run: Path, pictures: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "MASK.png")
    files = {"MASK": tmp_path / "MASK.png", "FIRST": pictures / "red" / "00.png"}
    options = [str(files.get(option, option)) for option in options]
    code, _, err = call("sample", str(run), *options, "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_prior_with_another_tokenizer_is_refused_by_hash(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    tokenizer = ImageTokenizer.from_pretrained(run / "tokenizer")
    hashed = AutoregressivePrior.from_pretrained(run / "model").tokenizer
    with torch.no_grad():
        next(tokenizer.decoder.parameters()).add_(1)
    tokenizer.save_pretrained(tmp_path / "run" / "tokenizer")
    code, _, err = call("sample", str(tmp_path / "run"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert f"the prior is of the tokenizer {hashed}, not of " in err


def test_what_no_prior_can_be_trained_on_is_refused(run: Path, tokenizer: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["prior"], "give the run of a tokenizer"),
        (["prior", str(run)], "holds a model of kind AutoregressivePrior; ImageTokenizer or"),
        (["prior", str(tmp_path / "none")], "neither the folder of a finished run nor of a model"),
        (
            ["prior", "default"],
            "tokenizer=default is a model without its run: say what to learn from with --data",
        ),
        (["prior", str(tokenizer), "--data", "photos", "--set", "channels=1"], "unknown setting 'channels'"),
        ([str(tokenizer)], "is neither a kind"),
        ([str(tokenizer), str(run)], "takes a kind"),
    ):
        code, _, err = call("train", *arguments, "--out", str(tmp_path / "out"))
        assert code == 2
        assert message in err


def test_a_prior_learns_from_a_tokenised_set_as_from_its_pictures(
    tokenizer: Path, pictures: Path, tmp_path: Path
) -> None:
    data = f"classes:{pictures}"
    tokenise(
        str(tokenizer),
        TokeniseSettings(data=data, shard_size=20),
        tmp_path / "tokens",
        PictureRequest(crop=12),
    )
    found = []
    for name, source in (("pictures", data), ("tokens", str(tmp_path / "tokens"))):
        file = settings(tmp_path, {"kind": "prior", **PRIOR, "data": source})
        code, _, err = call("train", "prior", str(tokenizer), file, "--out", str(tmp_path / f"run-{name}"))
        assert code == 0, err
        found.append(json.loads((tmp_path / f"run-{name}" / "final_metrics.json").read_text()))
    assert found[0]["held_out"]["pictures"] == found[1]["held_out"]["pictures"]
    assert found[0]["held_out"]["order_zero_bits"] == pytest.approx(found[1]["held_out"]["order_zero_bits"])
    # The rows of a tokenised set stand in another order: nearly the same training.
    assert found[0]["held_out"]["bits_per_token"] == pytest.approx(
        found[1]["held_out"]["bits_per_token"], rel=0.05
    )
    other = tmp_path / "other"
    ImageTokenizer.from_pretrained(tokenizer / "model").save_pretrained(other)
    weights = ImageTokenizer.from_pretrained(other)
    with torch.no_grad():
        next(weights.decoder.parameters()).add_(1)
    weights.save_pretrained(other)
    code, _, err = call(
        "train", "prior", str(other), "--data", str(tmp_path / "tokens"), "--out", str(tmp_path / "x")
    )
    assert code == 2
    assert "was made by the model" in err
