"""The declaration of the study: for each seed a cell of codes, and one for each arm of a decoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from codebound import extras
from codebound.metrics import sound as metrics
from codebound.reporting import stock_figures
from codebound.reporting.stock_figures import PALETTE
from codebound.studies.framework import declare as fw
from codebound.studies.sound_design import ENTRY
from codebound.studies.sound_design.codes import KNOWN
from codebound.studies.sound_design.measure import clips_of, measure_codes, measure_loss, sounds_of
from codebound.studies.sound_design.settings import LABELS, Settings

CODES = "codes"  # the name of a cell that is no arm of a decoder
NONE = "none"  # as an arm: before the first step
NAMES = {
    "residual": "residual codebooks",
    "product": "product codebooks",
    "table": "one table",
    "fsq": "FSQ's grid",
}
LOOKS = {name: fw.Look(label, PALETTE[at]) for at, (name, label) in enumerate(NAMES.items())}
QUALITY = ("pesq", "stoi", "si_sdr", "mel")


class SoundDesign(fw.Study[Settings]):
    """Codes at equal bits without a network; losses at equal steps and codes."""

    entry, settings, claims_file = ENTRY, Settings, "claims.yaml"
    metrics = (
        fw.Metric("nominal", "Nominal rate", "kbit/s", better="less", digits=2),
        fw.Metric("coded", "Rate under adaptive counts", "kbit/s", better="less", digits=2),
        fw.Metric("saved", "Saved by adaptive counts", "%", better="more", digits=1),
        fw.Metric("snr", "Signal to error of latents", "dB", better="more", digits=2),
        fw.Metric("behind", "Residual codebooks are nearer by", "dB", digits=2),
        fw.Metric("pesq", "PESQ, wide band", better="more", digits=3, absent="PESQ was not asked for."),
        fw.Metric("stoi", "STOI", better="more", digits=3, absent="STOI was not asked for."),
        fw.Metric("si_sdr", "SI-SDR", "dB", better="more", digits=2),
        fw.Metric("mel", "Mel distance", better="less", digits=4),
        fw.Metric("seconds", "Training", "s on the processor", better="less", digits=0),
        *(
            fw.Metric(f"{name}_more", f"{label} more than without", better="more", digits=digits)
            for name, label, digits in (("pesq", "PESQ", 3), ("stoi", "STOI", 3), ("si_sdr", "SI-SDR, dB", 2))
        ),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        for name in ("pesq", "pystoi") if settings.listeners else ():
            extras.imported(name, metrics.EXTRA, "codebound study sound-design")
        return {"sounds": sounds_of(settings.data, settings.sample_rate).digest}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        return fw.grid(seed=range(settings.seeds), part=[*[CODES] * bool(settings.bits), *settings.losses])

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        if cell["part"] == CODES:
            return measure_codes(settings, cell["seed"])
        return measure_loss(settings, cell["seed"], cell["part"])

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        names = [metric.name for metric in self.metrics]
        for finished in run.cells.values():
            seed, part = finished.cell["seed"], finished.cell["part"]
            if part == CODES:
                best = {row["bits"]: row["snr"] for row in finished["codes"] if row["code"] == "residual"}
                for row in finished["codes"]:
                    levels = {"seed": seed, "code": row["code"], "bits": row["bits"]}
                    behind = None if row["code"] == "residual" else best[row["bits"]] - row["snr"]
                    yield fw.Record(levels, {n: row[n] for n in names if n in row} | {"behind": behind})
                continue

            # What an arm adds to the plain inverse of the same codes, which its decoder begins as; a SEANet has none.
            before, after = finished["before"], finished["after"]
            values = {**after, "seconds": finished["seconds"]}
            if part != "seanet":
                more = {f"{name}_more": after[name] - before[name] for name in after}
                values |= {name: value for name, value in more.items() if name in names}
            yield fw.Record({"seed": seed, "arm": part}, values)
            if part == next(arm for arm in run.settings.losses if arm != "seanet"):
                yield fw.Record({"seed": seed, "arm": NONE}, before)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table, settings = run.table, run.settings
        clips = clips_of(settings)
        seconds = sum(len(clip.samples) for clip in clips) / settings.sample_rate
        sections = []
        if settings.bits and "bits" in table.factors:
            sections.append(_codes(table, settings))
        if settings.losses and "arm" in table.factors:
            sections.append(_losses(table, settings))
        return fw.Content(
            "What codes and losses do to speech",
            answer=_answer(table, settings),
            sentences=_sentences(table, settings),
            sections=sections,
            method=[
                f"{fw.count_text(len(clips), 'held-out recording')}, {seconds:.0f} s in all. Intervals are over "
                f"{fw.count_text(settings.seeds, 'seed')}: of the crops that codes are fitted to, of k-means, and of a "
                "training.",
                f"Codes: one transform of {settings.dim} axes a seed, fitted to {settings.fit_frames:,} frames; "
                "indices are searched greedily; the plain inverse makes samples. Product codebooks have parts of axes "
                "with nearly equal products of variances. FSQ's grid has no network to learn around it here: its "
                "levels and steps are the best of training.",
                f"Adaptive counts: each index by itself under counts that begin from the frequencies of training, as "
                f"{KNOWN:g} frames, and follow each recording. A prior that sees other frames and stages saves more.",
                f"Losses: {settings.steps:,} steps of {settings.batch_size} crops of {settings.seconds:g} s, all on "
                f"the seed's residual codes of {settings.stages} × {settings.codebook_size}, but for the SEANet of "
                f"{settings.channels} channels, which learns its own of as many bits. Discriminators act after 30 % of "
                "the steps. So few steps say what is learned first, not what is learned at last.",
            ],
        )


STUDY = SoundDesign()


def _answer(table: fw.LongTable, settings: Settings) -> str:
    """Residual against product codebooks at the most bits."""
    if not settings.bits or "bits" not in table.factors:
        return "No codes were compared in this run."
    bits = max(settings.bits)
    gap = table.measured("behind", code="product", bits=bits)
    if gap is None:
        return "Product codebooks were not measured beside residual ones."
    lead = f"At {bits} bits a frame residual codebooks are nearer to the latents of speech than product codebooks by "
    return fw.typeset(f"{lead}{_text(gap, '{:+.2f}', 'dB')}.")


def _sentences(table: fw.LongTable, settings: Settings) -> list[str]:
    """What the grid loses, and what losses move."""
    lines = []
    for bits in settings.bits if "bits" in table.factors else ():
        for name in ("fsq", "table") if bits == max(settings.bits) else ("table",):
            gap = table.measured("behind", code=name, bits=bits)
            if gap is not None:
                lines.append(
                    f"At {bits} bits: residual codebooks against {NAMES[name]}, {_text(gap, '{:+.2f}', 'dB')}."
                )
    for arm in ("complex", "both", "stft-period") if "arm" in table.factors else ():
        found = table.measured("pesq_more" if settings.listeners else "si_sdr_more", arm=arm)
        if found is not None:
            name, unit = ("PESQ", "") if settings.listeners else ("SI-SDR", "dB")
            lines.append(
                f"{LABELS[arm]}: {name} {_text(found, '{:+.3f}', unit)} more than without a network."
            )
    return [fw.typeset(line) for line in lines]


def _text(interval: fw.Interval, form: str, unit: str) -> str:
    bounds = f" [{form.format(interval.low)}, {form.format(interval.high)}]" if interval.known else ""
    return f"{form.format(interval.mean)}{' ' + unit if unit else ''}{bounds}"


def _columns(names: Sequence[str]) -> list[fw.Column]:
    known = {metric.name: metric for metric in STUDY.metrics}
    return [
        fw.Column(f"{known[n].label}, {known[n].unit}" if known[n].unit else known[n].label, known[n].digits)
        for n in names
    ]


def _codes(table: fw.LongTable, settings: Settings) -> fw.Section:
    names = [
        name
        for name in ("nominal", "coded", "saved", "snr", "behind", *QUALITY)
        if any(table.measured(name, code=code, bits=bits) for code in NAMES for bits in settings.bits)
    ]
    rows = [
        [
            fw.Swatch(LOOKS[code].colour, NAMES[code]),
            bits,
            *(table.measured(n, code=code, bits=bits) for n in names),
        ]
        for bits in settings.bits
        for code in NAMES
        if table.measured("snr", code=code, bits=bits)
    ]
    columns = [fw.Column("Code", kind="text"), fw.Column("bits a frame"), *_columns(names)]
    draw = partial(stock_figures.rate_distortion, table.at(arm=None), "coded", series="code", looks=LOOKS)
    figures = [
        fw.Illustration(
            "snr", partial(draw, quality="snr"), "Signal to error over the rate under adaptive counts"
        )
    ]
    note = "In brackets 95 % intervals over the seeds."
    return fw.Section(
        "Codes at equal bits",
        "Further up and to the left is better.",
        figures,
        [fw.ResultTable("Codes", columns, rows, note)],
    )


def _losses(table: fw.LongTable, settings: Settings) -> fw.Section:
    extra = [n for n in ("pesq_more", "stoi_more", "si_sdr_more") if n.startswith("si") or settings.listeners]
    names = [*[n for n in QUALITY if n in ("si_sdr", "mel") or settings.listeners], *extra, "seconds"]
    arms = [arm for arm in (NONE, *settings.losses) if table.measured("mel", arm=arm)]
    rows = [[LABELS[arm], *(table.measured(n, arm=arm) for n in names)] for arm in arms]
    columns = [fw.Column("Decoder", kind="text"), *_columns(names)]
    note = "In brackets 95 % intervals over the seeds; what is more is paired by seed."
    return fw.Section("Losses at equal steps", tables=[fw.ResultTable("Losses", columns, rows, note)])
