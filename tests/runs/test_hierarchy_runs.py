"""Runs of a hierarchical tokenizer and of a classifier, and a prior over all levels."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import call
from PIL import Image

TINY = {
    "kind": "vqvae2", "codebook_sizes": [16, 8], "dim": 4, "width": 8, "depth": 1, "stride": 2, "crop": 10, "steps": 4,
    "batch_size": 8, "held_out": 8, "init_tokens": 64, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 2,
    "warmup": 2,
}  # fmt: skip
PRIOR = {
    "kind": "prior",
    "width": 16,
    "depth": 1,
    "heads": 2,
    "steps": 2,
    "batch_size": 8,
    "evaluate_every": 2,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """10×10 pictures in folders of two classes: no multiple of the coarsest token."""
    folder = tmp_path_factory.mktemp("set")
    random = np.random.default_rng(0)
    for name, level in {"dark": 60, "bright": 190}.items():
        (folder / name).mkdir()
        for i in range(20):
            pixels = (level + random.normal(0, 20, (10, 10, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def train(values: dict, *arguments: str, out: Path) -> None:
    file = out.parent / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(values))
    code, _, err = call("train", *arguments, str(file), "--out", str(out))
    assert code == 0, err


@pytest.fixture(scope="module")
def run(tmp_path_factory, pictures: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "levels"
    train({**TINY, "data": f"classes:{pictures}"}, out=folder)
    return folder


def test_a_run_has_figures_of_every_level(run: Path) -> None:
    final = json.loads((run / "final_metrics.json").read_text())["held_out"]
    assert [level["codebook_sizes"] for level in final["levels"]] == [[16], [8]]
    assert [level["grid"] for level in final["levels"]] == [[3, 3], [6, 6]]
    code, out, _ = call("eval", str(run), "--json")
    assert code == 0
    assert json.loads(out)["held_out"]["psnr"] == pytest.approx(final["psnr"], abs=1e-4)
    assert "level 0: worth" in (run / "report.html").read_text()
    assert Image.open(run / "samples.png").size[0] > 100
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"window_usage_0", "window_usage_1", "worth_db_0"} <= rows[-1].keys()


def test_a_prior_over_all_levels_samples_and_completes(run: Path, pictures: Path, tmp_path: Path) -> None:
    train(PRIOR, str(run), out=tmp_path / "prior")
    code, _, err = call(
        "sample", str(tmp_path / "prior"), "--class", "all", "--count", "4", "--out", str(tmp_path / "s")
    )
    assert code == 0, err
    assert Image.open(tmp_path / "s" / "00001-dark.png").size == (10, 10)
    source = pictures / "dark" / "00.png"
    command = ["--from", str(source), "--keep", "top", "--count", "1", "--out", str(tmp_path / "c")]
    code, _, err = call("sample", str(tmp_path / "prior"), "--class", "dark", *command)
    assert code == 0, err
    found, given = (np.array(Image.open(path)) for path in (tmp_path / "c" / "00000-dark.png", source))
    assert np.array_equal(found[:5], given[:5])
    assert not np.array_equal(found[5:], given[5:])


def test_settings_that_do_not_fit_are_refused(tmp_path: Path, pictures: Path) -> None:
    for values, message in (
        ({"codebook_sizes": [8, 8, 8]}, "codebook_sizes=[8, 8, 8]: 2 of at least 2"),
        ({"levels": 4}, "levels=4"),
        ({"dropped": 1.0}, "dropped=1.0"),
    ):
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump({**TINY, **values, "data": f"classes:{pictures}"}))
        code, _, err = call("train", str(file), "--out", str(tmp_path / "out"))
        assert code == 2
        assert message in err


def test_levels_are_an_option_of_this_kind_alone(tmp_path: Path, pictures: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**TINY, "codebook_sizes": None, "data": f"classes:{pictures}"}))
    out = str(tmp_path / "out")
    code, _, err = call("train", str(file), "--levels", "3", "--out", out)
    assert code == 0, err
    assert len(json.loads((tmp_path / "out" / "final_metrics.json").read_text())["held_out"]["levels"]) == 3
    for arguments, message in (
        (["vqvae2", "--levels", "4"], "levels=4"),
        (["--levels", "3"], "--levels 3: a run of kind 'tokenizer' has no such setting"),
        (["prior", "x", "--levels", "2"], "--levels 2: a run of kind 'prior' has no such setting"),
        (["vqvae2", "--kind", "masked"], "--kind masked: a run of kind 'vqvae2' has no such setting"),
    ):
        code, _, err = call("train", *arguments, "--out", str(tmp_path / "refused"))
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_a_classifier_judges_samples(pictures: Path, tmp_path: Path) -> None:
    values = {
        "kind": "classifier",
        "width": 8,
        "steps": 20,
        "batch_size": 16,
        "held_out": 16,
        "evaluate_every": 10,
    }
    train({**values, "data": f"classes:{pictures}"}, out=tmp_path / "judge")
    final = json.loads((tmp_path / "judge" / "final_metrics.json").read_text())
    assert final["held_out"]["accuracy"] == 1
    code, out, _ = call("eval", str(tmp_path / "judge"), "--json")
    assert json.loads(out)["held_out"]["accuracy"] == 1
    # Dark pictures beside pictures of both classes: sure, but of one class.
    spaces = f"pixels,classifier:{tmp_path / 'judge'}"
    reference = tmp_path / "both"
    reference.mkdir()
    for name in ("dark", "bright"):
        for path in (pictures / name).iterdir():
            (reference / f"{path.stem}-{name}.png").write_bytes(path.read_bytes())
    code, out, err = call(
        "eval", "samples", str(pictures / "dark"), str(reference), "--features", spaces, "--json"
    )
    assert code == 0, err
    pixels, classifier = json.loads(out)
    assert pixels["pictures"] == classifier["pictures"] == 20
    assert classifier["samples"]["class_score"] < classifier["floor"]["class_score"]
    assert classifier["samples"]["frechet"] > 3 * classifier["floor"]["frechet"]
    code, out, _ = call("eval", "samples", str(pictures / "dark"), str(reference))
    assert code == 0
    assert "real (floor)" in out


def test_what_codes_know_of_classes_by_command(run: Path, pictures: Path) -> None:
    code, _, err = call("eval", "codes", str(run))
    assert code == 2
    assert "does not hold a model of kind ImageTokenizer" in err


def test_a_set_without_classes_has_no_classifier(tmp_path: Path) -> None:
    code, _, err = call("train", "classifier", "--data", "photos", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "data=photos: 0 classes; a classifier needs at least 2" in err
