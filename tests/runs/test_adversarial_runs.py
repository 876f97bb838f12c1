"""Runs against a discriminator: from scratch, from a finished run, and its decoder alone."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from commands import call
from PIL import Image

from codebound.data.images import photographs
from codebound.runs.adversarial import KIND, Settings
from codebound.tokenizers import ImageTokenizer

TINY = {
    "codebook_size": 16, "dim": 4, "width": 8, "depth": 1, "crop": 16, "steps": 4, "batch_size": 4, "held_out": 16,
    "init_tokens": 256, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 4, "warmup": 2,
}  # fmt: skip
AGAINST = {
    "kind": "vqgan", "discriminator_width": 8, "discriminator_layers": 2, "steps": 4, "batch_size": 4, "log_every": 1,
    "evaluate_every": 2, "checkpoint_every": 4, "warmup": 2, "begin": 0.25,
}  # fmt: skip


def train(values: dict, *arguments: str, out: Path) -> tuple[int, str]:
    file = out.parent / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(values))
    code, _, err = call("train", *arguments, str(file), "--out", str(out))
    return code, err


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("root")
    (root / "pictures").mkdir()
    for i, photograph in enumerate(photographs("train")[:4]):
        Image.fromarray(photograph.pixels[100:140, 100:160]).save(root / "pictures" / f"{i}.png")
    code, err = train({**TINY, "data": f"folder:{root / 'pictures'}"}, out=root / "tiny")
    assert code == 0, err
    return root / "tiny"


@pytest.mark.parametrize("freeze", [True, False])
def test_a_finished_run_goes_on_against_a_discriminator(finished: Path, tmp_path: Path, freeze: bool) -> None:
    code, err = train({**AGAINST, "freeze": freeze}, str(finished), out=tmp_path / "gan")
    assert code == 0, err
    final = json.loads((tmp_path / "gan" / "final_metrics.json").read_text())
    assert final["codebook_sizes"] == [16]  # the networks are those of the run
    rows = [json.loads(line) for line in (tmp_path / "gan" / "metrics.jsonl").read_text().splitlines()]
    assert "adversarial_weight" not in rows[1]
    assert rows[-1]["adversarial_weight"] > 0
    assert {"score_real", "score_made", "gradient_norm_discriminator"} <= rows[-1].keys()
    before, after = (ImageTokenizer.from_pretrained(f / "model") for f in (finished, tmp_path / "gan"))
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(before.encode(images), after.encode(images)) or not freeze
    assert not torch.equal(before.decode(before.encode(images)), after.decode(before.encode(images)))
    # What other commands do with a tokenizer's run, they do with this one.
    code, out, err = call("eval", str(tmp_path / "gan"), "--json")
    assert code == 0, err
    assert json.loads(out)["held_out"]["psnr"] == pytest.approx(final["held_out"]["psnr"], abs=1e-4)
    assert call("report", str(tmp_path / "gan"))[0] == 0

    # Figures that were cut short are named, whoever asks for them.
    figures = tmp_path / "gan" / "final_metrics.json"
    for text in (figures.read_text()[:-20], "[]"):
        figures.write_text(text)
        code, _, err = call("report", str(tmp_path / "gan"), "--json")
        assert code == 2
        assert "final_metrics.json" in err


def test_a_run_on_a_run_on_a_run_has_the_pictures_of_the_first(finished: Path, tmp_path: Path) -> None:
    code, err = train(AGAINST, str(finished), out=tmp_path / "second")
    assert code == 0, err
    code, err = train(AGAINST, str(tmp_path / "second"), out=tmp_path / "third")
    assert code == 0, err
    first, third = (yaml.safe_load((f / "config.yaml").read_text()) for f in (finished, tmp_path / "third"))
    names = ("data", "crop", "held_out", "codebook_size", "dim", "width")
    assert {name: third[name] for name in names} == {name: first[name] for name in names}

    # Its folder needs none before it; what contradicts the earlier run is refused, the default's values, too.
    (tmp_path / "second").rename(tmp_path / "away")
    code, _, err = call("eval", str(tmp_path / "third"), "--json")
    assert code == 0, err
    for name, value in (("width", 64), ("codebook_size", 512), ("crop", 32)):
        code, err = train({**AGAINST, name: value}, str(finished), out=tmp_path / "none")
        assert code == 2
        assert f"{name}={value} contradicts run={finished}" in err
    assert not (tmp_path / "none").exists()
    own = Settings(run=str(finished), data="photos", crop=24)
    resolved = KIND.resolved(own)
    assert (resolved.data, resolved.crop, resolved.held_out, resolved.width) == ("photos", 24, 16, 8)


def test_from_scratch_and_what_is_refused(finished: Path, tmp_path: Path) -> None:
    data = f"folder:{finished.parent / 'pictures'}"
    code, err = train({**TINY, **AGAINST, "data": data}, out=tmp_path / "scratch")
    assert code == 0, err
    code, err = train({**AGAINST, "freeze": True}, out=tmp_path / "none")
    assert code == 2
    assert "freeze=True trains the decoder of a finished run" in err
    code, err = train(AGAINST, str(tmp_path / "nowhere"), out=tmp_path / "none")
    assert code == 2
    assert "nowhere" in err
    code, err = train({**AGAINST, "begin": 1.5}, out=tmp_path / "none")
    assert code == 2
    assert "begin=1.5" in err


def test_a_perceptual_loss_by_the_vgg_that_the_user_has(finished: Path, tmp_path: Path) -> None:
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    torch.manual_seed(0)
    state = {f"features.{at}.weight": 0.2 * torch.randn(8, 8 if at else 3, 3, 3) for at in places}
    state |= {f"features.{at}.bias": torch.zeros(8) for at in places}
    torch.save(state, tmp_path / "vgg.pth")
    seen = {**AGAINST, "perceptual": 0.5, "perceptual_network": f"vgg:{tmp_path / 'vgg.pth'}"}
    code, err = train(seen, str(finished), out=tmp_path / "gan")
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "gan" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["perceptual"] > 0
    assert (
        len(json.loads((tmp_path / "gan" / "study.json").read_text())["identity"]["perceptual_network"]) == 64
    )
    for change, message in (
        (
            {"perceptual_network": "vgg"},
            "perceptual_network='vgg' is not accepted: Value error, effnet and vgg:FILE",
        ),
        ({"perceptual": 0.0}, "needs a weight: perceptual=0 has none"),
        ({"perceptual_network": "vgg:none.pth"}, "none.pth can't be read as VGG's weights"),
    ):
        code, err = train({**seen, **change}, str(finished), out=tmp_path / "refused")
        assert code == 2
        assert message in err
        assert not (tmp_path / "refused").exists()

    # Pictures of which its last layer sees nothing are refused before a folder is made.
    small = {**TINY, **seen, "data": f"folder:{finished.parent / 'pictures'}", "crop": 8}
    code, err = train(small, out=tmp_path / "refused")
    assert code == 2
    assert "needs pictures with sides of at least 16; these have 8x8" in err
    assert not (tmp_path / "refused").exists()
