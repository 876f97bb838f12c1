"""The declaration of the study: a cell is one tokenizer, trained on one domain and tried on all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from codebound.reporting import plots
from codebound.reporting.stock_figures import PALETTE
from codebound.studies.framework import declare as fw
from codebound.studies.transfer import ENTRY
from codebound.studies.transfer.domains import DOMAINS, available
from codebound.studies.transfer.measure import measure, pictures
from codebound.studies.transfer.settings import Settings

AS_IT_IS, CODEBOOK, DECODER, BOTH, ALL = (
    "as it is", "codebook", "decoder", "codebook and decoder", "everything",
)  # fmt: skip
REFITS = (AS_IT_IS, CODEBOOK, DECODER, BOTH, ALL)
COLOURS = dict(zip(REFITS, PALETTE, strict=False))
EVERY = "every other"  # as a level of target: the mean over the domains that a tokenizer was not trained on


class Transfer(fw.Study[Settings]):
    """Tokenizers of one domain on pictures of another, before and after parts of them are fitted anew."""

    entry, settings, claims_file, unit = ENTRY, Settings, "claims.yaml", "tokenizers"
    metrics = (
        fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
        fw.Metric("short", "Below a tokenizer of these very pictures", "dB", better="less", digits=2),
        fw.Metric("made_good", "Made good by the refit", "share of what was short", better="more", digits=2),
        fw.Metric("usage", "Usage", "share of the codewords", digits=3),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        return {name: pictures(settings, name).digest[:12] for name in _there(settings)}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        return fw.grid(seed=range(settings.seeds), source=_there(settings))

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        return measure(settings.model_copy(update={"domains": _there(settings)}), cell)

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        # Each pair after each refit.
        short = _short(run)
        for finished in run.cells.values():
            source, seed = finished.cell["source"], finished.cell["seed"]
            for target, refits in finished["targets"].items():
                for refit, figures in refits.items():
                    values = {"psnr": figures["psnr"], "usage": figures["usage"]}
                    values["short"] = short.get((seed, refit), {}).get((source, target))
                    yield fw.Record(
                        {"source": source, "seed": seed, "target": target, "refit": refit}, values
                    )

        # Means over the targets of a source, and over all pairs.
        for (seed, refit), pairs in short.items():
            for source in ("all", *dict.fromkeys(source for source, _ in pairs)):
                now, before = (
                    float(np.mean([db for pair, db in each.items() if source in ("all", pair[0])]))
                    for each in (pairs, short[seed, AS_IT_IS])
                )
                good = None if refit == AS_IT_IS else 1 - now / before
                levels = {"source": source, "seed": seed, "target": EVERY, "refit": refit}
                yield fw.Record(levels, {"short": now, "made_good": good})

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table, settings = run.table, run.settings
        there = [name for name in DOMAINS if name in table.levels("source")]
        return fw.Content(
            "Tokenizers away from home",
            answer=_answer(table),
            sentences=_sentences(table, there),
            sections=[_matrix(table, there), _refits(table, there), *(_target(table, there, n) for n in there)],
            method=[
                f"One tokenizer a domain and seed: K = {settings.codebook_size}, width {settings.width}, stride "
                f"{settings.stride}, {settings.steps:,} steps of {settings.batch_size} grey pictures; "
                f"{settings.held_out:,} held-out pictures of each domain judge it.",
                "Photographs are crops of 32 pixels, of other photographs where they are held out; clothes are "
                "Fashion-MNIST (28 pixels); letters are drawn in matplotlib's fonts; spectrograms are of sounds made "
                "by formula (gliding harmonic tones and noise), the case of another sense. Nobody recorded them.",
                f"Refits: k-means on the latents of {settings.refit_pictures:,} pictures; decoder or everything by "
                f"{settings.refit_steps:,} steps, {settings.refit_steps / settings.steps:.0%} of those of a training "
                "from scratch. Encoders change in “everything” alone: networks from where they were, the codebook "
                "begun anew by k-means on the new latents, as at the start of any training.",
                "Short: PSNR below that of the tokenizer of the same seed that was trained on these pictures.",
            ],
            results={
                "short_db": {
                    source: {refit: table.interval("short", source=source, target=EVERY, refit=refit).to_json()
                             for refit in REFITS if table.values("short", source=source, target=EVERY, refit=refit)}
                    for source in there
                }
            },
        )  # fmt: skip


STUDY = Transfer()


def _there(settings: Settings) -> tuple[Any, ...]:
    """The domains that this machine has."""
    return tuple(name for name in settings.domains if available(name))


def _short(run: fw.StudyRun[Settings]) -> dict[tuple[int, str], dict[tuple[str, str], float]]:
    """By seed and refit: how many dB each source is below the target's own tokenizer, for each pair of the two."""
    own = {
        (cell.cell["source"], cell.cell["seed"]): cell["targets"][cell.cell["source"]][AS_IT_IS]["psnr"]
        for cell in run.cells.values()
    }
    short: dict[tuple[int, str], dict[tuple[str, str], float]] = {}
    for cell in run.cells.values():
        source, seed = cell.cell["source"], cell.cell["seed"]
        for target, refits in cell["targets"].items():
            if target == source or (target, seed) not in own:
                continue
            for refit, figures in refits.items():
                by_pair = short.setdefault((seed, refit), {})
                by_pair[source, target] = own[target, seed] - figures["psnr"]
    return short


def _db(interval: fw.Interval) -> str:
    bounds = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.known else ""
    return f"{interval.mean:.2f} dB{bounds}"


def _answer(table: fw.LongTable) -> str:
    """What is lost away from home, and what each refit brings back, as means over all pairs of domains."""
    short = table.measured("short", source="all", target=EVERY, refit=AS_IT_IS)
    if short is None:
        return "No two domains of one seed are finished yet."
    parts = [
        f"{refit} {100 * good.mean:.0f} %"
        for refit in REFITS
        if (good := table.measured("made_good", source="all", target=EVERY, refit=refit)) is not None
    ]
    return fw.typeset(
        f"On pictures of another kind a tokenizer is {_db(short)} short of one that was trained on them, the mean over "
        f"all pairs. Fitted anew, of that loss is made good by: {', '.join(parts)}."
    )


def _sentences(table: fw.LongTable, there: Sequence[str]) -> list[str]:
    """Which source serves the others best and which worst, and which pair is the worst."""
    short = {
        name: interval
        for name in there
        if (interval := table.measured("short", source=name, target=EVERY, refit=AS_IT_IS)) is not None
    }
    lines = []
    if len(short) > 1:
        best, worst = (pick(short, key=lambda name: short[name].mean) for pick in (min, max))
        lines.append(
            f"The most general of them is the tokenizer of {DOMAINS[best].label}, {_db(short[best])} short elsewhere; "
            f"the least that of {DOMAINS[worst].label}, {_db(short[worst])}."
        )
    pairs = {
        (source, target): interval
        for source in there
        for target in there
        if (interval := table.measured("short", source=source, target=target, refit=AS_IT_IS)) is not None
    }
    if pairs:
        (source, target) = max(pairs, key=lambda pair: pairs[pair].mean)
        lines.append(
            f"The worst pair: {DOMAINS[source].label} to {DOMAINS[target].label}, {_db(pairs[source, target])} short."
        )
    crossing = {s: i for (s, t), i in pairs.items() if t == "spectrograms"}
    if crossing:
        parts = [f"{DOMAINS[s].label} {_db(i)}" for s, i in crossing.items()]
        lines.append(f"Spectrograms under tokenizers of pictures: short by {', '.join(parts)}.")
    return [fw.typeset(line) for line in lines]


def _matrix(table: fw.LongTable, there: Sequence[str]) -> fw.Section:
    """Every source on every target, as it is."""
    columns = [fw.Column("Trained on", kind="text")]
    columns += [fw.Column(f"on {DOMAINS[target].label}, dB", 2) for target in there]
    rows = [
        [DOMAINS[s].label, *(table.measured("psnr", source=s, target=t, refit=AS_IT_IS) for t in there)]
        for s in there
    ]
    text = (
        "A row for what a tokenizer was trained on, a column for what it is tried on: dB below the tokenizer of that "
        "column's own pictures, the mean over seeds. PSNR itself depends on how hard the pictures are, so compare "
        "within a column."
    )
    figure = fw.Illustration(
        "matrix", partial(_draw_matrix, table, there), "Loss in dB of each source on each target"
    )
    return fw.Section("As it is", text, [figure], [fw.ResultTable("PSNR as it is", columns, rows)])


def _draw_matrix(table: fw.LongTable, there: Sequence[str]) -> Figure:
    """A field for each pair; the more is lost, the more colour it has, on white paper and on a dark page."""
    short = {
        (row, column): table.measured("short", source=source, target=target, refit=AS_IT_IS)
        for row, source in enumerate(there)
        for column, target in enumerate(there)
    }
    most = max((found.mean for found in short.values() if found is not None), default=1.0)
    figure = plots.new_figure(6.5, 4.6)
    axes = figure.subplots()
    plots.style(axes, "", "tried on", "trained on")
    axes.grid(False)
    for (row, column), found in short.items():
        loss = 0.0 if found is None else found.mean
        alpha = 0.6 * min(1.0, max(0.0, loss / most))
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=(PALETTE[0], alpha), linewidth=0))
        text = "own" if row == column else "–" if found is None else f"{loss:.1f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=10, color=plots.INK)
    labels = [DOMAINS[name].label for name in there]
    axes.set_xticks(range(len(there)), labels)
    axes.set_yticks(range(len(there)), labels)
    axes.set_xlim(-0.5, len(there) - 0.5)
    axes.set_ylim(len(there) - 0.5, -0.5)
    return figure


def _refits(table: fw.LongTable, there: Sequence[str]) -> fw.Section:
    """What each refit leaves short, pair by pair."""
    columns = [fw.Column("Trained on", kind="text"), *(fw.Column(f"{refit}, dB", 2) for refit in REFITS)]
    rows = [
        [
            "all pairs" if source == "all" else DOMAINS[source].label,
            *(table.measured("short", source=source, target=EVERY, refit=refit) for refit in REFITS),
        ]
        for source in (*there, "all")
    ]
    text = (
        "How far each pair stays below the tokenizer that was trained on the target, after each refit; 0 dB is no "
        "loss. Bars are 95 % intervals over seeds."
    )
    figure = fw.Illustration(
        "refits", partial(_draw_refits, table, there), "Loss of each pair after each refit"
    )
    result = fw.ResultTable(
        "Short of a tokenizer of these pictures, mean over the other domains", columns, rows
    )
    return fw.Section("What a refit brings back", text, [figure], [result])


def _draw_refits(table: fw.LongTable, there: Sequence[str]) -> Figure:
    pairs = [(s, t) for t in there for s in there if s != t]
    figure = plots.new_figure(9, 1.6 + 0.36 * len(pairs))
    axes = figure.subplots()
    plots.style(axes, "", "dB below a tokenizer trained on the target")
    for number, refit in enumerate(REFITS):
        for y, (source, target) in enumerate(pairs):
            found = table.measured("short", source=source, target=target, refit=refit)
            if found is None:
                continue
            bars = [[found.mean - found.low], [found.high - found.mean]] if found.known else None
            axes.errorbar(
                found.mean, y + 0.13 * (number - 2), xerr=bars, fmt="o", markersize=5, capsize=2,
                color=COLOURS[refit], label=refit if y == 0 else None,
            )  # fmt: skip
    axes.axvline(0, color=plots.INK, linewidth=1)
    axes.set_yticks(range(len(pairs)), [f"{DOMAINS[s].label} → {DOMAINS[t].label}" for s, t in pairs])
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(REFITS), fontsize=8.5, frameon=False)
    return figure


def _target(table: fw.LongTable, there: Sequence[str], target: str) -> fw.Section:
    """PSNR and usage on one domain, of each source after each refit."""
    columns = [fw.Column("Trained on", kind="text")]
    columns += [fw.Column(f"{refit}, dB", 2) for refit in REFITS]
    columns += [fw.Column("Usage as it is", 1, kind="share"), fw.Column("with its codebook", 1, kind="share")]
    rows = [
        [
            DOMAINS[s].label,
            *(table.measured("psnr", source=s, target=target, refit=refit) for refit in REFITS),
            *(
                table.measured("usage", source=s, target=target, refit=refit)
                for refit in (AS_IT_IS, CODEBOOK)
            ),
        ]
        for s in there
    ]
    title = f"On {DOMAINS[target].label}"
    return fw.Section(title, tables=[fw.ResultTable(f"{title}: PSNR after each refit", columns, rows)])
