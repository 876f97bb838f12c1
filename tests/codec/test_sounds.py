"""Files of sound: there and back, by pieces, by parts, and what is refused."""

import io
import itertools
import os
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sound_stranger
import soundfile
from machines import output
from PIL import Image
from typer.testing import CliRunner

from codebound import codec
from codebound.cli.main import app
from codebound.codec import CodecError, DamagedFile, SoundModel, SoundWriter, WrongModel, load_sound_model
from codebound.codec.sound_segments import checksum
from codebound.codec.sounds import segment_indices, sound_indices
from codebound.coding import sound_container
from codebound.data.sound_pack import PACK, packed_sounds
from codebound.errors import InputError
from codebound.tokenizers.audio import AudioTokenizer

RATE = 16_000
GOLDEN = Path(__file__).parent / "golden_sounds"


@pytest.fixture(scope="module")
def model() -> SoundModel:
    """A small model whose network does something."""
    return load_sound_model(GOLDEN / "model")


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(0, 4000, (channels, samples))).clip(-32768, 32767)


def written(
    model: SoundModel, samples: np.ndarray, piece: int | None = None, rate: int = RATE, **more
) -> bytes:
    writer = SoundWriter(rate, len(samples), model=model, **more)
    piece = piece or samples.shape[1]
    parts = [writer.push(samples[:, at : at + piece]) for at in range(0, samples.shape[1], piece)]
    return b"".join([*parts, writer.finish()])


def decoded(data: bytes, model: SoundModel, **more) -> np.ndarray:
    found = codec.decompress_sound(data, model=model, **more)
    blocks = np.concatenate(list(found.blocks))
    assert blocks.shape == (found.samples, found.channels)
    return blocks


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
@pytest.mark.parametrize("piece", [1, 7, 320, 4001])
def test_pieces_give_the_same_bytes(model: SoundModel, piece: int, rate: int, channels: int) -> None:
    samples = noise(1500 if piece == 1 else 9000, channels)
    for trade in (0.0, 1.0):
        data = written(model, samples, rate=rate, trade=trade)
        assert written(model, samples, piece, rate, trade=trade) == data


def test_every_length_modulo_the_hop_comes_back(model: SoundModel) -> None:
    for samples in (1, 2, 31, 32, 33, *range(640, 640 + 33)):
        assert len(decoded(written(model, noise(samples)), model)) == samples


def test_the_nominal_rate_of_so_many_stages_asks_for_them() -> None:
    """Also where K is no power of two: log2 600 is 9.23 bits, not 10."""
    sizes = {"sample_rate": RATE, "hop": 32, "dim": 4, "stages": 16, "codebook_size": 600}
    tokenizer = AudioTokenizer.from_config({**sizes, "block": 20, "context": 6, "network": None})
    model = SoundModel(tokenizer)
    assert tokenizer.kbit(1) == pytest.approx(500 * np.log2(600) / 1000)
    assert [model.stages(tokenizer.kbit(stages)) for stages in range(1, 17)] == list(range(1, 17))


@pytest.mark.parametrize("rate", [16_000, 44_100, 11_025])
def test_a_part_is_that_part_of_the_whole(model: SoundModel, rate: int) -> None:
    data = written(model, noise(7 * rate, 2), rate=rate)
    whole = decoded(data, model)
    for start, end in ((0.0, 0.01), (1.99, 2.01), (2.5, 5.75), (6.9, None), (0.0, 99.0)):
        part = decoded(data, model, start=start, end=end)
        assert np.array_equal(part, whole[round(start * rate) : None if end is None else round(end * rate)])


@pytest.mark.parametrize("seconds", [0.5, 1.0, 100.0])
def test_segments_as_long_as_asked_hold_the_same(model: SoundModel, seconds: float) -> None:
    """Fewer of them cost fewer bytes; indices, samples and parts stay, and other lengths than one are refused."""
    if seconds == 100.0:
        with pytest.raises(CodecError, match=r"segment is 100; up to .* seconds are accepted"):
            written(model, noise(100), segment=seconds)
        return
    samples = noise(7 * RATE)
    usual, data = written(model, samples), written(model, samples, segment=seconds)
    report, before = codec.inspect_sound(data), codec.inspect_sound(usual)
    assert report.segments > before.segments
    more = report.segments - before.segments
    assert (report.overhead - before.overhead) / more == pytest.approx(12, abs=1)
    assert np.array_equal(sound_indices(data, model), sound_indices(usual, model))
    whole = decoded(usual, model)
    assert np.array_equal(decoded(data, model), whole)
    assert np.array_equal(
        decoded(data, model, start=2.9, end=6.5), whole[round(2.9 * RATE) : round(6.5 * RATE)]
    )
    assert written(model, samples, 4001, segment=seconds) == data

    # Segments of a file are of one length.
    contents = sound_container.unpack(data)
    head = contents.header.pack()
    first, second, *others = contents.segments
    halves = [first._replace(frames=first.frames - 1), second._replace(frames=second.frames + 1), *others]
    parts = [sound_container.pack_segment(part, head, n) for n, part in enumerate(halves)]
    forged = head + b"".join(parts) + sound_container.pack_end(contents.samples, head, len(parts))
    with pytest.raises(DamagedFile, match="segments of unequal length"):
        codec.verify_sound(forged, model=model)


def test_longer_segments_make_a_smaller_file() -> None:
    """With the model in the package, which has 50 frames a second: one of 10 seconds in place of several of 2."""
    sound = packed_sounds()[0]
    usual, data = (codec.compress_sound(sound, segment=seconds).data for seconds in (None, 10.0))
    assert len(data) < len(usual)
    assert codec.inspect_sound(data).segments == 1 < codec.inspect_sound(usual).segments
    assert np.array_equal(sound_indices(data), sound_indices(usual))
    part, whole = (
        np.concatenate(list(codec.decompress_sound(d, start=1.0, end=3.0).blocks)) for d in (data, usual)
    )
    assert np.array_equal(part, whole)


def test_a_segment_of_no_time_is_refused(model: SoundModel) -> None:
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="segment"):
            written(model, noise(100), segment=seconds)


def test_equal_channels_are_coded_once(model: SoundModel) -> None:
    one = noise(5000)
    both = np.concatenate([one, one])
    mono, stereo = written(model, one), written(model, both)
    assert len(written(model, both, trade=1.0)) == len(written(model, one, trade=1.0))
    assert len(stereo) == len(mono)
    assert np.array_equal(decoded(stereo, model), np.repeat(decoded(mono, model), 2, axis=1))


def test_the_prior_saves_bytes_and_is_needed(model: SoundModel) -> None:
    samples = noise(60_000, seed=7)
    data = written(model, samples)
    assert codec.inspect_sound(data).modes == ("prior",)
    bare = SoundModel(model.tokenizer)
    assert len(data) < 0.95 * len(written(bare, samples))
    with pytest.raises(WrongModel):
        codec.verify_sound(data, model=bare)


def test_bits_that_count_are_fewer(model: SoundModel) -> None:
    """The more they count, the smaller the file; without a prior there is nothing to count by."""
    samples = noise(20_000)
    files = [written(model, samples, trade=trade) for trade in (0.0, 0.5, 1.0, 2.0)]
    assert len(files[0]) > len(files[1]) > len(files[2]) > len(files[3])
    assert codec.verify_sound(files[2], model=model) == sound_indices(files[0], model).size
    bare = SoundModel(model.tokenizer)
    assert written(bare, samples, trade=1.0) == written(bare, samples, trade=0.0)
    for wrong in (-1.0, float("nan"), 101.0):
        with pytest.raises(InputError, match="trade is"):
            written(model, samples, trade=wrong)


WEIGHED = """
import sys
from pathlib import Path
from codebound.codec import compress_sound
Path(sys.argv[2]).write_bytes(compress_sound(Path(sys.argv[1]), trade=0.6).data)
"""


@pytest.mark.parametrize(("threads", "kernel"), [(4, "avx512"), (1, "avx2"), (2, "sse")])
def test_what_bits_weigh_is_the_same_on_every_machine(tmp_path: Path, threads: int, kernel: str) -> None:
    sound, goal = packed_sounds()[0], tmp_path / "sound.cbd"
    output(WEIGHED, [str(sound), str(goal)], threads, kernel)
    assert goal.read_bytes() == codec.compress_sound(sound, trade=0.6).data


def test_bits_weigh_from_the_command_line(tmp_path: Path) -> None:
    source, goals = packed_sounds()[0], [tmp_path / f"{trade}.cbd" for trade in (0, 1)]
    for trade, goal in enumerate(goals):
        run("compress", source, "-o", goal, "--trade", trade)
    assert goals[0].read_bytes() == codec.compress_sound(source, trade=0.0).data
    assert goals[1].read_bytes() == codec.compress_sound(source, trade=1.0).data
    # A name without suffix says nothing; what the file begins with does.
    bare = tmp_path / "bare"
    bare.write_bytes(source.read_bytes())
    run("compress", bare, "-o", tmp_path / "b.cbd", "--trade", 1)
    assert (tmp_path / "b.cbd").read_bytes() == goals[1].read_bytes()
    said = run("compress", source, "-o", tmp_path / "c.cbd", "--trade", "-1", ok=False).output
    assert "trade is -1" in said


def test_fewer_stages_are_smaller_files(model: SoundModel) -> None:
    samples = noise(20_000)
    sizes = [len(written(model, samples, bitrate=kbit)) for kbit in (2.0, 4.0, 6.0, 8.0)]
    assert sizes == sorted(sizes)
    assert codec.inspect_sound(written(model, samples, bitrate=4.0)).stages == 2
    with pytest.raises(CodecError, match=r"bitrate is 9\.5; 2 … 8 kbit/s"):
        written(model, samples, bitrate=9.5)


def test_indices_are_those_of_the_tokenizer(model: SoundModel) -> None:
    import torch

    samples = noise(10_000)
    contents = sound_container.unpack(written(model, samples))
    found = np.concatenate(
        [segment_indices(contents, n, model) for n in range(len(contents.segments))], axis=1
    )
    expected = model.tokenizer.encode(torch.from_numpy(samples / 32768), beam=4)
    assert np.array_equal(found, expected.numpy())
    batch = model.tokenizer.encode(
        torch.from_numpy(np.concatenate([samples, samples[:, ::-1]]) / 32768), beam=4
    )
    assert torch.equal(batch[:1], expected)


def test_decoding_in_pieces_is_decoding_at_once(model: SoundModel) -> None:
    import torch

    tokenizer = model.tokenizer
    indices = tokenizer.encode(torch.from_numpy(noise(6000, 2) / 32768))
    whole = tokenizer.decode(indices)
    for row, expected in zip(indices.numpy(), whole, strict=True):
        for piece in (1, 7, 33):
            decoder = tokenizer.decoder()
            parts = [decoder.push(row[at : at + piece]) for at in range(0, len(row), piece)]
            again = np.concatenate([*parts, decoder.flush()])[: len(expected)]
            assert np.array_equal(again, expected.numpy())


def test_latency_is_what_the_page_says() -> None:
    """40 ms of sound for a frame; a block, a frame and the context for the first samples."""
    tokenizer = codec.default_sound_model().tokenizer
    encoder = tokenizer.encoder()
    counts = [len(encoder.push(np.zeros(tokenizer.hop))) for _ in range(3)]
    assert counts == [1, 1, 1]  # the first frame begins a hop before the sound
    decoder = tokenizer.decoder()
    frame = np.zeros((1, len(tokenizer.codebook_sizes)), dtype=np.int64)
    first = next(n for n in range(1, 200) if len(decoder.push(frame)))
    assert first == tokenizer.block + 1 + tokenizer.context == 61


def test_damage_stays_within_its_segment(model: SoundModel) -> None:
    data = written(model, noise(10 * RATE))
    contents = sound_container.unpack(data)
    assert len(contents.segments) == 5

    # Segments in another order, or from another file, are not taken for these.
    head = contents.header.pack()
    swapped = [contents.segments[at] for at in (1, 0, 2, 3, 4)]
    end = data[-sound_container_end(data) :]
    parts = [sound_container.pack_segment(s, head, n) for n, s in enumerate(contents.segments)]
    assert head + b"".join(parts) + end == data
    reordered = [
        sound_container.pack_segment(s, head, n) for n, s in zip((1, 0, 2, 3, 4), swapped, strict=True)
    ]
    with pytest.raises(DamagedFile, match="checksum"):
        sound_container.unpack(head + b"".join(reordered) + end)


def sound_container_end(data: bytes) -> int:
    contents = sound_container.unpack(data)
    return len(sound_container.pack_end(contents.samples, contents.header.pack(), len(contents.segments)))


def test_any_changed_byte_is_found(model: SoundModel) -> None:
    data = written(model, noise(3000))
    for at, bit in itertools.product(range(len(data)), (0, 5)):
        changed = bytearray(data)
        changed[at] ^= 1 << bit
        with pytest.raises(CodecError):
            codec.verify_sound(bytes(changed), model=model)
    for cut in range(0, len(data), 7):
        with pytest.raises(CodecError):
            codec.verify_sound(data[:cut], model=model)
    with pytest.raises(DamagedFile, match="goes on for 1 bytes"):
        codec.verify_sound(data + b"x", model=model)


def test_wrong_indices_are_found_behind_right_bytes(model: SoundModel) -> None:
    data = written(model, noise(3000))
    contents = sound_container.unpack(data)
    head = contents.header.pack()
    first = contents.segments[0]
    wrong = first._replace(checksum=checksum(segment_indices(contents, 0, model)) ^ 1)
    parts = [sound_container.pack_segment(wrong, head, 0)]
    parts += [sound_container.pack_segment(s, head, n) for n, s in enumerate(contents.segments[1:], 1)]
    forged = head + b"".join(parts) + sound_container.pack_end(contents.samples, head, len(contents.segments))
    with pytest.raises(DamagedFile, match="its indices differ"):
        codec.verify_sound(forged, model=model)


def test_another_model_is_refused(model: SoundModel) -> None:
    with pytest.raises(WrongModel, match="was written with model"):
        codec.verify_sound(written(model, noise(3000)))


def run(*words: object, ok: bool = True, given: bytes | None = None):
    result = CliRunner().invoke(app, [str(word) for word in words], input=given)
    assert (result.exit_code == 0) == ok, result.output
    return result


def test_commands_there_and_back(tmp_path: Path) -> None:
    """Every kind of file in the package, and one of each other format, to files and back at the same length."""
    speech, music = packed_sounds()[0], PACK / "loop_tabla.flac"
    sound, rate = soundfile.read(speech)
    for suffix in (".wav", ".ogg", ".mp3", ".flac", ".aiff"):
        source = tmp_path / f"speech{suffix}"
        soundfile.write(source, sound[: 3 * rate], rate)
        run("compress", source, "-o", tmp_path / "one.cbd", "--force")
        run("decompress", tmp_path / "one.cbd", "-o", tmp_path / "again.wav", "--force")
        assert abs(soundfile.info(tmp_path / "again.wav").frames - soundfile.info(source).frames) == 0
    run("compress", music, "-o", tmp_path / "music.cbd")
    run("decompress", tmp_path / "music.cbd", "--from", "1.5s", "--to", "0:03", "-o", tmp_path / "part.flac")
    assert soundfile.info(tmp_path / "part.flac").frames == round(1.5 * 44_100)
    assert soundfile.info(tmp_path / "part.flac").channels == 2
    assert '"kind": "sound"' in run("info", tmp_path / "music.cbd", "--json").output
    assert "44,100 Hz" in run("info", tmp_path / "music.cbd").output
    run("verify", tmp_path)


def test_pipes(tmp_path: Path) -> None:
    given = packed_sounds()[0].read_bytes()
    packed = run("compress", "-", "-o", "-", given=given).stdout_bytes
    again = run("decompress", "-", "-o", "-", given=packed).stdout_bytes
    assert soundfile.info(io.BytesIO(again)).frames == soundfile.info(io.BytesIO(given)).frames


def test_a_folder_of_pictures_and_sound(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "picture.png")
    soundfile.write(folder / "sound.wav", np.zeros(4000), 16_000)
    (folder / "notes.txt").write_text("passed over")
    result = run("compress", folder, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["picture.cbd", "sound.cbd"]
    assert "passed over: notes.txt" in result.output
    run("decompress", tmp_path / "out")
    assert (tmp_path / "out" / "picture.cbd.png").exists()
    assert (tmp_path / "out" / "sound.cbd.wav").exists()


def _wav(samples: np.ndarray, rate: int, subtype: str) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples, rate, subtype=subtype, format="WAV")


def _film(path: Path) -> None:
    """A video without sound."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "no samples": (_wav(np.zeros(0), 16_000, "PCM_16"), "has no samples"),
    "not a number": (_wav(np.array([0.0, np.nan]), 16_000, "FLOAT"), "not finite"),
    "eight channels": (_wav(np.zeros((100, 8)), 16_000, "PCM_16"), "8 channels; mono and stereo"),
    "far too fast": (_wav(np.zeros(100), 384_000, "PCM_16"), "384,000 samples a second; 4,000 … 192,000"),
    "video only": (_film, "holds no sound"),
    "noise": (
        lambda path: path.write_bytes(b"RIFF\0\0\0\0WAVE" + bytes(range(200))),
        "no sound that can be read",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(tmp_path: Path, what: str) -> None:
    make, said = REFUSED[what]
    source = tmp_path / "sound.wav"
    make(source)
    result = run("compress", source, ok=False)
    assert said in " ".join(result.output.split()), result.output
    assert not source.with_suffix(".cbd").exists()


def test_what_is_unusual_is_taken(tmp_path: Path) -> None:
    """8 bits, 192 kHz, floats beyond full scale (which are clipped, and that is said)."""
    tone = 0.5 * np.sin(np.arange(8000) / 20)
    for name, samples, rate, subtype in (
        ("eight.wav", tone, 16_000, "PCM_U8"),
        ("fast.wav", tone, 192_000, "PCM_24"),
        ("loud.wav", 4 * tone, 16_000, "FLOAT"),
    ):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        result = run("compress", tmp_path / name)
        assert ("beyond full scale" in " ".join(result.output.split())) == (name == "loud.wav")
        run("decompress", tmp_path / f"{Path(name).stem}.cbd")
        with wave.open(str(tmp_path / f"{Path(name).stem}.cbd.wav")) as again:
            assert (again.getnframes(), again.getframerate()) == (8000, rate)


def test_a_file_that_is_cut_off_is_said_so(tmp_path: Path) -> None:
    source = tmp_path / "long.wav"
    soundfile.write(source, noise(32_000)[0] / 32_768, 16_000)
    whole = source.read_bytes()
    assert "cut off" not in run("compress", source, "-o", tmp_path / "whole.cbd").output

    # Half a header more than 478 samples; and a size that a stream writes, which knows no length.
    source.write_bytes(whole[:1001])
    assert "the file is cut off: 478 of 32,000 samples" in run("compress", source).output.replace("\n", " ")
    for size in (0, 0x7FFFF000, 0xFFFFFFFF):
        source.write_bytes(whole[:40] + size.to_bytes(4, "little") + whole[44:1001])
        assert "cut off" not in run("compress", source, "--force", ok=size > 0).output


@pytest.mark.parametrize("bitrate", ["nan", "inf", "-inf"])
def test_a_bitrate_is_a_number(tmp_path: Path, bitrate: str) -> None:
    result = run("compress", packed_sounds()[0], "-o", tmp_path / "a.cbd", "--bitrate", bitrate, ok=False)
    assert f"bitrate is {bitrate}; it must be a finite number" in result.output


def test_messages_name_what_the_user_gave(tmp_path: Path) -> None:
    """Nothing from stdin, and a rate that MP3 doesn't have: no object of Python's is shown."""
    assert "is empty" in run("compress", "-", ok=False, given=b"").output
    soundfile.write(tmp_path / "odd.wav", np.zeros(2000), 11_111)
    run("compress", tmp_path / "odd.wav")
    said = run("decompress", tmp_path / "odd.cbd", "-o", tmp_path / "d.mp3", ok=False).output
    assert "11111 samples a second" in said
    assert not any(word in said for word in ("_io", "unfinished"))


def refused(*words: object) -> str:
    return " ".join(run("compress", *words, ok=False).output.split())


def test_a_folder_of_both_kinds_takes_what_one_of_them_takes(tmp_path: Path) -> None:
    """Each picture is refused by its name, and the sound is written."""
    Image.new("RGB", (40, 40), (9, 200, 3)).save(tmp_path / "p.png")
    soundfile.write(tmp_path / "s.wav", np.zeros(2000), 16_000)
    assert "p.png: trade is 0.6" in refused(tmp_path, "--trade", "0.6")
    assert (tmp_path / "s.cbd").exists()
    run("compress", tmp_path / "s.wav", "-o", tmp_path / "named.cbd", "--model", "default-speech")
    run("compress", tmp_path / "s.wav", "-o", tmp_path / "usual.cbd")
    assert (tmp_path / "named.cbd").read_bytes() == (tmp_path / "usual.cbd").read_bytes()


def test_settings_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    source = packed_sounds()[0]
    assert (
        "--bitrate is accepted"
        in run("compress", source, "-o", tmp_path / "a.cbd", "--quality", 3, ok=False).output
    )
    picture = tmp_path / "p.png"
    Image.new("RGB", (40, 40), (9, 200, 3)).save(picture)
    for option in ("--bitrate", "--segment"):
        assert f"p.png: the file is a picture: --quality is accepted, {option} is not" in refused(
            picture, option, 3
        )
    assert "p.png: the file is a picture: --model default-speech is of sound" in refused(
        picture, "--model", "default-speech"
    )
    assert "a time is accepted" in _decompressed(tmp_path, "--from", "soon")
    assert "nothing lies between" in _decompressed(tmp_path, "--from", "99")


def _decompressed(folder: Path, *words: str) -> str:
    run("compress", packed_sounds()[2], "-o", folder / "b.cbd", "--force")
    return run("decompress", folder / "b.cbd", *words, ok=False).output


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.cbd")), ids=lambda path: path.stem)
def test_golden_files_decode_for_ever(model: SoundModel, path: Path) -> None:
    assert np.array_equal(sound_indices(path.read_bytes(), model), np.load(path.with_suffix(".npy")))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.cbd")), ids=lambda path: path.stem)
def test_a_stranger_decodes_it_from_the_page_alone(path: Path) -> None:
    found, samples = sound_stranger.read(path.read_bytes(), GOLDEN / "model")
    assert np.array_equal(np.array(found), np.load(path.with_suffix(".npy")))
    assert samples == 6000


def test_the_stranger_is_one() -> None:
    text = Path(sound_stranger.__file__).read_text()
    imported = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imported == [
        "from __future__ import annotations",
        "import zlib",
        "from pathlib import Path",
        "from typing import Any",
        "from stranger import Bytes, RangeDecoder, digit_sizes, exp2, frequencies, safetensors",
    ]


def test_an_encoder_gives_the_golden_indices(model: SoundModel) -> None:
    """On every machine, whatever its instructions: the encoder is of whole numbers."""
    samples = np.load(GOLDEN / "samples.npy").astype(np.float64)
    for path in sorted(GOLDEN.glob("*.cbd")):
        report = codec.inspect_sound(path.read_bytes())
        given = samples[: report.channels] if path.stem != "alike" else samples[[0, 0]]
        data = written(model, given, rate=report.sample_rate, bitrate=2.0 * report.stages)
        assert np.array_equal(sound_indices(data, model), np.load(path.with_suffix(".npy"))), path
    assert len(sorted(GOLDEN.glob("*.cbd"))) == 4


def test_threads_change_no_byte(tmp_path: Path) -> None:
    """One thread and four, in a process of their own each."""
    found = []
    for threads in (1, 4):
        goal = tmp_path / f"{threads}.cbd"
        command = [sys.executable, "-m", "codebound", "compress", str(packed_sounds()[0]), "-o", str(goal)]
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        found.append(goal.read_bytes())
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Thirty kills at any moment of a compression over an earlier file."""
    goal, source = tmp_path / "goal.cbd", packed_sounds()[0]
    run("compress", packed_sounds()[1], "-o", goal)
    old = goal.read_bytes()
    run("compress", source, "-o", tmp_path / "new.cbd")
    new = (tmp_path / "new.cbd").read_bytes()
    command = [sys.executable, "-m", "codebound", "compress", str(source), "-o", str(goal), "--force"]
    for number in range(30):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1 * number)
        process.kill()
        process.wait()
        assert goal.read_bytes() in (old, new)


@pytest.mark.slow
def test_a_thousand_random_lengths(model: SoundModel) -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        samples, rate = int(rng.integers(1, 9000)), int(rng.choice([8_000, 16_000, 22_050, 44_100, 48_000]))
        assert len(decoded(written(model, noise(samples), rate=rate), model)) == samples


@pytest.mark.slow
def test_two_hours_in_bounded_memory(tmp_path: Path) -> None:
    """Compressed and decompressed under 600 MB, as Linux counts; `ru_maxrss` would begin with what this process has."""
    piece = np.tile(soundfile.read(packed_sounds()[0], dtype="int16")[0], 10)
    source = tmp_path / "long.wav"
    with soundfile.SoundFile(source, "w", 16_000, 1) as stream:
        for _ in range(2 * 3600 * 16_000 // len(piece)):
            stream.write(piece)
    for command in (["compress", source], ["decompress", tmp_path / "long.cbd"]):
        text = (
            "import sys; from pathlib import Path; from codebound.cli import app\n"
            "try: app()\n"
            "finally: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0], file=sys.stderr)"
        )
        words = [sys.executable, "-c", text, *map(str, command)]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stderr
        assert int(said.split()[-1]) < 600_000, said
    assert soundfile.info(tmp_path / "long.cbd.wav").frames == soundfile.info(source).frames
