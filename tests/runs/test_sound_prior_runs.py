"""`codebound train prior RUN`, RUN being of an audio tokenizer: likelihood, sounds, and sounds that go on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch
from commands import call
from test_audio_runs import run
from test_audio_runs import train as train_audio

from codebound.data.sound_pack import PACK, packed_sounds
from codebound.errors import InputError
from codebound.runs import audio_priors
from codebound.runs.audio_tokenise import SCHEMA, read_split
from codebound.runs.sound_prior import load_run
from codebound.runs.sound_prior_sampling import given_frames
from codebound.sound.frames import ResidualCode
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.audio_config import SeanetConfig

SMALL = [
    word
    for text in ("width=16", "heads=2", "depth=1", "hidden=16", "window=20", "batch_size=2", "held_out=4", "lr=0.01",
                 "warmup=5")
    for word in ("--set", text)
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audio") / "run"
    train_audio(out, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_priors, "SEGMENTS", 20)
        run("fit-prior", str(out), "--steps", "3", "--hidden", "8")
    return out


@pytest.fixture(scope="module")
def trained(tokenizer: Path) -> Path:
    out = tokenizer.parent / "prior"
    run("train", "prior", str(tokenizer), "--steps", "40", *SMALL, "--out", str(out))
    return out


def test_the_likelihood_stands_beside_the_integer_prior(trained: Path) -> None:
    held_out = json.loads((trained / "final_metrics.json").read_text())["held_out"]
    assert held_out["bits_per_token"] < 0.97 * held_out["nominal_bits"] == 0.97 * 5.0
    assert held_out["kbit"] == pytest.approx(held_out["bits_per_token"] * 4 * 100 / 1000)
    assert len(held_out["by_stage"]) == len(held_out["integer_by_stage"]) == 4
    assert held_out["integer_bits"] == pytest.approx(np.mean(held_out["integer_by_stage"]), abs=1e-3)
    again = json.loads(run("eval", str(trained), "--json"))
    assert again["held_out"] == held_out
    assert held_out["bits_per_token_low"] < held_out["bits_per_token"] < held_out["bits_per_token_high"]
    page = (trained / "report.html").read_text()
    assert "data:audio/wav;base64," in page
    assert "by the tokenizer&#39;s integer prior" in page or "by the tokenizer's integer prior" in page
    assert "| bits per index |" in (trained / "model" / "README.md").read_text()
    assert "sound-prior" in run("runs", str(trained.parent))


def test_sounds_from_nothing(trained: Path, tmp_path: Path) -> None:
    words = ("--seconds", "0.6", "--seed", "3", "--json")
    about = json.loads(run("sample", str(trained), "--count", "2", "--out", str(tmp_path / "two"), *words))
    assert [row["file"] for row in about["samples"]] == ["00000.wav", "00001.wav"]
    assert about["indices"] == 60 * 4
    samples, rate = soundfile.read(tmp_path / "two" / "00000.wav")
    assert (len(samples), rate) == (59 * 160, 16_000)
    one = json.loads(run("sample", str(trained), "--count", "1", "--out", str(tmp_path / "one"), *words))
    assert one["samples"] == about["samples"][:1]
    assert "bits an index" in run("sample", str(trained), "--count", "1", "--out", str(tmp_path / "said"))


def test_a_recording_goes_on(trained: Path, tmp_path: Path) -> None:
    """It begins as its tokenizer decodes it, but for the frame where the new sound begins."""
    source = packed_sounds()[0]
    words = ("--from", str(source), "--seconds", "0.5", "--count", "1", "--json")
    about = json.loads(run("sample", str(trained), "--out", str(tmp_path / "on"), *words))
    _, tokenizer = load_run(trained)
    known = given_frames(tokenizer, source)
    assert about["given_seconds"] == pytest.approx(len(known) / 100)
    samples, _ = soundfile.read(tmp_path / "on" / "00000.wav", dtype="int16")
    assert len(samples) == (len(known) + 50 - 1) * 160
    expected = tokenizer.decode(known[None])[0].numpy()
    kept = (len(known) - 2 * tokenizer.block - tokenizer.context) * 160
    assert kept > 0
    assert np.abs(samples[:kept] / 32768 - expected[:kept]).max() < 2 / 32768

    # Known frames see nothing behind the recording: what is put there does not change them.
    wave, rate = soundfile.read(source, dtype="int16")
    soundfile.write(tmp_path / "longer.wav", np.concatenate([wave, wave[:1000]]), rate)
    assert torch.equal(given_frames(tokenizer, tmp_path / "longer.wav")[: len(known)], known)


@pytest.mark.parametrize("causal", [True, False])
def test_known_frames_of_a_network_see_nothing_behind_the_recording(causal: bool, tmp_path: Path) -> None:
    """Also at another rate, whose change looks ahead; one frame more would see something."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    code = ResidualCode(
        rng.integers(-127, 128, (2, 64, 8)).astype(np.int8), np.array([20, 10], dtype=np.int32)
    )
    network = SeanetConfig(channels=4, strides=(5, 8), causal=causal)
    tokenizer = AudioTokenizer(code, network=network, block=12).eval()
    wave = rng.normal(0, 5000, 4000).clip(-32768, 32767).astype(np.int16)
    for rate, cut in ((16_000, 3000), (22_050, 3003)):
        soundfile.write(tmp_path / "a.wav", wave[:cut], rate)
        soundfile.write(tmp_path / "b.wav", wave, rate)
        known, longer = (given_frames(tokenizer, tmp_path / name) for name in ("a.wav", "b.wav"))
        assert torch.equal(known, longer[: len(known)])
        samples = cut * 16_000 / rate
        assert samples / 40 - len(known) < 1 + tokenizer.edges.after + (rate != 16_000)


def test_a_set_that_an_earlier_version_wrote_is_refused(tmp_path: Path) -> None:
    """So is one without recordings."""
    for name, metadata, rows, said in (
        (
            "old",
            None,
            [{"frames": 1, "indices": [1, 2]}],
            "an earlier version wrote it: run codebound tokenize again",
        ),
        ("empty", {"codes": "x"}, [], "has 0 recordings"),
        (
            "odd",
            {"codes": "x"},
            [{"frames": 1, "indices": [1, 2]}, {"frames": 1, "indices": [1]}],
            "as many stages",
        ),
    ):
        schema = SCHEMA.with_metadata(metadata)
        (tmp_path / name / "data").mkdir(parents=True)
        table = pyarrow.Table.from_pylist(rows, schema=schema)
        pyarrow.parquet.write_table(table, tmp_path / name / "data" / "train.parquet")
        with pytest.raises(InputError, match=said):
            read_split(tmp_path / name, "train")


def test_a_run_needs_nothing_but_its_folder(tokenizer: Path, tmp_path: Path) -> None:
    """Neither its tokenizer's run to be judged, nor more than one segment to be written as JSON."""
    shutil.copytree(tokenizer, tmp_path / "codes")
    words = ("--steps", "2", *SMALL, "--set", "held_out=1", "--out", str(tmp_path / "prior"))
    run("train", "prior", str(tmp_path / "codes"), *words)
    shutil.rmtree(tmp_path / "codes")
    text = (tmp_path / "prior" / "final_metrics.json").read_text()
    assert "NaN" not in text
    again = json.loads(run("eval", str(tmp_path / "prior"), "--json"))
    assert again["held_out"] == json.loads(text)["held_out"]
    assert "integer_bits" in again["held_out"]


def test_what_is_refused(trained: Path, tokenizer: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(20), 16_000)
    out = str(tmp_path / "out")
    for words, said in (
        (("sample", str(trained), "--out", out, "--class", "cat"), "--class: not for this prior of sound"),
        (("sample", str(trained), "--out", out, "--from", str(short)), "are too short"),
        (("sample", str(trained), "--out", out, "--from", str(tmp_path / "no.wav")), "no.wav"),
        (("sample", str(trained), "--out", out, "--seconds", "0"), "seconds"),
        (("sample", str(trained), "--out", str(trained)), "holds something already"),
        (
            ("sample", str(tokenizer), "--out", out, "--seconds", "2"),
            "--seconds: not for this prior of sound",
        ),
        (("sample", "default", "--out", out, "--seconds", "2"), "draws pictures"),
        (("train", "prior", str(tokenizer), "--kind", "masked", "--out", out), "prior"),
        (("train", "prior", str(tokenizer / "model"), "--out", out), "say what to learn from with --data"),
    ):
        code, _, err = call(*words)
        assert code == 2, words
        assert said in err
    assert not Path(out).exists()


def test_a_tokenised_set_serves_as_well(tokenizer: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    run("tokenize", str(tokenizer), "--data", f"folder:{PACK}", "--out", str(tokens))
    out = tmp_path / "prior"
    run("train", "prior", str(tokenizer), "--data", str(tokens), "--steps", "4", *SMALL, "--out", str(out))
    figures = json.loads((out / "final_metrics.json").read_text())
    assert figures["data"] == f"{len(packed_sounds()) - 1} rows of tokens"

    # Resumed, it ends in the same weights.
    other = tmp_path / "other"
    again = ("--data", str(tokens), *SMALL, "--set", "checkpoint_every=2")
    run("train", "prior", str(tokenizer), "--steps", "4", *again, "--out", str(other))
    before = load_run(other)[0].state_dict()
    for path in (other / "final_metrics.json", *(other / "checkpoints").glob("*-00000004-*")):
        path.unlink()
    shutil.rmtree(other / "model")
    run("train", "prior", "--resume", "--out", str(other))
    assert all(torch.equal(value, before[name]) for name, value in load_run(other)[0].state_dict().items())

    # Indices of other codes are refused.
    code, _, err = call(
        "train",
        "prior",
        "default-speech",
        "--data",
        str(tokens),
        "--steps",
        "2",
        "--out",
        str(tmp_path / "no"),
    )
    assert code == 2
    assert "has indices of the codes" in err
