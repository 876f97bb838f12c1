"""The declaration of the study: a cell is one tokenizer, of an arm at a number of bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from codebound.reporting import stock_figures
from codebound.studies.framework import declare as fw
from codebound.studies.hierarchy import ENTRY
from codebound.studies.hierarchy.arms import ARMS, SINGLE, task_of
from codebound.studies.hierarchy.measure import SHOWN, measure, picture_of, pictures
from codebound.studies.hierarchy.settings import Settings

LOOKS = {name: fw.Look(arm.label, arm.colour, emphasis=name == SINGLE) for name, arm in ARMS.items()}
LEVELS = {0: "coarsest", 1: "second", 2: "finest of three"}
EQUAL = "equal bytes"  # as a level of `bits`: read off between the numbers of bits that were trained
SPACES = {
    "pixels": "pixels",
    "Effi": "effnet",
}  # how a feature space's name begins, and its name in the table


class Hierarchy(fw.Study[Settings]):
    """Codes of one, two and three resolutions that take equally many bytes."""

    entry, settings, claims_file, unit = ENTRY, Settings, "claims.yaml", "tokenizers"
    metrics = (
        fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
        fw.Metric("gain", "PSNR above one level at equal bytes", "dB", better="more", digits=2),
        fw.Metric("nominal_bits", "log₂ K", "bits a picture", digits=1),
        fw.Metric("entropy_bits", "Index entropy", "bits a picture", digits=1),
        fw.Metric("file_bits", "File", "bits a picture", digits=1),
        fw.Metric("prior_bits", "Under the prior", "bits a picture", better="less", digits=1),
        fw.Metric("saved", "Saved by the prior", "share of the index entropy", better="more", digits=3),
        fw.Metric("gaussian_psnr", "Gaussian reference", "dB", digits=2),
        fw.Metric("worth_db", "Worth of a level", "dB", better="more", digits=2),
        fw.Metric("alone_db", "PSNR with finer levels exchanged", "dB", digits=2),
        fw.Metric("usage", "Usage", "share of the codewords", digits=3),
        fw.Metric("kernel", "Kernel distance of samples, ×1000", better="less", digits=2),
        fw.Metric("frechet", "Fréchet distance of samples", better="less", digits=2),
        fw.Metric("coverage", "Coverage of samples", better="more", digits=3),
        fw.Metric("parameters", "Weights"),
        fw.Metric("cpu_seconds", "Processor time", "s", digits=0),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        images = pictures(settings)
        for cell in self.cells(settings):
            task_of(ARMS[cell["arm"]], settings, images, cell["bits"], 0)
        return {"data": images.digest}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        """Seeds outermost; variants of an arm at the largest number of bits alone."""
        return [
            fw.Cell(f"{arm}-{bits:g}-{seed}", {"arm": arm, "bits": bits, "seed": seed})
            for seed in range(settings.seeds)
            for bits in settings.bits
            for arm in settings.arms
            if ARMS[arm].main or bits == max(settings.bits)
        ]

    def measure(self, settings: Settings, cell: fw.Cell) -> fw.CellResult:
        return measure(settings, cell)

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        names = [metric.name for metric in self.metrics]
        for finished in run.cells.values():
            # The cell as a whole, its levels, and its samples in each feature space beside floor and ceiling.
            factors, content = finished.cell.factors, finished.content
            whole = {name: content[name] for name in names if name in content}
            if "prior_bits" in content:
                whole["saved"] = 1 - content["prior_bits"] / content["entropy_bits"]
            yield fw.Record(factors, whole)
            for number, level in enumerate(finished["levels"]):
                yield fw.Record({**factors, "level": number}, {n: level[n] for n in names if n in level})
            for figures in finished.get("spaces", ()):
                for pictured in ("samples", "ceiling", "floor"):
                    values = {name: figures[pictured][name] for name in ("kernel", "frechet", "coverage")}
                    values["kernel"] *= 1000
                    yield fw.Record({**factors, "space": _space(figures["space"]), "of": pictured}, values)
        yield from _gains(run)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        settings, table = run.settings, run.table
        there = [arm for arm in ARMS if arm in table.levels("arm")]
        return fw.Content(
            "One level of codes or several",
            answer=_answer(table, there),
            sentences=_sentences(table, there, max(settings.bits)),
            sections=[
                _quality(table, there),
                _costs(table, there, max(settings.bits)),
                _levels(table, there, max(settings.bits)),
                _samples(run, there),
            ],
            method=[
                f"All arms: networks of width {settings.width}, {settings.steps:,} steps of {settings.batch_size} "
                f"pictures ({settings.data}, {settings.crop} pixels where they are crops), equal learning rates, "
                "codebooks by EMA from k-means. One level has as many residual blocks as two have together.",
                "Coarse levels have 512 codewords; the finest one has as many as make log₂ K over all tokens equal. "
                f"Sizes at {max(settings.bits):g} bits: "
                + "; ".join(f"{ARMS[a].label} {_sizes(run, a)}" for a in there if ARMS[a].main)
                + ".",
                "Bytes are those of real .cbd files, one for each level, that hold the codes of all held-out pictures "
                "side by side; they learn their counts as they go. At equal bytes: read off between the numbers of "
                "bits that were trained, seed by seed.",
                f"The prior: an autoregressive transformer of {settings.prior_depth} layers of width "
                f"{settings.prior_width}, {settings.prior_steps:,} steps, the levels in one sequence, coarse first.",
                f"Worth of a level: dB lost when its codes are exchanged among pictures. {SHOWN} of the pictures that "
                "are shown are held out; samples are compared with as many of them as there are samples.",
                "The Gaussian reference: the best code for Gaussian pictures of equal covariance at the file's bits. "
                "Real pictures are not Gaussian, so codes may be better; it is no bound.",
            ],
            results={"gain_db": {arm: i.to_json() for arm in there if (i := _gain(table, arm)) is not None}},
        )


STUDY = Hierarchy()


def _space(name: str) -> str:
    """The short name of a feature space."""
    return next((short for start, short in SPACES.items() if name.startswith(start)), name)


def _gains(run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
    """PSNR of each arm above that of one level, seed by seed, at a number of bytes that both have points around."""
    for seed in {cell.cell["seed"] for cell in run.cells.values()}:
        curves = {
            arm: sorted((c["file_bits"], c["psnr"]) for c in run.where(arm=arm, seed=seed))
            for arm in run.settings.arms
        }
        single = curves.get(SINGLE, [])
        for arm, curve in curves.items():
            if arm == SINGLE or not curve or len(single) < 2:
                continue
            # In the middle of what both reach; of a single point at that point, where one level reaches it.
            low, high = max(curve[0][0], single[0][0]), min(curve[-1][0], single[-1][0])
            if low > high:
                continue
            bits = (low + high) / 2
            psnr, base = (float(np.interp(bits, *np.array(points).T)) for points in (curve, single))
            yield fw.Record({"arm": arm, "bits": EQUAL, "seed": seed}, {"gain": psnr - base})


def _gain(table: fw.LongTable, arm: str) -> fw.Interval | None:
    """dB above one level at equal bytes; None where no bytes are equal."""
    return table.measured("gain", arm=arm, bits=EQUAL)


def _text(interval: fw.Interval, form: str = "{:+.2f}", unit: str = " dB") -> str:
    """+0.31 dB [+0.28, +0.34]"""
    bounds = f" [{form.format(interval.low)}, {form.format(interval.high)}]" if interval.known else ""
    return form.format(interval.mean) + unit + bounds


def _answer(table: fw.LongTable, there: Sequence[str]) -> str:
    """What two and three levels give back beside one."""
    gains = {arm: gain for arm in there if ARMS[arm].main and (gain := _gain(table, arm)) is not None}
    if not gains:
        return "No arm has files of as many bytes as one level yet."
    parts = [f"{ARMS[arm].label} {_text(gain)}" for arm, gain in gains.items()]
    best = max(gains, key=lambda arm: gains[arm].mean)
    word = (
        "Several levels give back more than one" if gains[best].above(0)
        else "One level gives back more than several" if all(gain.below(0) for gain in gains.values())
        else "One level and several are not told apart"
    )  # fmt: skip
    return fw.typeset(f"{word} at equal bytes: beside one level, {' and '.join(parts)}.")


def _sentences(table: fw.LongTable, there: Sequence[str], bits: float) -> list[str]:
    """What priors save, what the top is worth, and what samples say."""
    lines = []
    saved = {
        a: s
        for a in there
        if ARMS[a].main and (s := table.measured("prior_bits", arm=a, bits=bits, level=None))
    }
    if SINGLE in saved and len(saved) > 1:
        parts = [f"{ARMS[arm].label} {interval.mean:.1f}" for arm, interval in saved.items()]
        lines.append(
            f"Bits that the prior asks for a held-out picture: {', '.join(parts)}; log₂ K is {bits:g} for all."
        )
    tops = {arm: w for arm in there if (w := table.measured("worth_db", arm=arm, bits=bits, level=0))}
    if tops:
        parts = [f"{_text(worth, '{:.2f}')} ({ARMS[arm].label})" for arm, worth in tops.items()]
        lines.append(f"Exchanging the coarsest codes among pictures costs {', '.join(parts)}.")
    for space in table.levels("space"):
        values = {
            arm: table.interval("frechet", arm=arm, bits=bits, space=space, of="samples")
            for arm in there
            if ARMS[arm].main and table.values("frechet", arm=arm, bits=bits, space=space, of="samples")
        }
        if values:
            parts = [f"{ARMS[arm].label} {_text(v, '{:.1f}', '')}" for arm, v in values.items()]
            lines.append(f"Fréchet distance of samples in {space}: {', '.join(parts)}.")
    return [fw.typeset(line) for line in lines]


def _sizes(run: fw.StudyRun[Settings], arm: str) -> str:
    """Grid and K of each level."""
    cells = run.where(arm=arm, bits=max(run.settings.bits))
    if not cells:
        return "not there yet"
    return ", ".join(
        f"{g[0]}×{g[1]} of {k}" for g, k in ((v["grid"], v["codebook_size"]) for v in cells[0]["levels"])
    )


def _quality(table: fw.LongTable, there: Sequence[str]) -> fw.Section:
    """PSNR against the size of files, and what the arms are above one level."""
    trained = table.at(level=None, space=None)
    figure = partial(stock_figures.rate_distortion, trained, "file_bits", "psnr", series="arm", looks=LOOKS)
    columns = [
        fw.Column("Arm", kind="text"),
        fw.Column("Above one level at equal bytes, dB", 2, kind="change", better="more"),
        fw.Column("Weights", 0),
    ]
    rows = [
        [
            fw.Swatch(ARMS[arm].colour, ARMS[arm].label),
            _gain(table, arm),
            next(iter(trained.at(arm=arm).records)).values["parameters"],
        ]
        for arm in there
    ]
    return fw.Section(
        "What comes back",
        "Further up and to the left is better: PSNR of held-out pictures against the size of a file with their codes. "
        "Bars are 95 % intervals over seeds.",
        [fw.Illustration("quality", figure, "PSNR against bits a picture in files, a line for each arm")],
        [fw.ResultTable("At equal bytes", columns, rows)],
    )


def _costs(table: fw.LongTable, there: Sequence[str], bits: float) -> fw.Section:
    """The ladder of what a picture's codes cost, each rung an upper bound of what they can say of the picture."""
    names = ("nominal_bits", "entropy_bits", "file_bits", "prior_bits")
    own = table.at(level=None, space=None)
    columns = [
        fw.Column("Arm", kind="text"),
        *(fw.Column(own.metric[name].label, 1) for name in names),
        fw.Column("PSNR, dB", 2),
        fw.Column("Gaussian reference, dB", 2),
    ]
    rows = [
        [
            fw.Swatch(ARMS[arm].colour, ARMS[arm].label),
            *(own.measured(name, arm=arm, bits=bits) for name in (*names, "psnr", "gaussian_psnr")),
        ]
        for arm in there
    ]
    text = (
        "Codes Z of a picture X say I(X;Z) = H(Z) bits of it, as an encoder draws nothing by chance. Each column "
        "bounds that from above: H(Z) ≤ prior, file and index entropy, up to what held-out pictures vary by, and all "
        "are at most log₂ K over the tokens. Levels share the bits; they don't add any."
    )
    return fw.Section(
        "What the codes can say",
        text,
        tables=[fw.ResultTable(f"Bits a picture, log₂ K = {bits:g}", columns, rows)],
    )


def _levels(table: fw.LongTable, there: Sequence[str], bits: float) -> fw.Section:
    """Each level's bits and worth."""
    columns = [
        fw.Column("Arm and level", kind="text"),
        fw.Column("log₂ K", 1),
        fw.Column("Index entropy", 1),
        fw.Column("Under the prior", 1),
        fw.Column("Worth, dB", 2),
        fw.Column("PSNR with finer levels exchanged, dB", 2),
        fw.Column("Usage", 1, kind="share"),
    ]
    names = ("nominal_bits", "entropy_bits", "prior_bits", "worth_db", "alone_db", "usage")
    rows = []
    for arm in there:
        if ARMS[arm].levels == 1:
            continue
        for level in range(ARMS[arm].levels):
            values = [table.measured(name, arm=arm, bits=bits, level=level) for name in names]
            name = f"{ARMS[arm].label}, level {level + 1}"
            rows.append([fw.Swatch(ARMS[arm].colour, name), *values])
    text = (
        "Level 1 is the coarsest. A level that costs bits and is worth nothing is waste. What makes it useful is that "
        "training sometimes does without the finest codes: compare the arms of two levels, which differ in how often."
    )
    return fw.Section(
        "What each level is worth",
        text,
        tables=[fw.ResultTable("Bits a picture and dB of each level", columns, rows)],
    )


def _samples(run: fw.StudyRun[Settings], there: Sequence[str]) -> fw.Section:
    """Distances of samples beside floor and ceiling, and what they look like."""
    table, bits = run.table, max(run.settings.bits)
    columns = [fw.Column("Arm and features", kind="text")]
    columns += [
        fw.Column(f"{name}: {of}", digits, terminal=of == "samples")
        for name, digits in (("Kernel ×1000", 1), ("Fréchet", 1), ("Coverage", 2))
        for of in ("samples", "ceiling", "floor")
    ]
    rows = [
        [
            fw.Swatch(ARMS[arm].colour, f"{ARMS[arm].label}, {space}"),
            *(
                table.measured(name, arm=arm, bits=bits, space=space, of=of)
                for name in ("kernel", "frechet", "coverage")
                for of in ("samples", "ceiling", "floor")
            ),
        ]
        for space in table.levels("space")
        for arm in there
        if table.values("kernel", arm=arm, bits=bits, space=space, of="samples")
    ]
    figures = [
        fw.Illustration(
            f"samples-{arm}",
            run.folder / picture_of(cells[0].cell),
            f"Held-out pictures, what comes back of them, and samples: {ARMS[arm].label}",
            f"{ARMS[arm].label}: held-out pictures; what comes back of them; two rows of samples",
        )
        for arm in there
        if ARMS[arm].main and (cells := run.where(arm=arm, bits=bits))
    ]
    text = (
        "Floor: other real pictures; ceiling: what comes back of them. Between ceiling and floor lies what the "
        "tokenizer loses, between samples and ceiling what the prior does not know."
    )
    return fw.Section(
        "Samples of a prior over the codes", text, figures, [fw.ResultTable("Distances", columns, rows)]
    )
