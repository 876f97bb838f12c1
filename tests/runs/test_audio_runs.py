"""`codebound train audio`: from a folder of recordings to a model, a prior, a page and files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import call

from codebound import config
from codebound.codec import load_sound_model
from codebound.data.sound_pack import PACK, packed_sounds
from codebound.data.sound_sets import SoundSet, open_sounds
from codebound.data.speech import Clip
from codebound.errors import InputError
from codebound.runs import audio, audio_priors
from codebound.tokenizers.audio_config import SeanetConfig
from codebound.tokenizers.audio_fitting import FrameCodeSettings

SMALL = [
    f"{key}={value}"
    for key, value in {
        "seconds": 0.5, "hop": 160, "dim": 16, "stages": 4, "codebook_size": 32, "iterations": 3, "fit_frames": 400,
        "width": 16, "hidden": 16, "blocks": 1, "batch_size": 2, "checkpoint_every": 2, "evaluate_every": 3,
    }.items()
]  # fmt: skip


def run(*words: str) -> str:
    code, out, err = call(*words)
    assert code == 0, err
    return out


def train(out: Path, steps: int, *words: str, but: tuple[str, ...] = ()):
    sets = [word for text in SMALL if text.partition("=")[0] not in but for word in ("--set", text)]
    return run(
        "train", "audio", "--data", f"folder:{PACK}", "--steps", str(steps), *sets, "--out", str(out), *words
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audio") / "run"
    train(out, 6)
    return out


def test_a_run_leaves_what_others_need(trained: Path) -> None:
    figures = json.loads((trained / "final_metrics.json").read_text())
    assert set(figures["held_out"]) == {"0.5", "1", "2"}
    assert figures["held_out"]["2"]["si_sdr"] > figures["held_out"]["0.5"]["si_sdr"]
    page = (trained / "report.html").read_text()
    assert "data:audio/wav;base64," in page
    assert "mel distance at 2 kbit/s" in page
    again = json.loads(run("eval", str(trained), "--json"))
    assert again["held_out"] == figures["held_out"]


def test_a_decoder_on_the_codes_of_a_run(trained: Path, tmp_path: Path) -> None:
    """Sizes, sound and codes come with the run; its decoder goes on, or one of other sizes begins anew."""
    small = [word for text in ("batch_size=2", "seconds=0.5") for word in ("--set", text)]
    run("train", "audio", str(trained), "--steps", "2", *small, "--out", str(tmp_path / "on"))
    run("train", "audio", str(trained / "model"), "--data", f"folder:{PACK}", "--steps", "2", *small, "--set",
        "fresh=true", "--set", "width=8", "--out", str(tmp_path / "anew"))  # fmt: skip
    before, on, anew = (
        load_sound_model(path / "model").tokenizer for path in (trained, tmp_path / "on", tmp_path / "anew")
    )
    for made in (on, anew):
        codes = {name: value for name, value in made.state_dict().items() if not name.startswith("network")}
        assert codes
        assert all(torch.equal(value, before.state_dict()[name]) for name, value in codes.items())
    assert on.config() == before.config()
    assert anew.network_config is not None
    assert anew.network_config.width == 8
    assert not all(torch.equal(a, b) for a, b in zip(on.parameters(), before.parameters(), strict=True))
    figures = json.loads((tmp_path / "on" / "final_metrics.json").read_text())
    assert json.loads(run("eval", str(tmp_path / "on"), "--json"))["held_out"] == figures["held_out"]

    # A file of the one is refused by the other, by name; what is no tokenizer is, too.
    run("compress", str(packed_sounds()[0]), "--model", str(trained / "model"), "-o", str(tmp_path / "a.cbd"))
    code, _, err = call("decompress", str(tmp_path / "a.cbd"), "--model", str(tmp_path / "on" / "model"))
    assert (code, "model" in err) == (2, True)
    code, _, err = call("train", "audio", str(tmp_path), "--steps", "2", "--out", str(tmp_path / "no"))
    assert code == 2
    assert "is no model" in err


def test_a_run_on_a_run_on_a_run_has_the_sound_and_the_sizes_of_the_first(
    trained: Path, tmp_path: Path
) -> None:
    """What holds stands in each folder, so that none needs the folders before it; what contradicts them is refused."""
    small = [word for text in ("batch_size=2", "seconds=0.5") for word in ("--set", text)]
    first = tmp_path / "first"
    shutil.copytree(trained, first)
    for before, after in (("first", "second"), ("second", "third")):
        run("train", "audio", str(tmp_path / before), "--steps", "2", *small, "--out", str(tmp_path / after))
    stored = [
        config.from_yaml(audio.Settings, tmp_path / name / "config.yaml") for name in ("first", "third")
    ]
    own = {"run", "steps", "checkpoint_every", "evaluate_every", "block"}
    assert config.differences(stored[0], stored[1], own) == []
    assert stored[1].block == 50
    figures = [
        json.loads((tmp_path / name / "final_metrics.json").read_text()) for name in ("first", "third")
    ]
    assert figures[0]["data"] == figures[1]["data"]

    # Given sound is trained on, be it the default's name; given sizes are those of the run, or refused.
    given = config.build(audio.Settings, {"run": str(first), "data": "speech", "dim": 16, "block": 20})
    resolved = audio.KIND.resolved(given)
    assert (resolved.data, resolved.dim, resolved.width, resolved.block) == ("speech", 16, 16, 20)
    for name, value in (("dim", 8), ("width", 160), ("sample_rate", 44_100), ("iterations", 8)):
        wrong = config.build(audio.Settings, {"run": str(first), name: value})
        with pytest.raises(InputError, match=rf"{name}={value} contradicts run=.*leave it out"):
            audio.KIND.resolved(wrong)
    shutil.rmtree(first)
    shutil.rmtree(tmp_path / "second")
    again = json.loads(run("eval", str(tmp_path / "third"), "--json"))
    assert again["held_out"] == figures[1]["held_out"]


def test_prior_files_and_back(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_priors, "SEGMENTS", 40)
    rows = json.loads(run("fit-prior", str(trained), "--steps", "3", "--hidden", "8", "--json"))
    assert rows[-1]["stage"] == "kbit/s"
    assert rows[-1]["nominal"] == 2.0
    model = str(trained / "model")
    assert load_sound_model(model).prior is not None
    assert "## Bits" in (trained / "model" / "README.md").read_text()
    about = json.loads(
        run("sample", str(trained), "--count", "2", "--out", str(tmp_path / "drawn"), "--json")
    )
    assert [row["file"] for row in about["samples"]] == ["00000.wav", "00001.wav"]
    again = json.loads(
        run("sample", str(trained), "--count", "1", "--out", str(tmp_path / "again"), "--json")
    )
    assert again["samples"][0] == about["samples"][0]
    assert (tmp_path / "again/00000.wav").read_bytes() == (tmp_path / "drawn/00000.wav").read_bytes()
    packed = tmp_path / "a.cbd"
    run("compress", str(packed_sounds()[0]), "--model", model, "-o", str(packed))
    run("verify", str(packed), "--model", model)
    run("decompress", str(packed), "--model", model)
    assert (tmp_path / "a.cbd.wav").exists()


def test_a_seed_that_none_begins_from_is_refused(tmp_path: Path) -> None:
    code, _, err = call("sample", "default-speech", "--seed", "-1", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "seed is -1; it must be an int in 0" in err
    assert not (tmp_path / "out").exists()


def test_a_page_of_runs_of_which_one_lacks_a_figure(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    figures = json.loads((other / "final_metrics.json").read_text())
    for row in figures["held_out"].values():
        row["pesq"] = 1.5
    (other / "final_metrics.json").write_text(json.dumps(figures))
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    figures = json.loads((bare / "final_metrics.json").read_text())
    figures["held_out"] = {
        rate: {k: row[k] for k in ("mel", "si_sdr")} for rate, row in figures["held_out"].items()
    }
    (bare / "final_metrics.json").write_text(json.dumps(figures))
    page = audio.KIND.report([other, bare], tmp_path / "page.html")
    assert "PESQ, wide band at 2 kbit/s" in page.read_text()


def test_a_set_as_indices(trained: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    goal = tmp_path / "tokens"
    said = json.loads(run("tokenize", str(trained), "--data", f"folder:{PACK}", "--out", str(goal), "--json"))
    assert said["train"]["recordings"] + said["test"]["recordings"] == len(packed_sounds())
    row = pyarrow.parquet.read_table(goal / "data" / "test.parquet").to_pylist()[0]
    clip = next(clip for clip in open_sounds(f"folder:{PACK}", 16_000).held_out if clip.name == row["key"])
    tokenizer = load_sound_model(trained / "model").tokenizer
    expected = tokenizer.encode(torch.from_numpy(clip.samples / 32768.0)[None], beam=4)[0]
    assert np.array_equal(np.array(row["indices"]).reshape(row["frames"], -1), expected.numpy())
    assert "split: test" in (goal / "README.md").read_text()

    # What is there is kept, what is missing written again, and another model's indices are not put beside these.
    kept, gone = goal / "data" / "train.parquet", goal / "data" / "test.parquet"
    before, bytes_before = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    words = ("--data", f"folder:{PACK}", "--out", str(goal))
    assert json.loads(run("tokenize", str(trained), *words, "--json")) == said
    assert kept.stat().st_mtime_ns == before
    assert gone.read_bytes() == bytes_before
    code, _, err = call("tokenize", "default-speech", *words)
    assert code == 2
    assert "model" in err

    code, _, err = call("tokenize", str(trained), *words, "--jobs", "2", "--long-side", "64")
    assert code == 2
    assert "--long-side, --jobs: not for sound" in err


def test_a_resumed_run_is_the_whole_one(trained: Path, tmp_path: Path) -> None:
    """The checkpoint of step 4 taken up in another folder ends in the same weights."""
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    for path in (other / "final_metrics.json", *(other / "checkpoints").glob("*-00000006-*")):
        path.unlink()
    shutil.rmtree(other / "model")
    train(other, 6, "--resume")
    first, second = (load_sound_model(folder / "model").tokenizer.state_dict() for folder in (trained, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_batches_depend_on_seed_and_step_alone() -> None:
    sounds = open_sounds(f"folder:{PACK}", 16_000)
    one, again, other = (sounds.batch(seed, 3, 2, 8000) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert np.array_equal(one.numpy(), np.rint(one.numpy()))


@pytest.mark.parametrize(("there", "judged"), [(19, 10), (10, 10), (7, 7), (25, 10)])
def test_judged_recordings_are_spread_over_all(there: int, judged: int) -> None:
    clips = [Clip(str(at), np.zeros(3 * 16_000, dtype=np.int16)) for at in range(there)]
    found = [int(clip.name) for clip in SoundSet("a", "a", 16_000, clips[:1], clips).judged(10)]
    assert len(set(found)) == judged
    assert found == sorted(found)
    assert found[-1] >= there - 1 - there // judged


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accepted: speech, sonic-pi, folder:PATH, hf:NAME"):
        open_sounds("music", 16_000)
    with pytest.raises(InputError, match="holds no file of sound"):
        open_sounds(f"folder:{tmp_path}", 16_000)
    with pytest.raises(InputError, match="sample_rate=44100"):
        open_sounds("speech", 44_100)


def test_a_bad_file_in_a_folder_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "bad.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"bad\.wav: the sound has samples that are not finite"):
        open_sounds(f"folder:{tmp_path}", 16_000)
    with pytest.raises(InputError, match="is not a folder; one with at least one file of sound is accepted"):
        open_sounds(f"folder:{tmp_path / 'bad.wav'}", 16_000)


def test_a_network_has_its_own_settings() -> None:
    """The hop of a Seanet is what its strides make, odd ones too; its block at least what it looks at."""
    seanet = {"network": "seanet", "dim": 8}
    for strides, block in (((3, 5, 7), 10), ((2, 2, 2), 11), ((4, 5, 8), 10)):
        settings = config.with_overrides(
            config.build(audio.Settings, {**seanet, "strides": strides}), ["stages=2"]
        )
        assert settings.hop == np.prod(strides)
        assert "hop" not in settings.model_fields_set
        torch.manual_seed(3)
        tokenizer = audio.untrained(settings)
        assert (tokenizer.hop, tokenizer.block) == (settings.hop, block)
        config.part(FrameCodeSettings, settings)

        # The reach is found without drawing numbers: weights are those of the seed.
        torch.manual_seed(3)
        again = SeanetConfig(strides=strides).built(8)
        assert tokenizer.seanet is not None
        assert all(
            torch.equal(a, b) for a, b in zip(tokenizer.seanet.parameters(), again.parameters(), strict=True)
        )
    for wrong, said in (
        ({**seanet, "width": 8}, "width=8 does nothing with network=seanet"),
        ({**seanet, "whitening": 0.5}, "whitening=0.5 does nothing with network=seanet"),
        ({**seanet, "hop": 160}, r"hop=160: the strides \[2, 4, 5, 8\] make 320"),
        ({"strides": (4, 5, 8)}, r"strides=\(4, 5, 8\) does nothing with network=spectral"),
        ({"causal": False}, "causal=False does nothing with network=spectral"),
        ({"commitment": 0.5}, "commitment=0.5 does nothing with network=spectral"),
        ({"hop": 105}, "hop=105: a transform takes an even number"),
        ({"fresh": True}, "fresh=True does nothing without a run"),
        ({"width": 10**9}, "width=1000000000"),
    ):
        with pytest.raises(InputError, match=said):
            config.build(audio.Settings, wrong)


def test_a_seanet_from_training_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network from samples to samples: trained, resumed, with a prior, as a file and drawn from."""
    out, other = tmp_path / "run", tmp_path / "other"
    sets = ("--set", "network=seanet", "--set", "strides=[4,5,8]", "--set", "channels=4")
    other_network = ("hop", "width", "hidden", "blocks")
    train(out, 6, *sets, but=other_network)
    figures = json.loads((out / "final_metrics.json").read_text())
    assert set(figures["held_out"]) == {"0.5", "1", "2"}
    again = json.loads(run("eval", str(out), "--json"))
    assert again["held_out"] == figures["held_out"]

    shutil.copytree(out, other)
    for path in (other / "final_metrics.json", *(other / "checkpoints").glob("*-00000006-*")):
        path.unlink()
    shutil.rmtree(other / "model")
    train(other, 6, *sets, "--resume", but=other_network)
    first, second = (load_sound_model(folder / "model").tokenizer.state_dict() for folder in (out, other))
    assert all(torch.equal(first[name], second[name]) for name in first)

    monkeypatch.setattr(audio_priors, "SEGMENTS", 20)
    run("fit-prior", str(out), "--steps", "3", "--hidden", "8", "--json")
    run("sample", str(out), "--count", "1", "--out", str(tmp_path / "drawn"), "--json")
    model, packed = str(out / "model"), tmp_path / "a.cbd"
    run("compress", str(packed_sounds()[0]), "--model", model, "-o", str(packed))
    run("verify", str(packed), "--model", model)
    run("decompress", str(packed), "--model", model)
    assert (tmp_path / "a.cbd.wav").exists()
    code, _, err = call("train", "audio", str(out), "--steps", "2", "--out", str(tmp_path / "further"))
    assert code == 2
    assert "a Seanet's codebooks learn with it" in err
