"""The declaration of the study: a cell is one tokenizer, whose decoder is trained on in every arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from codebound.errors import InputError
from codebound.reporting import stock_figures
from codebound.reporting.stock_figures import PALETTE
from codebound.studies.adversary import ENTRY
from codebound.studies.adversary.measure import measure, picture_of, pictures, there
from codebound.studies.adversary.settings import Settings
from codebound.studies.framework import declare as fw

END = "end"  # as a level of `when`: after the last step
SPACES = {"effnet": "EfficientNet", "pixels": "pixels"}


class Adversary(fw.Study[Settings]):
    """A decoder on frozen codes: by squared error, and against a discriminator, at equal steps."""

    entry, settings, claims_file, unit = ENTRY, Settings, "claims.yaml", "tokenizers"
    metrics = (
        fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
        fw.Metric("kernel", "Kernel distance, ×1000", better="less", digits=2),
        fw.Metric("frechet", "Fréchet distance", better="less", digits=2),
        fw.Metric("below", "Kernel distance below that by squared error", "%", better="more", digits=1),
        fw.Metric("lost", "PSNR below that by squared error", "dB", better="less", digits=2),
        fw.Metric("seconds", "Training", "s on the processor", digits=0),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        if not there(settings):
            raise InputError(
                f"features={list(settings.features)}: effnet needs the extra 'perceptual', which is not installed; "
                "pixels is accepted"
            )
        return {"data": pictures(settings).digest}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        return fw.grid(seed=range(settings.seeds))

    def measure(self, settings: Settings, cell: fw.Cell) -> fw.CellResult:
        return measure(settings, cell)

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        for finished in run.cells.values():
            plain = next(arm["curve"][-1] for arm in finished["arms"] if arm["weight"] == 0)
            for arm in finished["arms"]:
                levels = {**finished.cell.factors, "weight": arm["weight"]}
                for point in arm["curve"]:
                    yield fw.Record({**levels, "step": point["step"]}, {"psnr": point["psnr"]})
                    for space, values in point["spaces"].items():
                        yield fw.Record({**levels, "step": point["step"], "space": space}, values)

                # The end of each arm beside that of squared error alone.
                last, others = arm["curve"][-1], {**levels, "when": END}
                lost = plain["psnr"] - last["psnr"] if arm["weight"] else None
                yield fw.Record(others, {"psnr": last["psnr"], "lost": lost, "seconds": arm["seconds"]})
                for space, values in last["spaces"].items():
                    base = plain["spaces"][space]["kernel"]
                    below = 100 * (1 - values["kernel"] / base) if arm["weight"] and base > 0 else None
                    yield fw.Record({**others, "space": space}, {**values, "below": below})
            for space, values in finished["floor"].items():
                yield fw.Record(
                    {**finished.cell.factors, "weight": "real", "when": END, "space": space}, values
                )

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table, settings = run.table, run.settings
        weights = sorted(level for level in table.levels("weight") if level != "real")
        spaces = [space for space in SPACES if space in table.levels("space")]
        return fw.Content(
            "An adversary for a decoder",
            answer=_answer(table, weights, spaces),
            sentences=_sentences(table, weights, spaces),
            sections=[_curves(table, weights, spaces), _end(table, weights, spaces), _pictures(run, weights)],
            method=[
                f"{settings.data}, {settings.crop} pixels where they are crops: a tokenizer of K = "
                f"{settings.codebook_size} and stride {settings.stride}, {settings.base_steps:,} steps by squared "
                f"error. Then its codes are frozen and its decoder learns for {settings.steps:,} more steps of "
                f"{settings.batch_size} pictures, in every arm from the same weights and on the same batches.",
                "The adversary: a patch discriminator under spectral norm with the hinge loss, trained from the first "
                f"step; it acts after {settings.begin:.0%} of the steps. Its weight is a share of the reconstruction's "
                "gradient at the last layer.",
                f"Distances: reproductions of {settings.pictures:,} held-out pictures to {settings.pictures:,} others. "
                "No arm was trained with these features. Kernel distances have no scale of their own: see that of real "
                "pictures.",
                "Equal steps are not equal time: a step against a discriminator takes longer, as the seconds show.",
            ],
            results={
                "below_percent": {
                    f"{weight:g}": {
                        space: table.interval("below", weight=weight, when=END, space=space).to_json()
                        for space in spaces
                        if table.values("below", weight=weight, when=END, space=space)
                    }
                    for weight in weights
                    if weight
                }
            },
        )


STUDY = Adversary()


def _looks(weights: Sequence[float]) -> dict[Any, fw.Look]:
    return {
        weight: fw.Look(_label(weight), PALETTE[number], emphasis=not weight)
        for number, weight in enumerate(weights)
    }


def _label(weight: float) -> str:
    return f"adversary of weight {weight:g}" if weight else "squared error alone"


def _text(interval: fw.Interval, form: str, unit: str) -> str:
    bounds = f" [{form.format(interval.low)}, {form.format(interval.high)}]" if interval.known else ""
    return f"{form.format(interval.mean)} {unit}{bounds}"


def _lower(interval: fw.Interval, form: str, unit: str) -> str:
    """By how much something is lower, or higher where the mean is below 0."""
    if interval.mean >= 0:
        return f"{_text(interval, form, unit)} lower"
    turned = replace(interval, mean=-interval.mean, low=-interval.high, high=-interval.low)
    return f"{_text(turned, form, unit)} higher"


def _answer(table: fw.LongTable, weights: Sequence[float], spaces: Sequence[str]) -> str:
    """The heaviest adversary beside squared error alone."""
    weight = weights[-1]
    below = table.measured("below", weight=weight, when=END, space=spaces[0])
    lost = table.measured("lost", weight=weight, when=END, space=None)
    if below is None or lost is None:
        return "No arm with an adversary is finished yet, or squared error alone is as near as real pictures are."
    word = (
        "nearer to"
        if below.above(0)
        else "further from"
        if below.below(0)
        else "neither nearer to nor further from"
    )
    return fw.typeset(
        f"At equal codes and steps an adversary of weight {weight:g} brings pictures {word} real ones in "
        f"{SPACES[spaces[0]]}'s features, in which nobody trained: the kernel distance is "
        f"{_lower(below, '{:.0f}', '%')}, PSNR {_lower(lost, '{:.2f}', 'dB')}."
    )


def _sentences(table: fw.LongTable, weights: Sequence[float], spaces: Sequence[str]) -> list[str]:
    """The other weights and spaces, and what it takes."""
    lines = []
    for space in spaces:
        parts = [
            f"{_lower(found, '{:.0f}', '%')} (weight {weight:g})"
            for weight in weights
            if (found := table.measured("below", weight=weight, when=END, space=space)) is not None
        ]
        if parts:
            lines.append(
                f"Kernel distance beside that of squared error alone, in {SPACES[space]}: {', '.join(parts)}."
            )
    seconds = {
        w: found for w in weights if (found := table.measured("seconds", weight=w, when=END)) is not None
    }
    if 0.0 in seconds and len(seconds) > 1:
        factor = seconds[weights[-1]].mean / seconds[0.0].mean
        lines.append(f"The same number of steps takes {factor:.1f} times as long against a discriminator.")
    return [fw.typeset(line) for line in lines]


def _curves(table: fw.LongTable, weights: Sequence[float], spaces: Sequence[str]) -> fw.Section:
    looks, trained = _looks(weights), table.at(when=None)
    figures = [
        fw.Illustration(
            "psnr",
            partial(
                stock_figures.curves, trained.at(space=None), ["psnr"], over="step", series="weight", looks=looks
            ),
            "PSNR over the steps, a line for each arm",
        ),
        *(
            fw.Illustration(
                f"kernel-{space}",
                partial(
                    stock_figures.curves, trained.at(space=space), ["kernel", "frechet"], over="step", series="weight",
                    looks=looks,
                ),
                f"Distances in {SPACES[space]} over the steps, a line for each arm",
                f"in {SPACES[space]}",
            )
            for space in spaces
        ),
    ]  # fmt: skip
    text = (
        "Held-out pictures over the decoder's steps; the first point is the decoder that all arms begin from. Bands "
        "are 95 % intervals over seeds. A distance that falls while PSNR does, too, is what an adversary buys."
    )
    return fw.Section("Over the steps", text, figures)


def _end(table: fw.LongTable, weights: Sequence[float], spaces: Sequence[str]) -> fw.Section:
    columns = [fw.Column("Arm", kind="text"), fw.Column("PSNR, dB", 2), fw.Column("lost, dB", 2)]
    for space in spaces:
        columns += [
            fw.Column(f"Kernel ×1000, {SPACES[space]}", 2),
            fw.Column("lower by, %", 1, kind="change", better="more"),
            fw.Column(f"Fréchet, {SPACES[space]}", 2),
        ]
    columns.append(fw.Column("Training, s", 0))
    rows = []
    for weight in (*weights, "real"):
        values: list[Any] = [
            table.measured(metric, weight=weight, when=END, space=None) for metric in ("psnr", "lost")
        ]
        for space in spaces:
            values += [
                table.measured(metric, weight=weight, when=END, space=space)
                for metric in ("kernel", "below", "frechet")
            ]
        name = "real pictures (floor)" if weight == "real" else _label(weight)
        rows.append([name, *values, table.measured("seconds", weight=weight, when=END, space=None)])
    return fw.Section("At the end", tables=[fw.ResultTable("After the last step", columns, rows)])


def _pictures(run: fw.StudyRun[Settings], weights: Sequence[float]) -> fw.Section:
    cell = next(iter(run.cells.values()))
    caption = f"Held-out pictures; then what each arm gives back: {', '.join(_label(w) for w in run.settings.weights)}"
    path = run.folder / picture_of(cell.cell)
    return fw.Section("Pictures", "", [fw.Illustration("pictures", path, caption, caption)])
