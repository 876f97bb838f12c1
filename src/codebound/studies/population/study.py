"""The declaration of the study: a cell per scenario, one for lifetimes, one for the film."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from codebound.reporting import stock_figures
from codebound.studies.framework import declare as fw
from codebound.studies.population import ENTRY, animation, figures, findings, lifetimes, summary
from codebound.studies.population.cell import measure
from codebound.studies.population.settings import FILM, LIFETIMES, REVIVAL, Scenario, Settings
from codebound.studies.population.summary import TOLERANCE, ScenarioResult, of_role

LIFETIME_KEYS = ("batch_size", "codebook_size", "threshold", "rows")
FILM_FILE = "figures/film.gif"
FILM_KEYS = ("window", "fates", "counts", "scenarios")
SETTING = fw.Column("Setting", kind="text")
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

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any] | fw.CellResult:
        if cell.name == LIFETIMES:
            return lifetimes.measure(settings.seed)
        if cell.name == FILM:
            film = animation.record(settings.seed)
            return fw.CellResult(film.to_json(), {FILM_FILE: partial(animation.write_gif, film=film)})
        return measure(settings, _scenario(cell))

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
            _revival(run.table, results),
            _single(measured) if measured else None,
        ]
        return fw.Content(
            "How codewords live and die",
            answer=findings.answer(results),
            sentences=findings.sentences(results, measured),
            sections=[section for section in sections if section],
            findings=findings.findings(results),
            method=_method(run.settings),
            results={
                "rows": summary.plain(results),
                "lifetimes": measured,
                "film": film and {key: film[key] for key in FILM_KEYS},
            },
        )


STUDY = Population()


def _scenario(cell: fw.Cell) -> Scenario:
    return Scenario.model_validate(dict(cell.factors))


def _film(run: fw.StudyRun[Settings], window: int) -> fw.Section:
    start = animation.SCENARIOS[0]
    text = (
        f"The same {start.codebook_size} codewords on a Gaussian in two dimensions, trained by SGD and by EMA. They "
        f"begin {start.std:g} times as widely spread as the data. A frame is a window of {window} tokens per codeword; "
        "a cell has the colour of what became of its codeword. Some dead codewords lie outside the picture."
    )
    drawn = fw.Illustration(
        "film", run.folder / FILM_FILE, "Animation: cells of a codebook under SGD and under EMA"
    )
    return fw.Section("Codewords being born and dying", text, [drawn])


def _agreement(results: Sequence[ScenarioResult]) -> fw.Section:
    text = (
        "A codeword that no vector chooses gets no gradient and no mass: it is dead weight. Three theories predict how "
        "many there will be from the starting codebooks alone: frozen cells (no codeword moves), mean field (all move "
        "as the average does), shot noise (the same with whole hits). Each mark is a setting; less than 0.3 % is drawn "
        "at the edge."
    )
    alt = "Predicted against simulated share of dead codewords, for each theory"
    drawn = fw.Illustration("agreement", partial(figures.agreement, results), alt)
    return fw.Section("Theory beside simulation", text, [drawn], [_table(results)])


def _table(results: Sequence[ScenarioResult]) -> fw.ResultTable:
    page = partial(fw.Column, terminal=False)
    met = {True: "yes", False: "no", None: "more runs needed"}
    shown: list[tuple[fw.Column, Callable[[ScenarioResult], Any]]] = [
        (SETTING, lambda r: r.scenario.name),
        (page("What", kind="text"), lambda r: figures.definition(r.scenario)),
        (page("Runs", 0), lambda r: r.runs),
        (page("First window", 1), lambda r: r.dead_first_window),
        (fw.Column("Simulated", 2), lambda r: r.dead),
        (page("2 SE, %", 1), lambda r: r.two_standard_errors_percent),
        (page("Returned, %", 0), lambda r: r.back if r.most_dead >= 1 else None),
        (page("Frozen cells", 2), lambda r: r.levels["frozen"].dead),
        (page("Mean field", 2), lambda r: r.levels["mean_field"].dead),
        (fw.Column("Shot noise", 2), lambda r: r.theory.dead),
        (page("Mean field, error %", 1, "change"), lambda r: r.error("mean_field")),
        (fw.Column("Error, %", 1, "change"), lambda r: r.error("shot_noise")),
        (page("Over the run, error %", 1, "change"), lambda r: r.theory.error_over_run_percent),
        (
            fw.Column(f"Within {TOLERANCE:.0f} %"),
            lambda r: "none left" if r.none_left else met[r.theory.within_10_percent],
        ),
        (page("Small mass", 2), lambda r: r.dead_by_mass),
        (page("Small mass, shot noise", 2), lambda r: r.theory.dead_by_mass),
    ]
    rows: list[Any] = []
    for role, look in figures.ROLES.items():
        own = of_role(results, role)
        rows += [look.name, *([value(each) for _, value in shown] for each in own)] if own else []
    note = (
        "Codewords per codebook without a hit in the last window, unless a column says otherwise; in brackets 95 % "
        "intervals over codebooks. 2 SE: two standard errors of the simulated mean, in per cent of it; above "
        f"{TOLERANCE:.0f} % more runs are needed (--set codewords=...). Returned: of the dead of the worst window. "
        "Errors in per cent of the simulated mean, paired by start. None left: under half a codeword dead, simulated "
        f"and predicted. Small mass: also called dead under EMA, a running count of hits under {REVIVED} % of the mean "
        "codeword's; with a short memory such codewords are between two hits."
    )
    return fw.ResultTable("Dead codewords at the end", [column for column, _ in shown], rows, note)


def _time(table: fw.LongTable, results: Sequence[ScenarioResult]) -> fw.Section:
    """Window by window: the dead of every role, and deaths and returns where theory is judged."""
    text = (
        "Codewords per codebook in each window, with 95 % bands over codebooks. A codeword died if it had a hit in the "
        "window before and none in this one; it returned the other way round."
    )
    shown = []
    for role, look in figures.ROLES.items():
        own = of_role(results, role) if role not in ("sweep", "revival") else []
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
        look = {"title": update.upper(), "unit": "dead at the end, % of K"}
        draw = partial(stock_figures.dots, rows, ["shot noise", "simulated"], **look)
        name = f"Dead codewords as one setting of {update.upper()} changes"
        shown += [fw.Illustration(f"sweep_{update}", draw, name)] if rows else []
    text = (
        "One thing changed at a time from the base in the first line. All have the same number of tokens per codeword, "
        "so that a larger batch means fewer updates."
    )
    return fw.Section("One setting at a time", text, shown) if shown else None


def _change(scenario: Scenario) -> str:
    key = scenario.varied
    return f"{figures.KEYS[key]} = {getattr(scenario, key)}" if key else "base"


def _revival(table: fw.LongTable, results: Sequence[ScenarioResult]) -> fw.Section | None:
    """Each setting with revival, and the same one without."""
    own = of_role(results, "revival")
    pairs = [(each, summary.without_revival(results, each)) for each in results if each.scenario.revival]
    rows = [[a.scenario.name, b and b.dead, a.dead, a.revived, a.revived_predicted] for a, b in pairs]
    titles = ("Dead without", "Dead with", "Replaced, simulated", "Replaced, predicted")
    columns = [SETTING, *(fw.Column(title, 2) for title in titles)]
    text = f"At the end of each window a codeword with under {REVIVED} % of the mean number of hits moves to a token."
    drawn = fw.Illustration(
        "revival_dead", partial(figures.time_course, table, own, "dead"), "Dead with revival"
    )
    numbers = fw.ResultTable("Revival: codewords per codebook", columns, rows)
    return fw.Section("Revival", text, [drawn] if own else [], [numbers]) if rows else None


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
        "Dead is a codeword without a hit (a token, a vector, whose nearest codeword it is) in a window of "
        f"{settings.window}·K tokens; one of probability 1/K is missed with probability e^−{settings.window}. A run is "
        f"{settings.windows} windows.",
        "Frozen cells: a cell is hit with probability p for ever, so Σ(1 − p)^N codewords are dead after N tokens.",
        "Mean field: SGD moves a codeword by dc/dt = 2·lr·p·(μ − c), μ the mean of its cell; under EMA the mass "
        "follows dN/dt = (1 − γ)(B·p − N), and so do the sums.",
        "Shot noise: the same with Poisson numbers of whole hits; a Monte-Carlo solution, about as dear as simulating.",
        "Held-out settings were committed (held_out.yaml) before any was simulated; the theories were made on the "
        "development settings. They get the starts and the source, never the batches.",
        "EMA, gradient and revival are those of the package's layer; SGD is plain gradient descent.",
        f"{settings.codewords:,} codewords in all per held-out setting, half that for development and revival, a "
        "quarter for one setting at a time.",
    ]
