"""Files of sound in compress, decompress, info and verify. What they call is imported inside them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from codebound.cli.batch import STREAM, Job, Outputs, Row
from codebound.cli.terminal import err, out, plain
from codebound.errors import InputError

if TYPE_CHECKING:
    from codebound.codec import SoundModel

START = 16  # bytes by which sound is known


def model(folder: Path | None) -> SoundModel | None:
    """The audio tokenizer in a folder; None for the one in the package."""
    from codebound import codec

    return None if folder is None or str(folder) == "default" else codec.load_sound_model(folder)


def may_be_sound(source: Path) -> bool:
    """Whether a file's name says that it is sound, or says nothing: it has no suffix, or comes from a pipe."""
    from codebound.data import sound_reading

    return source.suffix.lower() in ("", *sound_reading.SUFFIXES)


def is_sound(source: Path, stream: Any) -> bool:
    """Whether an open file is one of sound, by what it begins with, or by its name; what is read stays to be read."""
    from codebound.data import sound_reading

    if hasattr(stream, "peek"):
        start = stream.peek(START)[:START]
    else:
        start = stream.read(START)
        stream.seek(0)
    return sound_reading.is_sound(start) or source.suffix.lower() in sound_reading.SUFFIXES


def compress(
    job: Job,
    stream: Any,
    outputs: Outputs,
    chosen: SoundModel | None,
    bitrate: float | None,
    segment: float | None,
    trade: float | None,
) -> Row:
    """One file of sound, as it lies on the disk, or from a pipe."""
    from codebound import codec

    source = stream.read() if job.source == STREAM else job.source
    found = codec.compress_sound(source, model=chosen, bitrate=bitrate, segment=segment, trade=trade)
    if found.clipped:
        said = f"{job.source}: {found.clipped:,} samples beyond full scale were clipped"
        err.print(escape(said), highlight=False, soft_wrap=True)
    if found.missing:
        whole = found.samples + found.missing
        said = f"{job.source}: the file is cut off: {found.samples:,} of {whole:,} samples"
        err.print(escape(said), highlight=False, soft_wrap=True)
    outputs.write(job.goal, found.data)
    seconds = found.samples / found.sample_rate
    return {
        "file": str(job.goal),
        "seconds": round(seconds, 3),
        "sample_rate": found.sample_rate,
        "channels": found.channels,
        "bytes": len(found.data),
        "kbit_per_s": round(8 * len(found.data) / seconds / 1000, 3),
    }


def decompress(
    job: Job, data: bytes, outputs: Outputs, chosen: SoundModel | None, start: str | None, end: str | None
) -> Row:
    """One file of sound to WAV, or to what the suffix says."""
    from codebound import codec
    from codebound.data.sound_output import sound_format

    goal = job.goal if job.asked or job.goal == STREAM else job.goal.with_suffix(".wav")
    form = sound_format(Path() if goal == STREAM else goal)
    outputs.check(goal)
    found = codec.decompress_sound(
        data,
        model=chosen,
        start=seconds("--from", start or "0"),
        end=None if end is None else seconds("--to", end),
    )
    if goal == STREAM:
        form.write(sys.stdout.buffer, found.blocks, found.samples, found.sample_rate, found.channels)
        sys.stdout.buffer.flush()
    else:
        with outputs.writing(goal) as stream:
            form.write(stream, found.blocks, found.samples, found.sample_rate, found.channels)
    return {
        "file": str(goal),
        "seconds": round(found.samples / found.sample_rate, 3),
        "sample_rate": found.sample_rate,
        "channels": found.channels,
        "written as": form.said,
    }


def seconds(option: str, text: str) -> float:
    """A time: 12.5, 12.5s or 1:02:03.5.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?s?", text):
        raise InputError(f"{option} is {text!r}; a time is accepted: 12.5, 12.5s, 1:02:03")
    total = 0.0
    for part in text.rstrip("s").split(":"):
        total = 60 * total + float(part)
    return total


def show(file: Path, data: bytes, as_json: bool) -> None:
    """What is in a file of sound."""
    from codebound import codec

    report = codec.inspect_sound(data)
    if as_json:
        plain(json.dumps({"kind": "sound", **report._asdict()}, indent=2))
        return
    length = report.samples / report.sample_rate
    shown = Table("part", "value", title=escape(str(file)))
    shown.add_row("kind", "sound")
    shown.add_row("model", report.model)
    channels = "mono" if report.channels == 1 else "stereo"
    shown.add_row(
        "sound", f"{length:,.3f} s, {channels}: {report.samples:,} samples of {report.sample_rate:,} Hz"
    )
    shown.add_row(
        "indices", f"{report.frames:,} frames of {report.stages} indices below {report.codebook_size}"
    )
    shown.add_row("segments", f"{report.segments}: {', '.join(report.modes)}")
    shown.add_row("header", f"{report.overhead:,} bytes with checksums")
    shown.add_row("file", f"{report.bytes:,} bytes, {8 * report.bytes / length / 1000:.3f} kbit/s")
    out.print(shown)


def is_sound_file(data: bytes) -> bool:
    """Whether these are the bytes of a `.cbd` file of sound."""
    from codebound.coding import container, sound_container

    start = container.SIGNATURE + bytes([sound_container.VERSION])
    return data.startswith(start)
