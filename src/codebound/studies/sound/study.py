"""The declaration of the study: one cell for each recording."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from codebound import config, extras
from codebound.codec.inspection import inspect_sound
from codebound.codec.other_sounds import CODEC2_MODES, G722_RATE, OtherSound, codec2, g722, opus
from codebound.codec.sound_model import SoundModel, default_sound_model, load_sound_model
from codebound.codec.sounds import MOST_TRADE, compress_sound, decompress_sound
from codebound.data.sound_sets import open_sounds
from codebound.data.speech import Clip
from codebound.errors import InputError
from codebound.evaluate import sounds as evaluation
from codebound.metrics import sound as metrics
from codebound.reporting import stock_figures
from codebound.runs.audio import wav
from codebound.sound.resampling import LOUDEST
from codebound.studies.framework import declare as fw
from codebound.studies.sound import ENTRY
from codebound.studies.sound.equal_bytes import gains

OURS, WEIGHED, OPUS, G722, CODEC2 = "codebound", "weighed", "opus", "g722", "codec2"
LOOKS = {
    OURS: fw.Look("codebound", "#0b63a5", emphasis=True),
    WEIGHED: fw.Look("codebound, bits weighed", "#0f766e", emphasis=True),
    OPUS: fw.Look("Opus", "#c2410c"),
    G722: fw.Look("G.722", "#4d7c0f"),
    CODEC2: fw.Look("Codec2", "#7e22ce"),
}
JUDGES = ("pesq", "stoi", "visqol", "si_sdr", "mel")
GAINS = ("pesq", "stoi", "visqol", "si_sdr")  # that are told at equal bytes


class Settings(config.Settings):
    """All that decides the study's numbers but the sound itself and the versions of the codecs."""

    data: str = "speech"
    model: str = ""  # a tokenizer's folder; by default the one in the package
    stages: tuple[int, ...] = Field(default=(3, 6, 8, 10, 12, 14, 16), min_length=1)
    opus: tuple[Annotated[int, Field(ge=1, le=510)], ...] = Field(
        default=(6, 9, 12, 16), min_length=1
    )  # kbit/s
    g722: bool = True  # at 16 kHz alone
    codec2: tuple[int, ...] = ()  # bit/s; needs the extra codec2
    # Above 0: files that weigh bits, beside the others.
    trade: float = Field(default=0.0, ge=0, le=MOST_TRADE)
    most: int = Field(default=24, ge=1)  # recordings
    visqol: bool = True


class SoundStudy(fw.Study[Settings]):
    """Our files of recordings that the model never saw, beside those of Opus."""

    entry, settings, unit, repeats = ENTRY, Settings, "recordings", "clip"
    claims_file = "claims.yaml"

    metrics = (
        fw.Metric("kbit", "Rate of the file", "kbit/s", better="less", digits=2),
        fw.Metric("payload", "Rate without container", "kbit/s", better="less", digits=2),
        fw.Metric("pesq", "PESQ, wide band", better="more", digits=2),
        fw.Metric("stoi", "STOI", better="more", digits=3),
        fw.Metric("visqol", "ViSQOL, lattice", better="more", digits=2),
        fw.Metric("si_sdr", "SI-SDR", "dB", better="more", digits=1),
        fw.Metric("mel", "Mel distance", better="less", digits=3),
        fw.Metric("saved", "Saved by the prior", "% of the nominal bits", better="more", digits=1),
        fw.Metric("encode_x", "Encoding", "times real time", better="more", digits=0),
        fw.Metric("decode_x", "Decoding", "times real time", better="more", digits=0),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        needed = ["pesq", "pystoi", *["ai_edge_litert", "visqol"] * settings.visqol]
        for name in needed:
            extras.imported(name, metrics.EXTRA, "codebound study sound")
        if settings.codec2:
            extras.imported("pycodec2", "codec2", "codebound study sound with codec2")
        model, clips = open_model(settings), open_clips(settings)
        most = len(model.tokenizer.codebook_sizes)
        if wrong := [stages for stages in settings.stages if not 1 <= stages <= most]:
            raise InputError(f"stages has {wrong[0]}; 1 … {most} are accepted")
        if wrong := [bits for bits in settings.codec2 if bits not in CODEC2_MODES]:
            raise InputError(f"codec2 has {wrong[0]}; {', '.join(map(str, CODEC2_MODES))} are accepted")
        content = b"".join(clip.name.encode() + clip.samples.tobytes() for clip in clips)
        return {"model": model.digest().hex(), "sounds": hashlib.sha256(content).hexdigest()[:12]}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        return [fw.Cell(f"clip-{at:03d}", {"clip": at}) for at in range(len(open_clips(settings)))]

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        clip, model = open_clips(settings)[cell["clip"]], open_model(settings)
        points = [_file(clip, model, stages, 0.0) for stages in settings.stages]
        if settings.trade:
            points += [_file(clip, model, stages, settings.trade) for stages in settings.stages]
        rate = model.tokenizer.sample_rate
        points += [_other(OPUS, kbit, clip, rate, opus(clip.samples, rate, kbit)) for kbit in settings.opus]
        if settings.g722 and rate == G722_RATE:
            points.append(_other(G722, 64, clip, rate, g722(clip.samples, rate)))
        points += [
            _other(CODEC2, bits, clip, rate, codec2(clip.samples, rate, bits)) for bits in settings.codec2
        ]
        for point in points:
            reference, made = clip.samples / LOUDEST, point.pop("samples")
            point |= evaluation.figures_of(reference.astype(np.float32), made.astype(np.float32), rate, True)
            if settings.visqol:
                point["visqol"] = metrics.visqol(reference, made)
        return {
            "name": clip.name,
            "seconds": len(clip.samples) / model.tokenizer.sample_rate,
            "points": points,
        }

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        for finished in run.cells.values():
            for point in finished["points"]:
                levels = {"codec": point["codec"], "setting": point["setting"], **finished.cell.factors}
                yield fw.Record(levels, {m.name: point[m.name] for m in self.metrics if m.name in point})

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        rows = list(means([point for cell in run.cells.values() for point in cell["points"]]))
        best = [row for row in rows if row["codec"] == OURS]
        others = [row for row in rows if row["codec"] == OPUS]
        last, words = best[-1], ""
        gained = []
        if run.settings.trade:
            names = [name for name in GAINS if name in last]
            gained = list(gains([cell["points"] for cell in run.cells.values()], WEIGHED, OURS, names))
        reached = aim = None
        if others:  # the rate at which our files are as good as Opus at its lowest
            aim = others[0]["pesq"].mean
            reached = rate_at(best, "pesq", aim)
            said = f"reach it at {reached:.2f} kbit/s" if reached else "don't reach it"
            words = (
                f"Opus at {others[0]['kbit'].mean:.2f} kbit/s has PESQ {aim:.2f}: files of codebound {said}. "
            )
        seconds = sum(float(cell["seconds"]) for cell in run.cells.values())
        return fw.Content(
            "What speech costs in bytes",
            answer=f"{words}At {last['kbit'].mean:.2f} kbit/s codebound has PESQ {last['pesq'].mean:.2f}.",
            sentences=[
                f"The prior saves {last['saved'].mean:.1f} % of the bits that the indices have by log2 K.",
                f"At its best, {last['kbit'].mean:.2f} kbit/s, STOI is {last['stoi'].mean:.3f}.",
                *(
                    f"Opus at {row['kbit'].mean:.2f} kbit/s has STOI {row['stoi'].mean:.3f}."
                    for row in others[:1]
                ),
            ],
            sections=[_table(rows), *_at_equal_bytes(gained), _curves(run.table, rows)],
            method=[
                f"{fw.count_text(len(run.cells), 'recording')}, {seconds:.0f} s in all, each coded by itself; "
                "rates are of the whole files, and of packets or streams alone under 'without container'.",
                "In brackets 95 % intervals over the recordings, of one voice.",
                "G.722 and Codec2 have no container; their delay is taken back by correlation. Codec2 is for 8 kHz.",
                "ViSQOL in speech mode with the lattice mapping; PESQ P.862.2.",
            ],
            results={
                "rows": [_plain(row) for row in rows],
                "gains": [_plain(row) for row in gained],
                "aim": aim,
                "rate_at_aim": reached,
            },
        )


STUDY = SoundStudy()


def open_clips(settings: Settings) -> tuple[Clip, ...]:
    """The recordings, spread over all that are held out."""
    return _clips(settings.data, open_model(settings).tokenizer.sample_rate, settings.most)


def open_model(settings: Settings) -> SoundModel:
    """The model that is judged."""
    return _model(settings.model) if settings.model else default_sound_model()


@lru_cache(maxsize=1)
def _clips(data: str, sample_rate: int, most: int) -> tuple[Clip, ...]:
    """Read once for all cells of a process."""
    return tuple(open_sounds(data, sample_rate).judged(most))


@lru_cache(maxsize=1)
def _model(folder: str) -> SoundModel:
    """The same of a model."""
    return load_sound_model(folder)


def rate_at(rows: Sequence[Mapping[str, Any]], name: str, aim: float) -> float | None:
    """The lowest rate of the files at which a figure is reached, straight between two settings; None if never."""
    for before, after in zip([None, *rows], rows, strict=False):
        if after[name].mean >= aim:
            if before is None:
                return float(after["kbit"].mean)
            share = (aim - before[name].mean) / (after[name].mean - before[name].mean)
            return float(before["kbit"].mean + share * (after["kbit"].mean - before["kbit"].mean))
    return None


def _file(clip: Clip, model: SoundModel, stages: int, trade: float) -> dict[str, Any]:
    """One of our files, and the time that it takes."""
    tokenizer = model.tokenizer
    rate, seconds = tokenizer.sample_rate, len(clip.samples) / tokenizer.sample_rate
    source, nominal = wav(clip.samples, rate), tokenizer.kbit(stages)
    began = time.process_time()
    data = compress_sound(source, model=model, bitrate=nominal, trade=trade).data
    coded = time.process_time()
    decoded = np.concatenate(list(decompress_sound(data, model=model).blocks))[:, 0]
    done = time.process_time()
    report = inspect_sound(data)
    bits = 8 * (report.bytes - report.overhead)
    indices = report.frames * sum(map(np.log2, tokenizer.codebook_sizes[:stages]))
    return {
        "codec": WEIGHED if trade else OURS,
        "setting": stages,
        "kbit": 8 * len(data) / seconds / 1000,
        "payload": bits / seconds / 1000,
        "saved": 100 * (1 - bits / float(indices)),
        "encode_x": seconds / max(coded - began, 1e-6),
        "decode_x": seconds / max(done - coded, 1e-6),
        "samples": decoded / LOUDEST,
    }


def _other(codec: str, setting: int, clip: Clip, rate: int, found: OtherSound) -> dict[str, Any]:
    """What another codec made of a recording."""
    seconds = len(clip.samples) / rate
    return {
        "codec": codec,
        "setting": setting,
        "kbit": 8 * found.bytes / seconds / 1000,
        "payload": 8 * found.payload / seconds / 1000,
        "samples": found.samples,
    }


def means(points: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each setting's figures as means with intervals over the recordings; a NaN is left out."""
    for codec, setting in dict.fromkeys((point["codec"], point["setting"]) for point in points):
        own = [point for point in points if (point["codec"], point["setting"]) == (codec, setting)]
        means = {
            metric.name: fw.mean_interval(point[metric.name] for point in own)
            for metric in STUDY.metrics
            if metric.name in own[0]
        }
        yield {"codec": codec, "setting": setting, **means}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for results.json; of one recording there is no interval."""
    return {name: _numbers(value) if isinstance(value, fw.Interval) else value for name, value in row.items()}


def _numbers(interval: fw.Interval) -> dict[str, float | None]:
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _table(rows: Sequence[Mapping[str, Any]]) -> fw.Section:
    names = [metric for metric in STUDY.metrics if any(metric.name in row for row in rows)]
    columns = [
        fw.Column("Codec", kind="text"),
        fw.Column("Setting"),
        *(fw.Column(f"{m.label}, {m.unit}" if m.unit else m.label, m.digits) for m in names),
    ]
    values = [
        [
            fw.Swatch(LOOKS[row["codec"]].colour, LOOKS[row["codec"]].name),
            row["setting"],
            *(row.get(m.name) for m in names),
        ]
        for row in rows
    ]
    note = "Setting: stages, kbit/s asked for, or bit/s of Codec2. In brackets 95 % intervals over the recordings."
    return fw.Section("By bytes", tables=[fw.ResultTable("By bytes", columns, values, note)])


def _at_equal_bytes(gained: Sequence[Mapping[str, Any]]) -> list[fw.Section]:
    """What weighing bits changes, where it was asked for and both searches have a rate in common."""
    if not gained:
        return []
    names = [metric for metric in STUDY.metrics if metric.name in gained[0] and metric.name != "kbit"]
    columns = [
        fw.Column("Rate of the file, kbit/s", 0),
        *(fw.Column(f"{m.label}, {m.unit}" if m.unit else m.label, (m.digits or 0) + 1) for m in names),
    ]
    values = [[row["kbit"], *(row[m.name] for m in names)] for row in gained]
    note = (
        "What is more where bits are weighed, paired by recording, straight between settings; 95 % intervals."
    )
    return [
        fw.Section("Bits weighed, at equal bytes", tables=[fw.ResultTable("Gain", columns, values, note)])
    ]


def _curves(table: fw.LongTable, rows: Sequence[Mapping[str, Any]]) -> fw.Section:
    # Codecs of 1 to 64 kbit/s in one figure.
    rates = [row["kbit"].mean for row in rows]
    draw = partial(
        stock_figures.rate_distortion,
        table,
        "kbit",
        series="codec",
        looks=LOOKS,
        rates=(0.8 * min(rates), 1.25 * max(rates)),
    )
    figures = [
        fw.Illustration(
            name, partial(draw, quality=name), f"{table.metric[name].label} against the rate of the file"
        )
        for name in ("pesq", "stoi")
    ]
    return fw.Section("Curves", "Further up and to the left is better.", figures)
