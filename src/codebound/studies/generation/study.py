"""The declaration of the study: a cell is one tokenizer with all kinds of prior over its codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from codebound.reporting import plots, stock_figures
from codebound.studies.framework import declare as fw
from codebound.studies.generation import ENTRY
from codebound.studies.generation.measure import NEIGHBOURS, measure, picture_of, pictures
from codebound.studies.generation.settings import Settings

LOOKS = {
    "autoregressive": fw.Look("autoregressive", "#0b63a5", emphasis=True),
    "llama": fw.Look("llama", "#7b3fa0"),
    "masked": fw.Look("masked", "#c2410c"),
    "neighbours": fw.Look("neighbours, integers", "#117733"),
}
MEASURES = ("frechet", "kernel", "precision", "recall", "density", "coverage")
SETS = {"floor": "real pictures", "ceiling": "reconstructions"}
PARTS = {"floor": plots.INK, "tokenizer": "#5b9bd5", "prior": "#c2410c"}  # of a distance, and their colours


class Generation(fw.Study[Settings]):
    """Samples of three kinds of prior over codes of small and large codebooks, between floor and ceiling."""

    entry, settings, claims_file, unit = ENTRY, Settings, "claims.yaml", "tokenizers with their priors"
    metrics = (
        fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
        fw.Metric("nominal_bits", "log₂ K", "bits a token", digits=3),
        fw.Metric("order_zero_bits", "Index entropy", "bits a token", digits=3),
        fw.Metric("bits_per_token", "Held out", "bits a token", better="less", digits=3),
        fw.Metric("below_neighbours", "Below the integer prior", "bits a token", better="more", digits=3),
        fw.Metric("seconds", "Training", "s on the processor", digits=1),
        fw.Metric("ms", "A sample", "ms", better="less", digits=2),
        fw.Metric("frechet", "Fréchet distance", better="less", digits=2),
        fw.Metric("kernel", "Kernel distance, ×1000", better="less", digits=1),
        fw.Metric("precision", "Precision", better="more", digits=3),
        fw.Metric("recall", "Recall", better="more", digits=3),
        fw.Metric("density", "Density", better="more", digits=3),
        fw.Metric("coverage", "Coverage", better="more", digits=3),
        fw.Metric("right_class", "Right class", better="more", digits=3),
        fw.Metric("by_tokenizer", "Fréchet distance, the tokenizer's part", better="less", digits=2),
        fw.Metric("by_prior", "Fréchet distance, the prior's part", better="less", digits=2),
        fw.Metric("tokenizer_share", "The tokenizer's part of what is lost", "share", digits=2),
        fw.Metric("judge_accuracy", "Accuracy of the judge", "share", digits=3),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        return {"data": pictures(settings).digest}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        return fw.grid(seed=range(settings.seeds), codebook_size=settings.sizes)

    def measure(self, settings: Settings, cell: fw.Cell) -> fw.CellResult:
        return measure(settings, cell)

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        for finished in run.cells.values():
            # The tokenizer, then each prior.
            factors, priors = finished.cell.factors, finished["priors"]
            names = ("psnr", "nominal_bits", "order_zero_bits", "judge_accuracy")
            yield fw.Record(factors, {name: finished[name] for name in names})
            integers = priors.get(NEIGHBOURS, {}).get("bits_per_token")
            for kind, prior in priors.items():
                own = prior["bits_per_token"]
                below = None if integers is None or kind == NEIGHBOURS else integers - own
                values = {"bits_per_token": own, "below_neighbours": below, "seconds": prior["seconds"]}
                yield fw.Record({**factors, "prior": kind}, values)
                for guidance, samples in prior["samples"].items():
                    levels = {**factors, "prior": kind, "guidance": float(guidance)}
                    yield fw.Record(levels, {"ms": samples["ms"]})
                    for figures in samples["spaces"]:
                        yield fw.Record({**levels, "space": _space(figures)}, _parts(figures))

            # Floor and ceiling are the same for all priors of a tokenizer.
            first = next(iter(next(iter(priors.values()))["samples"].values()))
            for figures in first["spaces"]:
                for name in SETS:
                    yield fw.Record(
                        {**factors, "space": _space(figures), "of": name}, _measures(figures[name])
                    )

    def facts(self, run: fw.StudyRun[Settings]) -> Mapping[str, float | int | str]:
        """The settings, and how equal the compute was: of the autoregressive prior's training seconds and the integer
        prior's, means over all cells, the fewer divided by the more.
        """
        seconds = [_seconds(run, kind) for kind in ("autoregressive", NEIGHBOURS)]
        if not all(seconds):
            return super().facts(run)
        return {**super().facts(run), "share_of_the_longer_training": min(seconds) / max(seconds)}

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table, settings = run.table, run.settings
        sizes = sorted(table.levels("codebook_size"))
        kinds = [kind for kind in LOOKS if kind in table.levels("prior")]
        return fw.Content(
            "New pictures: tokenizer and prior",
            answer=_answer(table, sizes, kinds),
            sentences=_sentences(table, sizes, kinds),
            sections=[
                _where(table, sizes, kinds),
                _bits(table, sizes, kinds),
                _guidance(table, sizes, kinds),
                *(_distances(table, size, kinds) for size in sizes),
                _pictures(run, sizes),
            ],
            method=[
                f"{settings.data}: tokenizers of width {settings.width}, {settings.steps:,} steps; transformers of "
                f"{settings.prior_depth} layers of width {settings.prior_width}, {settings.prior_steps:,} steps of "
                f"{settings.batch_size}. Networks are small and trainings short.",
                "Bits a token are of held-out pictures together with their class, as the integer prior knows none: "
                "log₂ of the number of classes, divided among the tokens. So a transformer pays for what the codes "
                "don't tell of the class, H(class | codes): that log₂ at most, nothing where codes tell all of it. Of "
                "a masked prior the bits are an upper bound.",
                "The integer prior is the one that codes files: a network over neighbours in exact integers. Seconds "
                f"of training on the processor, means over all cells: {_trainings(run, kinds)}.",
                f"{settings.samples:,} pictures in each set, drawn at temperature {settings.temperature:g}. Floor: "
                "other real pictures; ceiling: what a tokenizer gives back of real ones. Distances are between "
                "features of a small classifier that no generator saw, and of pixels; none is what others call FID.",
                "Lost by the tokenizer: the Fréchet distance of the ceiling less that of the floor; by the prior: "
                "that of samples less that of the ceiling. Distances need not add up; the parts help to read them.",
            ],
            results={
                "below_neighbours": {
                    kind: {
                        str(size): i.to_json()
                        for size in sizes
                        if (i := table.measured("below_neighbours", prior=kind, codebook_size=size))
                        is not None
                    }
                    for kind in kinds
                }
            },
        )


STUDY = Generation()


def _space(figures: Mapping[str, Any]) -> str:
    """A feature space's short name."""
    return str(figures["space"]).partition(",")[0]


def _measures(figures: Mapping[str, float]) -> dict[str, float | None]:
    """The measures of one set, kernel distances in thousandths."""
    values: dict[str, float | None] = {name: figures[name] for name in MEASURES}
    return values | {"kernel": 1000 * figures["kernel"], "right_class": figures.get("right_class")}


def _parts(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The measures of samples, and which part of their distance is whose."""
    floor, ceiling, samples = (figures[name]["frechet"] for name in ("floor", "ceiling", "samples"))
    lost = samples - floor
    return _measures(figures["samples"]) | {
        "by_tokenizer": ceiling - floor,
        "by_prior": samples - ceiling,
        "tokenizer_share": (ceiling - floor) / lost if lost > 0 else None,
    }


def _seconds(run: fw.StudyRun[Settings], kind: str) -> float:
    """Training of a kind of prior, the mean over all cells; 0 where there is none."""
    found = [cell["priors"][kind]["seconds"] for cell in run.cells.values() if kind in cell["priors"]]
    return sum(found) / len(found) if found else 0.0


def _trainings(run: fw.StudyRun[Settings], kinds: Sequence[str]) -> str:
    return ", ".join(f"{LOOKS[kind].name} {_seconds(run, kind):.1f}" for kind in kinds)


def _text(interval: fw.Interval, form: str = "{:.2f}") -> str:
    bounds = f" [{form.format(interval.low)}, {form.format(interval.high)}]" if interval.known else ""
    return form.format(interval.mean) + bounds


def _best(table: fw.LongTable, size: int, kinds: Sequence[str], space: str) -> tuple[str, float] | None:
    """Prior and guidance whose samples have the smallest Fréchet distance on average."""
    found = {
        (kind, guidance): table.interval(
            "frechet", codebook_size=size, prior=kind, guidance=guidance, space=space
        ).mean
        for kind in kinds
        for guidance in table.levels("guidance")
        if table.values("frechet", codebook_size=size, prior=kind, guidance=guidance, space=space)
    }
    return min(found, key=lambda at: found[at]) if found else None


def _answer(table: fw.LongTable, sizes: Sequence[int], kinds: Sequence[str]) -> str:
    """Of the best samples, how much of the distance is the tokenizer's."""
    parts = []
    for size in sizes:
        best = _best(table, size, kinds, "classifier")
        if best is None:
            continue
        at = {"codebook_size": size, "prior": best[0], "guidance": best[1], "space": "classifier"}
        tokenizer, prior = (table.interval(name, **at) for name in ("by_tokenizer", "by_prior"))
        parts.append(
            f"at K = {size} the tokenizer loses {_text(tokenizer)} and the best prior ({LOOKS[best[0]].name}, guidance "
            f"{best[1]:g}) {_text(prior)}"
        )
    if not parts:
        return "No tokenizer has samples yet."
    return fw.typeset(
        f"Of the Fréchet distance to real pictures, in a classifier's features, {'; '.join(parts)}."
    )


def _sentences(table: fw.LongTable, sizes: Sequence[int], kinds: Sequence[str]) -> list[str]:
    """Transformers beside the integer prior, what guidance does, and what a sample takes."""
    lines = []
    below = {
        f"{LOOKS[kind].name} at K = {size}": found
        for kind in kinds
        for size in sizes
        if (found := table.measured("below_neighbours", prior=kind, codebook_size=size)) is not None
    }
    if below:
        parts = [f"{name} {_text(found, '{:+.3f}')}" for name, found in below.items()]
        lines.append(f"Bits a token that a transformer saves beside the integer prior: {', '.join(parts)}.")
    guided = sorted(table.at(prior="autoregressive").levels("guidance"))
    if len(guided) > 1:
        for metric, word in (("right_class", "Right class"), ("recall", "Recall")):
            found = [
                table.measured(
                    metric,
                    codebook_size=sizes[-1],
                    prior="autoregressive",
                    guidance=g,
                    space="classifier",
                )
                for g in (guided[0], guided[-1])
            ]
            if all(found):
                one, other = (_text(i, "{:.3f}") for i in found if i is not None)
                lines.append(
                    f"{word} of autoregressive samples at K = {sizes[-1]}: {one} with guidance {guided[0]:g}, {other} "
                    f"with {guided[-1]:g}."
                )
    times = {
        kind: found
        for kind in kinds
        if (found := table.measured("ms", codebook_size=sizes[-1], prior=kind, guidance=1.0, space=None))
        is not None
    }
    if times:
        parts = [f"{LOOKS[kind].name} {_text(found, '{:.1f}')}" for kind, found in times.items()]
        lines.append(f"A sample with its decoding takes, in ms on one thread: {', '.join(parts)}.")
    return [fw.typeset(line) for line in lines]


def _where(table: fw.LongTable, sizes: Sequence[int], kinds: Sequence[str]) -> fw.Section:
    """Floor, the tokenizer's part and the prior's, for each codebook size and prior."""
    figure = partial(_draw_where, table, sizes, kinds)
    text = (
        "Fréchet distance of samples without guidance to real pictures, in the classifier's features: what real "
        "pictures have among themselves, what the tokenizer adds, what the prior adds. Means over seeds."
    )
    return fw.Section(
        "Where the loss is",
        text,
        [fw.Illustration("where", figure, "Parts of the distance for each size and prior")],
    )


def _draw_where(table: fw.LongTable, sizes: Sequence[int], kinds: Sequence[str]) -> Figure:
    rows = [(size, kind) for size in sizes for kind in kinds]
    figure = plots.new_figure(9, 1.5 + 0.4 * len(rows))
    axes = figure.subplots()
    plots.style(axes, "", "Fréchet distance, classifier")
    for y, (size, kind) in enumerate(rows):
        at = {"codebook_size": size, "prior": kind, "guidance": 1.0, "space": "classifier"}
        floor = table.interval("frechet", codebook_size=size, space="classifier", of="floor").mean
        left = 0.0
        widths = (floor, table.interval("by_tokenizer", **at).mean, table.interval("by_prior", **at).mean)
        for (name, colour), width in zip(PARTS.items(), widths, strict=True):
            axes.barh(y, max(width, 0.0), left=left, color=colour, height=0.6, label=name if y == 0 else None)
            left += max(width, 0.0)
    axes.set_yticks(range(len(rows)), [f"K = {size}, {LOOKS[kind].name}" for size, kind in rows])
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(PARTS), fontsize=8.5, frameon=False)
    return figure


def _bits(table: fw.LongTable, sizes: Sequence[int], kinds: Sequence[str]) -> fw.Section:
    """Bits a token of each prior, beside those without one, and what training took."""
    columns = [
        fw.Column("K and prior", kind="text"),
        fw.Column("PSNR, dB", 2),
        fw.Column("log₂ K", 3),
        fw.Column("Index entropy", 3),
        fw.Column("Held out, bits a token", 3),
        fw.Column("below the integer prior", 3, kind="change", better="more"),
        fw.Column("training, s", 1),
    ]
    rows = []
    for size in sizes:
        own = [
            table.measured(name, codebook_size=size) for name in ("psnr", "nominal_bits", "order_zero_bits")
        ]
        for kind in kinds:
            of_prior = [
                table.measured(name, codebook_size=size, prior=kind, guidance=None)
                for name in ("bits_per_token", "below_neighbours", "seconds")
            ]
            rows.append([fw.Swatch(LOOKS[kind].colour, f"K = {size}, {LOOKS[kind].name}"), *own, *of_prior])
    text = "With its class, exactly; of a masked prior at most so much. A code of these bits is what a file could have."
    return fw.Section("What the codes cost", text, tables=[fw.ResultTable("Bits a token", columns, rows)])


def _guidance(table: fw.LongTable, sizes: Sequence[int], kinds: Sequence[str]) -> fw.Section:
    """What guidance does to samples, at the largest codebook."""
    part = table.at(codebook_size=sizes[-1], space="classifier")
    guided = tuple(
        r for r in part.records if r.levels.get("prior") in kinds and r.levels.get("prior") != NEIGHBOURS
    )
    shown = fw.LongTable(guided, table.metrics, table.repeats)
    figure = partial(
        stock_figures.curves,
        shown,
        ["frechet", "right_class", "recall"],
        over="guidance",
        series="prior",
        looks=LOOKS,
    )
    text = (
        f"At K = {sizes[-1]}, in the classifier's features. Guidance takes logits beyond those of the class: samples "
        "are more surely of their class and less varied. Bands are 95 % intervals over seeds."
    )
    alt = "Fréchet distance, right class and recall against guidance"
    return fw.Section("Guidance", text, [fw.Illustration("guidance", figure, alt)])


def _distances(table: fw.LongTable, size: int, kinds: Sequence[str]) -> fw.Section:
    """All measures of one codebook size."""
    shown = ("frechet", "kernel", "precision", "recall", "coverage", "right_class")
    columns = [fw.Column("Features and set", kind="text")]
    columns += [fw.Column(table.metric[name].label, table.metric[name].digits) for name in shown]
    rows: list[Any] = []
    for space in table.levels("space"):
        rows.append(space)
        for name, label in SETS.items():
            rows.append(
                [label, *(table.measured(m, codebook_size=size, space=space, of=name) for m in shown)]
            )
        for kind in kinds:
            for guidance in table.levels("guidance"):
                at = {"codebook_size": size, "space": space, "prior": kind, "guidance": guidance}
                if table.values("frechet", **at):
                    name = f"{LOOKS[kind].name}, guidance {guidance:g}"
                    rows.append(
                        [fw.Swatch(LOOKS[kind].colour, name), *(table.measured(m, **at) for m in shown)]
                    )
    title = f"Samples beside real pictures, K = {size}"
    return fw.Section(title, tables=[fw.ResultTable(title, columns, rows)])


def _pictures(run: fw.StudyRun[Settings], sizes: Sequence[int]) -> fw.Section:
    """What pictures look like, of the first seed."""
    figures = []
    for size in sizes:
        cells = run.where(codebook_size=size)
        if cells:
            names = ", ".join(LOOKS[kind].name for kind in cells[0]["priors"])
            caption = (
                f"K = {size}: held-out pictures; what comes back of them; samples without guidance: {names}"
            )
            path = run.folder / picture_of(cells[0].cell)
            figures.append(fw.Illustration(f"samples-{size}", path, caption, caption))
    return fw.Section("Pictures", "Each column of samples is a class, but for those of neighbours.", figures)
