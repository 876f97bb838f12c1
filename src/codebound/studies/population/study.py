"""The declaration of the study: a cell per scenario, one for lifetimes, one for the film."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from codebound.reporting import stock_figures
from codebound.studies.framework import declare as fw
from codebound.studies.population import ENTRY, animation, cell, figures, findings, labels, lifetimes, summary
from codebound.studies.population.settings import FILM, LIFETIMES, REVIVAL, Scenario, Settings
from codebound.studies.population.summary import TOLERANCE, ScenarioResult, of_role

LIFETIME_KEYS = ("batch_size", "codebook_size", "threshold", "rows")
FILM_FILE = "figures/film.gif"
FILM_KEYS = ("window", "fates", "counts", "scenarios")
SETTING = fw.Column("Setting", kind="text")
SHOT_NOISE = labels.LEVELS["shot_noise"]
REVIVED = f"{100 * REVIVAL.threshold:.0f}"  # per cent of a mean codeword's hits or mass


class Population(fw.Study[Settings]):
    """Codebooks trained many times over, and what theory says of them from the same starts."""

    entry, settings, repeats = ENTRY, Settings, "run"
    metrics = (
        fw.Metric("dead", "Dead codewords", "codewords", better="less", floor=0),
        fw.Metric("died", "Deaths", "codewords", floor=0),
        fw.Metric("returned", "Returns", "codewords", floor=0),
        fw.Metric("revived", "Replaced by revival", "codewords", floor=0),
        fw.Metric("dead_by_mass", "Dead by mass", "codewords", floor=0),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        definitions = repr([scenario.model_dump() for scenario in settings.all])
        return {"scenarios": hashlib.sha256(definitions.encode()).hexdigest()[:12]}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        each = [fw.Cell(scenario.name, scenario.model_dump(mode="json")) for scenario in settings.all]
        return [*each, fw.Cell(LIFETIMES, {}, aside=True), fw.Cell(FILM, {}, aside=True)]

    def measure(self, settings: Settings, cell_: fw.Cell) -> dict[str, Any] | fw.CellResult:
        if cell_.name == LIFETIMES:
            return lifetimes.measure(settings.seed)
        if cell_.name == FILM:
            film = animation.record(settings.seed)
            return fw.CellResult(film.to_json(), {FILM_FILE: partial(animation.write_gif, film=film)})
        return cell.measure(settings, _scenario(cell_))

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        for finished in run.cells.values():
            if not finished.cell.aside:
                yield from summary.records(finished, run.settings.windows)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        finished = [each for each in run.cells.values() if not each.cell.aside]
        results = [summary.result(_scenario(each.cell), each) for each in finished]
        alone, film = run.cells.get(LIFETIMES), run.cells.get(FILM)
        measured = alone and {key: alone[key] for key in LIFETIME_KEYS}
        sections = [
            _film(run, film["window"]) if film else None,
            _agreement(results),
            _time(run.table, results),
            _sweep(of_role(results, "sweep")),
            _revival(results),
            _single(measured) if measured else None,
        ]
        return fw.Content(
            "How codewords live and die",
            answer=findings.answer(results),
            sentences=findings.sentences(results, measured),
            sections=[section for section in sections if section],
            findings=findings.findings(results, run.settings.codewords),
            method=_method(run.settings),
            results={
                "rows": [each.to_json() for each in results],
                "lifetimes": measured,
                "film": film and {key: film[key] for key in FILM_KEYS},
            },
        )


STUDY = Population()


def _scenario(cell_: fw.Cell) -> Scenario:
    return Scenario.model_validate(dict(cell_.factors))


def _film(run: fw.StudyRun[Settings], window: int) -> fw.Section:
    start = animation.SCENARIOS[0]
    text = (
        f"The same {start.codebook_size} codewords on a Gaussian in two dimensions, trained by SGD and by EMA. They "
        f"begin {start.std:g} times as widely spread as the data. A frame is a window of {window} tokens per codeword; "
        "a cell has the colour of what became of its codeword. Some dead codewords lie outside the picture."
    )
    alt = "Animation: cells of a codebook under SGD and under EMA"
    return fw.Section(
        "Codewords being born and dying", text, [fw.Illustration("film", run.folder / FILM_FILE, alt)]
    )


def _agreement(results: Sequence[ScenarioResult]) -> fw.Section:
    text = (
        "A codeword that no vector chooses gets no gradient and no mass: it is dead weight. Three theories predict how "
        "many there will be from the starting codebooks alone: frozen cells (no codeword moves), mean field (all move "
        "as the average does), shot noise (the same with whole hits). Each mark is a setting; less than 0.3 % is drawn "
        "at the edge."
    )
    alt = "Predicted against simulated share of dead codewords, for each theory"
    drawn = fw.Illustration("agreement", partial(figures.agreement, results), alt)
    mass = _mass([each for each in results if each.dead_by_mass])
    return fw.Section("Theory beside simulation", text, [drawn], [_table(results), *mass])


def _table(results: Sequence[ScenarioResult]) -> fw.ResultTable:
    columns = [
        SETTING,
        fw.Column("What", kind="text", terminal=False),
        fw.Column("Runs", 0, terminal=False),
        fw.Column("First window", 1, terminal=False),
        fw.Column("Simulated", 2),
        fw.Column("2 SE, %", 1, terminal=False),
        fw.Column("Returned, %", 0, terminal=False),
        *(
            fw.Column(look.name.capitalize(), 2, terminal=look is SHOT_NOISE)
            for look in labels.LEVELS.values()
        ),
        fw.Column("Mean field, error %", 1, kind="change", terminal=False),
        fw.Column("Error, %", 1, kind="change"),
        fw.Column("Over the run, error %", 1, kind="change", terminal=False),
        fw.Column(f"Within {TOLERANCE:.0f} %"),
    ]
    rows: list[Any] = []
    for role, look in labels.ROLES.items():
        own = of_role(results, role)
        rows += [look.name, *map(_row, own)] if own else []
    note = (
        "Codewords per codebook without a hit in the last window, unless a column says otherwise; in brackets 95 % "
        "intervals over codebooks. 2 SE: two standard errors of the simulated mean, in per cent of it. Returned: of "
        "the dead of the worst window. Errors in per cent of the simulated mean, paired by start, of shot noise unless a "
        "column says otherwise. None left: fewer than half a codeword dead, simulated and predicted."
    )
    return fw.ResultTable("Dead codewords at the end", columns, rows, note)


def _row(each: ScenarioResult) -> list[Any]:
    levels, shown = each.levels, not each.none_left
    met = {True: "yes", False: "no", None: "more runs needed"}[each.theory.within_10_percent]
    return [
        each.scenario.name, labels.definition(each.scenario), each.runs, each.dead_first_window, each.dead,
        each.two_standard_errors_percent, each.back if each.most_dead >= 1 else None,
        *(level.dead for level in levels.values()), levels["mean_field"].error_percent if shown else None,
        each.theory.error_percent if shown else None, each.theory.error_over_run_percent,
        met if shown else "none left",
    ]  # fmt: skip


def _mass(results: Sequence[ScenarioResult]) -> list[fw.ResultTable]:
    """The other meaning of dead, where there is an EMA."""
    theories = ("mean_field", "shot_noise")
    names = ("simulated", *(labels.LEVELS[level].name for level in theories))
    columns = [SETTING, fw.Column("No hit", 2), *(fw.Column(f"Small mass, {name}", 2) for name in names)]
    rows = [
        [r.scenario.name, r.dead, r.dead_by_mass, *(r.levels[level].dead_by_mass for level in theories)]
        for r in results
    ]
    note = (
        f"Under EMA one can also call dead what has a mass (running count of hits) under {REVIVED} % of the mean "
        "codeword's. With a short memory that is another thing: such codewords are between two hits."
    )
    return [fw.ResultTable("Dead by mass, at the end", columns, rows, note)] if rows else []


def _time(table: fw.LongTable, results: Sequence[ScenarioResult]) -> fw.Section:
    """Window by window: the dead of every role, and deaths and returns where theory is judged."""
    text = (
        "Codewords per codebook in each window, with 95 % bands over codebooks. A codeword died if it had a hit in the "
        "window before and none in this one; it returned the other way round."
    )
    shown = []
    for role, look in labels.ROLES.items():
        own = of_role(results, role) if role != "sweep" else []
        for metric in ("dead", "died", "returned") if role in ("held_out", "own") else ("dead",):
            name = f"{table.metric[metric].label}: settings {look.name}"
            draw = partial(figures.time_course, table, own, metric)
            shown += [fw.Illustration(f"{role}_{metric}", draw, name, f"{name}.")] if own else []
    return fw.Section("Over training", text, shown)


def _sweep(results: Sequence[ScenarioResult]) -> fw.Section | None:
    """A line for every setting that was changed, from its base."""
    shown = []
    for update in ("ema", "sgd"):
        own = [each for each in results if each.scenario.update == update]
        rows = [(_change(each.scenario), (each.share("shot_noise"), each.share())) for each in own]
        draw = partial(
            stock_figures.dots, rows, [SHOT_NOISE.name, "simulated"], title=update.upper(),
            unit="dead at the end, % of K",
        )  # fmt: skip
        name = f"Dead codewords as one setting of {update.upper()} changes"
        shown += [fw.Illustration(f"sweep_{update}", draw, name)] if rows else []
    text = (
        "One thing changed at a time from the base in the first line. All have the same number of tokens per codeword, "
        "so that a larger batch means fewer updates."
    )
    return fw.Section("One setting at a time", text, shown) if shown else None


def _change(scenario: Scenario) -> str:
    key = scenario.varied
    return f"{labels.KEYS[key]} = {getattr(scenario, key)}" if key else "base"


def _revival(results: Sequence[ScenarioResult]) -> fw.Section | None:
    """Each setting with revival beside the same one without."""
    pairs = [(each, summary.without_revival(results, each)) for each in results if each.scenario.revival]
    if not pairs:
        return None
    names = [labels.title(each.scenario) for each, _ in pairs]
    dots = [(other and other.share(), each.share()) for each, other in pairs]
    draw = partial(
        stock_figures.dots, list(zip(names, dots, strict=True)), ["without revival", "with revival"],
        unit="dead at the end, % of K, simulated",
    )  # fmt: skip
    titles = ("Dead without", "Dead with", "Replaced, simulated", "Replaced, predicted")
    rows = [
        [one.scenario.name, other and other.dead, one.dead, one.revived, one.revived_predicted]
        for one, other in pairs
    ]
    table = fw.ResultTable(
        "Codewords per codebook", [SETTING, *(fw.Column(name, 2) for name in titles)], rows
    )
    text = f"At the end of each window a codeword with under {REVIVED} % of the mean number of hits moves to a token."
    return fw.Section(
        "Revival", text, [fw.Illustration("revival", draw, "Dead with and without it")], [table]
    )


def _single(measured: Mapping[str, Any]) -> fw.Section:
    text = (
        f"A codebook of {measured['codebook_size']}, batches of {measured['batch_size']}, one cell that stands still; "
        f"dead is a mass under {measured['threshold']:.2g} tokens per step. Lines: the first-step equation. Where "
        "chains live longer than can be simulated there is no dotted line."
    )
    alt = "Mean time to extinction and to recovery of an EMA mass"
    drawn = fw.Illustration("lifetimes", partial(figures.lifetimes, measured["rows"]), alt)
    return fw.Section("How long one codeword lives", text, [drawn])


def _method(settings: Settings) -> list[str]:
    return [
        f"Dead is a codeword without a hit (a token, a vector, whose nearest codeword it is) in a window of "
        f"{settings.window}·K tokens; one of probability 1/K would be missed with probability e^−{settings.window}. A "
        f"run is {settings.windows} windows.",
        "Frozen cells: a cell is hit with probability p for ever, so Σ(1 − p)^N codewords are dead after N tokens.",
        "Mean field: SGD moves a codeword by dc/dt = 2·lr·p·(μ − c), μ the mean of its cell; under EMA the mass "
        "follows dN/dt = (1 − γ)(B·p − N), and so do the sums. Exact as steps become small.",
        "Shot noise: the same with Poisson numbers of whole hits; a Monte-Carlo solution, about as dear as simulating.",
        "Held-out settings were committed (studies/population/held_out.yaml) before any of them was simulated; the "
        "theories were made on the development settings. They get the starts and the source, never the batches.",
        "Each codebook has its own start and fresh tokens. EMA, the gradient and revival are those of the package's "
        "layer; SGD is plain gradient descent.",
        f"{settings.codewords:,} codewords in all per held-out setting, half that for development and revival, a "
        "quarter for one setting at a time.",
    ]
