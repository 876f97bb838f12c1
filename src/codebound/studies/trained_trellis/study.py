"""The declaration of the study: a cell is one training of an arm at a size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from codebound.reporting import plots
from codebound.studies.framework import declare as fw
from codebound.studies.trained_trellis import ENTRY
from codebound.studies.trained_trellis.training import ARMS, Settings, crops, train

SLACK = 1.02  # a rate beyond a curve's points by less than this is taken for theirs
OURS = ("trellis", "trellis-squares", "trellis-dither")
PEERS = ("vq-ema", "rvq", "fsq")
LABELS = {
    **{name: arm.label for name, arm in ARMS.items()},
    "trellis-squares": "Trellis, squares of 2×2 tokens",
}
COLOURS = {
    "trellis": "#0b63a5", "trellis-squares": "#117733", "trellis-dither": "#5b9bd5",
    "vq-ema": "#c2410c", "rvq": "#8a6100", "fsq": "#aa4499",
}  # fmt: skip


class TrainedTrellis(fw.Study[Settings]):
    """Tokenizers of equal steps, coded to files, compared at equal bytes."""

    entry, settings, claims_file, unit = ENTRY, Settings, "claims.yaml", "trainings"
    metrics = (
        fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
        fw.Metric("bpp", "Bits of the file", "a pixel", digits=3),
        fw.Metric("bpp_nominal", "Bits of fixed length", "a pixel", digits=3),
        *(fw.Metric(f"lead_{name}", f"{LABELS[name]}: PSNR more at these bytes", "dB", better="more") for name in OURS),
        fw.Metric("dither_gain", "PSNR more with dither than straight through, at these bytes", "dB", better="more"),
        *(
            fw.Metric(f"nominal_lead_{name}", f"{LABELS[name]}: PSNR more than at fixed length", "dB", better="more")
            for name in OURS
        ),
        fw.Metric("model_bytes", "Model of the code", "bytes", better="less"),
    )  # fmt: skip

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        return {"data": crops(settings).digest}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        return [
            fw.Cell(f"{arm}-{size}-seed{seed}", {"seed": seed, "arm": arm, "size": size})
            for seed in range(settings.seeds)
            for arm, own in ARMS.items()
            for size in own.sizes
        ]

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        return train(settings, cell)

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        # The curve of each of our codes, by seed.
        curves: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
        for finished in run.cells.values():
            for point in finished["points"]:
                curves[finished.cell["seed"], point["code"]].append((point["bpp"], point["psnr"]))
        for finished in run.cells.values():
            seed, size = finished.cell["seed"], finished.cell["size"]
            for point in finished["points"]:
                values = {name: point[name] for name in ("psnr", "bpp", "bpp_nominal", "model_bytes")}
                for name in OURS if point["code"] in PEERS else ():
                    for rate, prefix in (("bpp", ""), ("bpp_nominal", "nominal_")):
                        there = _at(curves[seed, name], point[rate])
                        values[f"{prefix}lead_{name}"] = None if there is None else there - point["psnr"]
                # Dither beside straight-through, where the curves of both reach these bytes.
                dithered, straight = values.get("lead_trellis-dither"), values.get("lead_trellis")
                if dithered is not None and straight is not None:
                    values["dither_gain"] = dithered - straight
                yield fw.Record({"seed": seed, "code": point["code"], "size": size}, values)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table = run.table
        there = [name for name in (*OURS, *PEERS) if name in table.levels("code")]
        return fw.Content(
            "Tokenizers trained with a trellis code",
            answer=_answer(table),
            sentences=_sentences(table),
            sections=[_curves(table, there), _points(table, there), _leads(table)],
            method=[
                f"{run.settings.steps} steps of {run.settings.batch_size} crops of photographs, networks of width "
                f"{run.settings.width}; PSNR and bytes of {run.settings.held_out} crops of other photographs. 95 % "
                "intervals over seeds.",
                "All held-out codes of an arm are one file: indices in a .cbd file whose counts adapt to what stands "
                "beside an index, levels of a trellis in a .cbv file, each component by itself. The model (codebooks, "
                "axes) is not counted in either.",
                "Codebooks have tokens of 4×4 pixels, residual codebooks and trellis codes of 8×8 in 32 dimensions. "
                "Squares: the same trained network, its latents coded anew as vectors of 2×2 tokens.",
            ],
            results={
                name: {
                    str(size): {
                        metric: table.interval(metric, code=name, size=size).to_json()
                        for metric in ("bpp", "psnr")
                    }
                    for size in table.at(code=name).levels("size")
                }
                for name in there
            },
        )


STUDY = TrainedTrellis()


def _at(curve: list[tuple[float, float]], bpp: float | None) -> float | None:
    """PSNR of a curve at a rate, straight in its logarithm; None beyond its ends."""
    if bpp is None or not curve:
        return None
    rates, psnr = zip(*sorted(curve), strict=True)
    if not rates[0] / SLACK <= bpp <= rates[-1] * SLACK:
        return None
    return float(np.interp(np.log2(bpp), np.log2(rates), psnr))


def _lead(table: fw.LongTable, metric: str, code: str, size: int) -> fw.Interval | None:
    """dB that ours is above; None where no seed's curve reaches these bytes."""
    found = [value for value in table.values(metric, code=code, size=size) if value is not None]
    return table.interval(metric, code=code, size=size) if found else None


def _all_leads(table: fw.LongTable, metric: str) -> dict[tuple[str, int], fw.Interval]:
    return {
        (code, size): lead
        for code in PEERS
        if code in table.levels("code")
        for size in table.at(code=code).levels("size")
        if (lead := _lead(table, metric, code, size)) is not None
    }


def _answer(table: fw.LongTable) -> str:
    leads = _all_leads(table, "lead_trellis")
    if not leads:
        return "No two arms were measured at equal bytes."
    ahead = sum(lead.mean > 0 for lead in leads.values())
    low, high = (pick(leads.values(), key=lambda lead: lead.mean) for pick in (min, max))
    return fw.typeset(
        f"At equal bytes of a file the trained trellis has the higher PSNR in {ahead} of {len(leads)} comparisons, by "
        f"{low.mean:.2f} to {high.mean:.2f} dB."
    )


def _sentences(table: fw.LongTable) -> list[str]:
    lines = []
    for metric, what in (
        ("lead_trellis-squares", "coded in squares of 2×2 tokens, at equal bytes"),
        ("lead_trellis-dither", "trained with dither, at equal bytes"),
        ("nominal_lead_trellis", "against indices of fixed length"),
    ):
        leads = _all_leads(table, metric)
        if leads:
            low, high = (pick(leads, key=lambda at: leads[at].mean) for pick in (min, max))
            lines.append(
                f"The trellis, {what}: {leads[low].mean:.2f} dB ({LABELS[low[0]]}, {low[1]}) to "
                f"{leads[high].mean:.2f} dB ({LABELS[high[0]]}, {high[1]})."
            )
    return [fw.typeset(line) for line in lines]


def _curves(table: fw.LongTable, there: list[str]) -> fw.Section:
    figure = fw.Illustration("curves", partial(_draw, table, there), "PSNR against bits a pixel of a file")
    return fw.Section("PSNR at equal bytes", "Further up and to the left is better.", [figure])


def _draw(table: fw.LongTable, there: list[str]) -> Figure:
    figure = plots.new_figure(9, 5)
    axes = figure.subplots()
    plots.style(axes, "Held-out photographs", "bits a pixel, of the file", "PSNR, dB")
    for name in there:
        sizes = sorted(table.at(code=name).levels("size"))
        rates = [table.interval("bpp", code=name, size=size).mean for size in sizes]
        psnr = [table.interval("psnr", code=name, size=size) for size in sizes]
        half = [(each.high - each.low) / 2 if each.known else 0.0 for each in psnr]
        axes.errorbar(
            rates, [each.mean for each in psnr], yerr=half, color=COLOURS[name], label=LABELS[name], capsize=2,
            marker="o", markersize=4, linestyle="-" if name in OURS else "--",
        )  # fmt: skip
    axes.legend(fontsize=8.5, frameon=False)
    return figure


def _points(table: fw.LongTable, there: list[str]) -> fw.Section:
    columns = [
        fw.Column("Code", kind="text"), fw.Column("Size"), fw.Column("Bits a pixel", 3), fw.Column("PSNR, dB", 2),
    ]  # fmt: skip
    rows = [
        [
            fw.Swatch(COLOURS[name], LABELS[name]),
            size,
            *(table.interval(metric, code=name, size=size) for metric in ("bpp", "psnr")),
        ]
        for name in there
        for size in sorted(table.at(code=name).levels("size"))
    ]
    note = "Size: bits a token, codewords, or books of 256."
    return fw.Section("Every point", tables=[fw.ResultTable("Points", columns, rows, note)])


def _leads(table: fw.LongTable) -> fw.Section:
    metrics = {f"lead_{name}": LABELS[name] for name in OURS} | {
        "nominal_lead_trellis": "Trellis, fixed-length peer"
    }
    columns = [
        fw.Column("Peer", kind="text"),
        fw.Column("Size"),
        *(fw.Column(label, 2) for label in metrics.values()),
    ]
    rows = [
        [LABELS[code], size, *(_lead(table, metric, code, size) for metric in metrics)]
        for code in PEERS
        if code in table.levels("code")
        for size in sorted(table.at(code=code).levels("size"))
    ]
    return fw.Section(
        "The trellis above others, dB at their bytes",
        tables=[
            fw.ResultTable("Leads", columns, rows, "A dash where the trellis was not trained at such a rate.")
        ],
    )
