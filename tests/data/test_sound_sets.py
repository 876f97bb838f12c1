"""Sets of sound: of a package of Debian, of a folder of mixed files, of a set that `datasets` reads."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from codebound.data import sound_sets
from codebound.data.sound_sets import open_sounds
from codebound.errors import InputError


def tone(seconds: float, rate: int, pitch: float, channels: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * pitch * (1 + 0.01 * c) * t) for c in range(channels)], axis=1)


def flac(samples: np.ndarray, rate: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="FLAC")
    return stream.getvalue()


def packed(files: dict[str, bytes]) -> bytes:
    """A package as Debian's are: an archive ar with one of tar in it."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    found = b"!<arch>\n"
    for name, data in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", inner.getvalue()),
    ):
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        found += head.encode() + data + b"\n" * (len(data) % 2)
    return found


def test_the_samples_of_sonic_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEBOUND_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"data=sonic-pi: sonic-pi-samples_.* is not in .* put the package there"
    ):
        open_sounds("sonic-pi", 24_000)

    # Another package is refused, the right one is read: at the rate asked for, channels mixed, a tenth held out.
    files = {
        f"./usr/samples/{n:02d}.flac": flac(tone(0.5, 44_100, 100 + 30 * n, 2), 44_100) for n in range(12)
    }
    data = packed(
        {
            **files,
            "./usr/README.md": b"no sound",
            "./usr/samples/short.flac": flac(tone(0.01, 44_100, 50), 44_100),
        }
    )
    place = tmp_path / "sonic-pi" / sound_sets.SONIC_PI
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    with pytest.raises(InputError, match="has SHA-256"):
        open_sounds("sonic-pi", 24_000)
    monkeypatch.setattr(sound_sets, "SONIC_PI_SHA256", hashlib.sha256(data).hexdigest())
    found = open_sounds("sonic-pi", 24_000)
    assert (len(found.train), len(found.held_out), found.sample_rate) == (11, 1, 24_000)
    assert {len(clip.samples) for clip in (*found.train, *found.held_out)} == {12_000}
    assert found.digest == open_sounds("sonic-pi", 24_000).digest


def test_a_folder_of_mixed_files(tmp_path: Path) -> None:
    """Rates, channels, depths and formats may differ; text beside them is passed over."""
    soundfile.write(tmp_path / "a.wav", tone(1, 44_100, 200, 2), 44_100, subtype="PCM_24")
    soundfile.write(tmp_path / "b.flac", tone(1, 48_000, 300), 48_000)
    soundfile.write(tmp_path / "c.wav", tone(1, 22_050, 400), 22_050, subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("passed over")
    for rate in (24_000, 44_100):
        found = open_sounds(f"folder:{tmp_path}", rate)
        clips = {clip.name: clip.samples for clip in (*found.train, *found.held_out)}
        assert sorted(clips) == ["a.wav", "b.flac", "c.wav"]
        assert {len(samples) for samples in clips.values()} == {rate}
        assert all(8_000 < np.abs(samples).max() < 11_000 for samples in clips.values())
    (tmp_path / "b.flac").unlink()
    (tmp_path / "c.wav").unlink()
    with pytest.raises(InputError, match=r"recordings of .*: 1 usable files of sound; at least 2 are needed"):
        open_sounds(f"folder:{tmp_path}", 24_000)


@pytest.mark.slow  # it imports datasets, an extra
def test_a_set_that_datasets_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 4), ("test", 2)):
        # As the hub stores it. From a folder of WAV files `datasets` itself needs torchcodec, and so says the refusal.
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        rows = [
            {"bytes": flac(tone(1, 44_100, 100 + 50 * n, 2), 44_100), "path": f"{n}.flac"}
            for n in range(count)
        ]
        table = pyarrow.table({"audio": pyarrow.array(rows, type=kind)})
        schema = datasets.Features({"audio": datasets.Audio()}).arrow_schema
        (tmp_path / "set").mkdir(exist_ok=True)
        path = tmp_path / "set" / f"{split}.parquet"
        pyarrow.parquet.write_table(table.replace_schema_metadata(schema.metadata), path)
    found = open_sounds(f"hf:{tmp_path / 'set'}", 24_000)
    assert (len(found.train), len(found.held_out)) == (4, 2)
    assert {len(clip.samples) for clip in found.train} == {24_000}
    monkeypatch.setattr(sound_sets, "HOURS", 2 / 3600)
    cut = open_sounds(f"hf:{tmp_path / 'set'}", 24_000)
    assert (len(cut.train), len(cut.held_out)) == (2, 1)
    assert cut.note.endswith("the first hours")
    tenth = open_sounds(f"hf:{tmp_path / 'set'}:test", 24_000)
    assert (len(tenth.train), len(tenth.held_out)) == (1, 1)
    with pytest.raises(InputError, match="can't be loaded"):
        open_sounds(f"hf:{tmp_path / 'none'}", 24_000)


class Table:
    """What is used of a table of `datasets`, without the package."""

    def __init__(self, column: str, rows: list[dict]) -> None:
        kind = type("Audio" if column == "audio" else "Value", (), {})
        self.features, self.rows = {column: kind()}, rows

    def cast_column(self, column: str, feature: object) -> list[dict]:
        return self.rows


def test_rows_of_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored as bytes or as a path; a row that can't be read is named, and so is a set without sound."""
    soundfile.write(tmp_path / "a.wav", tone(1, 16_000, 200), 16_000)
    rows = [
        {"audio": {"bytes": flac(tone(1, 44_100, 300, 2), 44_100), "path": None}},
        {"audio": {"bytes": None, "path": str(tmp_path / "a.wav")}},
    ]
    module = type("datasets", (), {"Audio": staticmethod(lambda decode: decode)})
    there = {
        "good": Table("audio", rows),
        "bad": Table("audio", [{"audio": {"bytes": b"odd", "path": None}}]),
    }
    there["text"] = Table("words", [])
    monkeypatch.setattr(sound_sets.hub, "loaded", lambda name: (module, name, there[name], there["good"]))
    found = open_sounds("hf:good", 24_000)
    assert [len(clip.samples) for clip in found.train] == [24_000, 24_000]
    assert found.note == "2 recordings of good of the Hugging Face hub, 2 others held out"
    with pytest.raises(InputError, match="data=hf:bad: row 0: the file is no sound"):
        open_sounds("hf:bad", 24_000)
    with pytest.raises(InputError, match="data=hf:text: no column of sound among words"):
        open_sounds("hf:text", 24_000)
