"""The declaration of the study: a cell is one training, of an arm at a codebook size from a start."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure

from codebound.reporting import plots, stock_figures
from codebound.runs.settings import check_codebook
from codebound.studies.framework import declare as fw
from codebound.studies.utilisation import ENTRY, training
from codebound.studies.utilisation.arms import ARMS, BASELINE, PLAIN, STARTS, Start
from codebound.studies.utilisation.findings import answer, findings
from codebound.studies.utilisation.settings import Settings
from codebound.studies.utilisation.summary import METRICS, Row, even_usage, records, rows

EVEN = "even"  # as an arm of a figure: a code that is used evenly
DASHES = {PLAIN: (0, (4, 2)), "ba-norevival": (0, (4, 2)), EVEN: (0, (6, 2))}  # without revival, and a limit
LOOKS = {
    name: fw.Look(label, colour, emphasis=name == BASELINE, dashes=DASHES.get(name, "-"))
    for name, (label, colour, *_) in (*ARMS.items(), (EVEN, ("an even code, on these tokens", plots.INK)))
}
SHOWN: dict[str, tuple[Any, bool]] = {  # metric: kind of its column, whether on a terminal
    "psnr": ("number", True), "psnr_gain": ("change", True), "psnr_gain_at_equal_rate": ("change", False),
    "usage": ("share", True), "usage_training": ("share", False), "perplexity": ("number", False),
    "entropy_bits": ("number", False), "bpp_entropy": ("number", True), "gap_db": ("gap", False),
    "cell_seconds": ("number", False),
}  # fmt: skip
ONLY_MEANS = ("usage", "usage_training", "bpp_entropy")


class Utilisation(fw.Study[Settings]):
    """Ways to train the codebook of one image tokenizer, at equal steps; judged on other photographs."""

    entry, settings, metrics, unit = ENTRY, Settings, METRICS, "trainings"
    claims_file = "claims.yaml"

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        images = training.pictures(settings)
        for size in {cell["codebook_size"] for cell in self.cells(settings)}:
            check_codebook(settings.training(size, 0), images)
        return {"data": images.digest}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        """The quick ones first, seeds outermost, so that an interrupted run has whole seeds."""
        parts: list[tuple[tuple[str, ...], tuple[int, ...], Start, int]] = [
            (settings.arms, settings.sizes, "kmeans", settings.seeds),
            (settings.large_arms, settings.large_sizes, "kmeans", settings.fewer_seeds),
            (settings.huge_arms, settings.huge_sizes, "kmeans", settings.fewer_seeds),
        ]
        if settings.bad_start_size is not None:
            begun_badly = (settings.bad_start_arms, (settings.bad_start_size,), "bad", settings.fewer_seeds)
            parts.insert(1, begun_badly)
        cells = {
            f"{arm}-{size}-{start}-{seed}": {"arm": arm, "codebook_size": size, "start": start, "seed": seed}
            for arms, sizes, start, seeds in parts
            for seed in range(settings.first_seed, settings.first_seed + seeds)
            for size in sizes
            for arm in arms
        }
        return [fw.Cell(name, levels) for name, levels in cells.items()]

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        return training.train(settings, cell)

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        return records(run)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        results, settings = rows(run), run.settings
        tokens = int(next(iter(run.cells.values()))["final"]["tokens"])
        told = findings(results)
        return fw.Content(
            "Codebooks that are used, and what it buys",
            answer=answer(results),
            sentences=[finding.text for finding in told],
            sections=[*_figures(run, tokens), _numbers(results, tokens)],
            findings=told,
            method=[
                f"Every arm has the same networks (width {settings.width}, {settings.depth} residual blocks, stride "
                f"{settings.stride}), {settings.steps:,} steps of {settings.batch_size} crops, learning rates and "
                "averaged weights; arms of one seed share weights and crops.",
                f"Usage and PSNR are over {settings.held_out:,} crops ({tokens:,} tokens) of photographs that no "
                "training saw. Few scenes: this is about photograph crops, not about natural images.",
                "EMA: codewords follow a running mean of their latents. BA: soft assignments by the Blahut–Arimoto "
                "algorithm, over all codewords. “As proposed” is as in the proposal: the unpublished text that this "
                "project began with; docs/claims.md lists its numbers. “Scaled”: the slope follows the latents' "
                "distortion.",
                "FSQ has about K codes, as its levels allow. A bad start draws codewords from N(0, I), whatever the "
                "latents' scale.",
            ],
            results={"rows": [row.to_json() for row in results]},
        )


STUDY = Utilisation()


def _figures(run: fw.StudyRun[Settings], tokens: int) -> list[fw.Section]:
    table, size = run.table.at(start="kmeans"), max(run.settings.sizes)
    rate = partial(stock_figures.rate_distortion, table, "bpp_entropy", "psnr", series="arm", looks=LOOKS)
    steps = partial(
        stock_figures.curves, table.at(codebook_size=size), ["curve_psnr", "curve_usage"], over="step", series="arm",
        looks=LOOKS, bands=(),
    )  # fmt: skip
    parts = [
        (
            "Rate and distortion",
            "Further up and to the left is better. The rate is the index entropy, which an ideal entropy coder spends; "
            "a point for each codebook size, bars are 95 % intervals over seeds.",
            fw.Illustration("rate", rate, "PSNR against bits per pixel for every arm and size"),
        ),
        (
            "Size and use",
            f"No code can be expected to use more codewords than an even one does on the {tokens:,} held-out tokens. "
            "Means over seeds; the intervals are in the table.",
            fw.Illustration(
                "sizes", partial(_by_size, table, tokens), "PSNR and usage against codebook size"
            ),
        ),
        (
            "Over the steps",
            f"At K = {size:,}, on the first 1,024 held-out crops; the last point is on all of them.",
            fw.Illustration("curves", steps, "PSNR and usage over the steps"),
        ),
    ]
    return [fw.Section(title, text, [figure]) for title, text, figure in parts]


def _by_size(table: fw.LongTable, tokens: int) -> Figure:
    """PSNR and usage against K on a logarithmic axis, and the usage of an even code."""
    sizes = sorted(table.levels("codebook_size"))
    even = tuple(
        fw.Record({"arm": EVEN, "codebook_size": size, "seed": 0}, {"usage": even_usage(size, tokens)})
        for size in sizes
    )
    both = replace(table, records=table.records + even)
    figure = stock_figures.curves(
        both, ["psnr", "usage"], over="codebook_size", series="arm", looks=LOOKS, bands=()
    )
    for axes in figure.axes:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
    return figure


def _numbers(results: Sequence[Row], tokens: int) -> fw.Section:
    """A row for each arm under a heading for each size and start, and what no code can pass."""
    metrics = {metric.name: metric for metric in METRICS}
    columns = [
        replace(fw.Column.of(metrics[name], terminal=terminal), kind=kind)
        for name, (kind, terminal) in SHOWN.items()
    ]
    lines: list[Sequence[Any] | str] = []
    for (size, start), group in groupby(results, key=lambda row: (row.codebook_size, row.start)):
        lines.append(f"K = {size:,}, {STARTS[start]}")
        for row in group:
            measured = {name: row.of(name) for name in SHOWN}
            values = [value.mean if name in ONLY_MEANS else value for name, value in measured.items()]
            lines.append([fw.Swatch(ARMS[row.arm].colour, ARMS[row.arm].label), *values])
        even = even_usage(size, tokens)
        limits = {
            "usage": even, "usage_training": even, "perplexity": size, "entropy_bits": math.log2(size), "gap_db": 0
        }  # fmt: skip
        lines.append(["limit", *map(limits.get, SHOWN)])
    note = (
        "Means with 95 % intervals over seeds (Student t). Above EMA: paired by seed. At equal rate: above EMA's own "
        "PSNR at the same index entropy, read off between its sizes. The limit of usage is what a code used evenly "
        "would show on as many tokens. Gap: the latents' distortion above Shannon's lower bound at log₂ K bits, from "
        "an entropy estimate; FSQ bends its latents and has none."
    )
    table = fw.ResultTable("PSNR, use and rate", [fw.Column("Arm", kind="text"), *columns], lines, note)
    return fw.Section("Each arm", tables=[table])
