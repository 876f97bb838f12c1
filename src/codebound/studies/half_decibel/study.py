"""The declaration of the study: a cell for each seed and source, in which all codes see the same vectors."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from codebound import config
from codebound.codec.model import default_model
from codebound.data.images import Split, photographs
from codebound.reporting import plots
from codebound.studies.framework import declare as fw
from codebound.studies.half_decibel import ENTRY
from codebound.studies.half_decibel.codes import CODES
from codebound.studies.half_decibel.sources import KNOWN, LABELS, Name, available, draw
from codebound.theory.gaussian import gap_db

PANEL = (5.5, 3.7)  # inches
SLACK = 1.02  # a rate beyond a code's points by less than this is taken for theirs
MOST_DB = 8.0  # shown in figures
NAMES = {"scalars": "scalars with an ideal entropy code", "product": "a product of k-means codebooks"}
OURS, PEER = "trellis-256", "faiss-pq"
SPLITS: tuple[Split, ...] = ("train", "held_out")
REAL = tuple(name for name in LABELS if name not in KNOWN)


class Settings(config.Settings):
    """All that decides the study's numbers but the versions of faiss and zstd."""

    CHOOSES = frozenset({"seeds", "sources"})

    seeds: int = Field(3, ge=1)
    sources: tuple[Name, ...] = tuple(LABELS)  # pyright: ignore[reportAssignmentType]
    rates: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)  # bits a value
    train: int = Field(16384, ge=9984)  # vectors that codes are fitted to: 39 for each codeword of 256
    test: int = Field(8192, ge=1024)
    compared: float = Field(2.0, gt=0)  # bits a value in the answer


class HalfDecibel(fw.Study[Settings]):
    """Every code at about equal bits a value, on vectors that it was not fitted to."""

    entry, settings, claims_file = ENTRY, Settings, "claims.yaml"
    metrics = (
        fw.Metric("above", "Above the limit", "dB", better="less", digits=2),
        fw.Metric("over_scalars", "Nearer than scalars of equal bits", "dB", better="more", digits=2),
        fw.Metric("over_product", "Nearer than k-means codes of equal bits", "dB", better="more", digits=2),
        fw.Metric("bits", "Rate", "bits a value", digits=3),
        fw.Metric("snr", "Variance over error", "dB", better="more", digits=2),
        fw.Metric("model_bytes", "Model", "bytes", better="less"),
        fw.Metric("seconds", "Processor time", "s", better="less", floor=0),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        photos = [p.pixels.tobytes() for split in SPLITS for p in photographs(split)]
        return {
            "photographs": hashlib.sha256(b"".join(photos)).hexdigest()[:12],
            "model": default_model().digest().hex(),
            "extras": " ".join(name for name in ("faiss", "efficientnet_lite_pytorch") if find_spec(name)),
        }

    def cells(self, settings: Settings) -> list[fw.Cell]:
        there = [name for name in settings.sources if available(name)]
        return fw.grid(seed=range(settings.seeds), source=there)

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        source = draw(cell["source"], cell["seed"], settings.train, settings.test)
        dim = source.test.shape[1]
        energy = float((source.test - source.test.mean(0)).double().square().sum(1).mean())
        points = []
        for name, code in CODES.items():
            if name.startswith("faiss") and find_spec("faiss") is None:
                continue
            rates = settings.rates if code.fixed is None else (code.fixed,)
            for bits in rates:
                if not code.fits(bits, dim):
                    continue
                began = time.process_time()
                coded = code.work(source.train, source.test, bits, cell["seed"])
                error = float((source.test.double() - coded.rows.double()).square().sum(1).mean())
                points.append(
                    {
                        "code": name,
                        "rate": bits,
                        "bits": coded.bits,
                        "above": gap_db(error, source.limit(coded.bits * dim)),
                        "snr": gap_db(energy, error),
                        "model_bytes": coded.model_bytes,
                        "seconds": time.process_time() - began,
                    }
                )
        return {"points": points}

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        for finished in run.cells.values():
            points = finished["points"]
            for point in points:
                levels = {**finished.cell.factors, "code": point["code"], "rate": point["rate"]}
                values = {metric.name: point.get(metric.name) for metric in self.metrics}
                for other in ("scalars", "product"):
                    if (above := _above_at(points, other, point["bits"])) is not None:
                        values[f"over_{other}"] = above - point["above"]
                yield fw.Record(levels, values)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table, rate = run.table, run.settings.compared
        there = table.levels("source")
        return fw.Content(
            "Half a decibel from Shannon",
            answer=_answer(table, there, rate),
            sentences=_sentences(table, there, run.settings.rates),
            sections=[
                _curves(table, there),
                *(_source(table, name) for name in there),
                _models(table, there, rate),
            ],
            method=[
                f"Codes are fitted to {run.settings.train:,} vectors and measured on {run.settings.test:,} others; "
                "photographs to fit to and to test on are different ones. 95 % intervals over seeds.",
                "Bits are those of what is stored for each vector: indices of fixed length, whole files of trellis "
                "codes but for their header. What a decoder needs beside is in the table of models.",
                "Scalars have ideal entropy codes, made of the very vectors that are coded: no file is as small.",
                "FSQ, LFQ and BSQ bound the latents that they quantize; they are for an encoder that is trained with "
                "them, and stand in the guide to choosing. faiss's additive codes were left out: fitting takes hours.",
                "k-means of ten iterations, faiss's too, and three turns of OPQ's rotation.",
            ],
            results={"above_db": _results(table, there)},
        )


STUDY = HalfDecibel()


def _above_at(points: Sequence[Mapping[str, Any]], code: str, bits: float) -> float | None:
    """dB above the limit of a code at these bits, between its points of either side; None beyond them."""
    own = sorted((point["bits"], point["above"]) for point in points if point["code"] == code)
    if not own or not own[0][0] / SLACK <= bits <= own[-1][0] * SLACK:
        return None
    rates, above = zip(*own, strict=True)
    return float(np.interp(bits, rates, above))


def _points(table: fw.LongTable, source: str) -> dict[str, list[float]]:
    """The rates at which each code was measured on a source."""
    own = table.at(source=source)
    return {code: sorted(own.at(code=code).levels("rate")) for code in own.levels("code")}


def _above(table: fw.LongTable, source: str, code: str, rate: float) -> fw.Interval | None:
    """dB above the limit; None where there is no such code."""
    found = table.values("above", source=source, code=code, rate=rate)
    return table.interval("above", source=source, code=code, rate=rate) if found else None


def _answer(table: fw.LongTable, there: Sequence[str], rate: float) -> str:
    name = there[0]
    ours, peer = _above(table, name, OURS, rate), _above(table, name, PEER, rate)
    if ours is None:
        return f"No source was coded at {rate:g} bits a value."
    label, limit = LABELS[name]
    beside = f"; product quantization of as many bits by {peer.mean:.2f} dB" if peer else ""
    text = f"On {label} at {rate:g} bits a value a trellis of 256 states misses {limit} by {ours.mean:.2f} dB{beside}."
    return fw.typeset(text)


def _sentences(table: fw.LongTable, there: Sequence[str], rates: Sequence[float]) -> list[str]:
    """What the trellis gains over scalars and k-means codes at equal bits, on each kind of source."""
    lines = []
    for kind, names in (("known sources", KNOWN), ("latents of photographs", REAL)):
        for other in ("scalars", "product"):
            gains = {
                f"{LABELS[name][0]} at {bits:g}": table.interval(
                    f"over_{other}", source=name, code=OURS, rate=bits
                )
                for name in names
                if name in there
                for bits in rates
                if table.values(f"over_{other}", source=name, code=OURS, rate=bits)
            }
            if gains:
                low, high = (pick(gains, key=lambda at: gains[at].mean) for pick in (min, max))
                lines.append(
                    f"On {kind} 256 states are nearer than {NAMES[other]} of equal bits by "
                    f"{gains[low].mean:.2f} dB ({low}) to {gains[high].mean:.2f} dB ({high})."
                )
    return [fw.typeset(line) for line in lines]


def _curves(table: fw.LongTable, there: Sequence[str]) -> fw.Section:
    figure = fw.Illustration(
        "curves",
        partial(_draw, table, there),
        "Decibels above the limit against bits a value, a panel for each source",
    )
    text = (
        "0 dB is the limit that stands on the axis. Where it is a bound, no code of any kind is below it; the Gaussian "
        f"of equal covariance is a reference, and real vectors may be below. Codes more than {MOST_DB:g} dB above are "
        "in the tables."
    )
    return fw.Section("Decibels above the limit", text, [figure])


def _draw(table: fw.LongTable, there: Sequence[str]) -> Figure:
    rows = -(-len(there) // 2)
    figure = plots.new_figure(2 * PANEL[0], PANEL[1] * rows + 0.8)
    panels = list(figure.subplots(rows, 2, squeeze=False).flat)
    handles: dict[str, Any] = {}
    for axes, name in zip(panels, there, strict=False):
        label, limit = LABELS[name]
        plots.style(axes, label, "bits a value", f"dB above {limit}")
        kind = "shannon" if name in KNOWN else "gaussian_reference"
        line = plots.limit_line(axes, plots.Limit(kind, limit, 0.0), "horizontal")
        handles[limit] = line
        line.set_label(limit)
        for code, rates in _points(table, name).items():
            drawn = [(rate, _above(table, name, code, rate)) for rate in rates]
            shown = [(rate, point) for rate, point in drawn if point is not None and point.mean < MOST_DB]
            if not shown:
                continue
            at = [table.interval("bits", source=name, code=code, rate=rate).mean for rate, _ in shown]
            half = [(p.high - p.low) / 2 if p.known else 0.0 for _, p in shown]
            look = CODES[code]
            handles[look.label] = axes.errorbar(
                at, [p.mean for _, p in shown], yerr=half, color=look.colour, capsize=2, marker="o", markersize=4,
                linewidth=2.0 if code.startswith("trellis") else 1.2, linestyle="--" if look.peer else "-",
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axes.minorticks_off()
    for axes in panels[len(there) :]:
        axes.set_axis_off()
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=4,
        fontsize=8.5,
        frameon=False,
    )
    return figure


def _source(table: fw.LongTable, name: str) -> fw.Section:
    """The table of one source: a row for each code, a column for each rate."""
    label, limit = LABELS[name]
    points = _points(table, name)
    rates = sorted({rate for code, at in points.items() if CODES[code].fixed is None for rate in at})
    columns = [fw.Column("Code", kind="text"), *(fw.Column(f"{rate:g} bits", 2) for rate in rates)]
    rows = [
        [
            fw.Swatch(CODES[code].colour, CODES[code].label),
            *(_above(table, name, code, rate) for rate in rates),
        ]
        for code in points
        if any(_above(table, name, code, rate) is not None for rate in rates)
    ]
    title = f"{label}: dB above {limit}"
    return fw.Section(title, tables=[fw.ResultTable(title, columns, rows)])


def _models(table: fw.LongTable, there: Sequence[str], rate: float) -> fw.Section:
    """What a decoder needs beside the codes, at the rate of the answer."""
    columns = [fw.Column("Code", kind="text"), *(fw.Column(LABELS[name][0], 0) for name in there)]
    rows = []
    for code, look in CODES.items():
        found = [
            table.interval("model_bytes", source=name, code=code, rate=rate).mean
            if table.values("model_bytes", source=name, code=code, rate=rate)
            else None
            for name in there
        ]
        if any(value is not None for value in found):
            rows.append([fw.Swatch(look.colour, look.label), *found])
    title = f"Bytes of the model at {rate:g} bits a value"
    return fw.Section(
        title, tables=[fw.ResultTable(title, columns, rows, "Axes, tables, codebooks: once for all vectors.")]
    )


def _results(table: fw.LongTable, there: Sequence[str]) -> dict[str, Any]:
    return {
        name: {
            code: {
                f"{rate:g}": point.to_json() for rate in rates if (point := _above(table, name, code, rate))
            }
            for code, rates in _points(table, name).items()
        }
        for name in there
    }
