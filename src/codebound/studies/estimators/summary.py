"""From a run to tables: every number with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codebound.reporting.statistics import Interval, mean_interval, paired_percent
from codebound.studies.estimators.arms import BASELINE
from codebound.studies.estimators.labels import Shown, shown
from codebound.studies.estimators.networks import NETWORK_ESTIMATORS
from codebound.studies.estimators.rundata import StudyData, Values, restart_values, spread_percent
from codebound.theory.gaussian import gap_db

METRICS = ("mse", "gap_db", "entropy_percent", "perplexity_percent", "dead", "captured_percent")
_FLOORS = {"mse": 0.0, "entropy_percent": 0.0, "perplexity_percent": 0.0, "dead": 0.0}
RESTARTS = (1, 2, 5, 10, 20)


@dataclass(frozen=True)
class Row:
    """One line of a source's ranking; `versus` in per cent of the best Lloyd restart's error, paired by seed."""

    shown: Shown
    metrics: dict[str, Interval]
    versus: Interval | None

    def to_json(self) -> dict[str, Any]:
        return {
            "estimator": self.shown.estimator,
            "protocol": self.shown.protocol,
            "beta": self.shown.beta,
            "metrics": {k: v.to_json() for k, v in self.metrics.items()},
            "percent_versus_best_lloyd": self.versus.to_json() if self.versus else None,
        }


@dataclass(frozen=True)
class NetworkRow:
    """One estimator under the MLP; `versus` in per cent of straight-through's error at the same β."""

    estimator: str
    beta: float
    metrics: dict[str, Interval]
    versus: Interval | None

    def to_json(self) -> dict[str, Any]:
        return {
            "estimator": self.estimator,
            "beta": self.beta,
            "metrics": {k: v.to_json() for k, v in self.metrics.items()},
            "percent_versus_straight_through": self.versus.to_json() if self.versus else None,
        }


@dataclass(frozen=True)
class SourceSummary:
    """A source: its limits and references, the ranking, what restarts are worth, the non-linear runs."""

    source: str
    codebook_size: int
    seeds: int
    limits: dict[str, Interval]
    rows: list[Row]
    restarts: dict[int, Interval]  # per cent above the best of all: expected for the best of so many
    spread: Interval  # per cent, worst above best restart
    networks: list[NetworkRow]

    def row(self, estimator: str, protocol: str, beta: float | None = None) -> Row | None:
        """One line, or None where it was not run. β: the first that there is, unless given."""
        for row in self.rows:
            s = row.shown
            if (s.estimator, s.protocol) == (estimator, protocol) and beta in (None, s.beta):
                return row
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "codebook_size": self.codebook_size,
            "seeds": self.seeds,
            "limits": {k: v.to_json() for k, v in self.limits.items()},
            "rows": [row.to_json() for row in self.rows],
            "restarts_percent_above_best": {str(k): v.to_json() for k, v in self.restarts.items()},
            "restart_spread_percent": self.spread.to_json(),
            "mlp": [row.to_json() for row in self.networks],
        }


def summarise(data: StudyData) -> list[SourceSummary]:
    """Intervals over seeds for every source of a run."""
    return [_source(data, source) for source in data.sources]


def _source(data: StudyData, source: str) -> SourceSummary:
    base = data.values(source, BASELINE, "lloyd")
    rows = []
    for line in shown(data.settings):
        metrics = {
            name: mean_interval(values.values(), _FLOORS.get(name, float("-inf")))
            for name in METRICS
            if (values := data.values(source, line.estimator, line.protocol, name, beta=line.beta))
        }
        if not metrics:
            continue
        own = data.values(source, line.estimator, line.protocol, beta=line.beta)
        versus = None if line.estimator == BASELINE else paired_percent(own, base)
        rows.append(Row(line, metrics, versus))
    most = len(next(iter(data.part(source).values()))["restarts"]["train"])
    counts = sorted({count for count in RESTARTS if count <= most} | {most})
    all_of_them = restart_values(data, source, most)
    return SourceSummary(
        source=source,
        codebook_size=data.size(source),
        seeds=len(data.of("linear", source)),
        limits=limits(data, source),
        rows=rows,
        restarts={n: paired_percent(restart_values(data, source, n), all_of_them) for n in counts},
        spread=mean_interval(spread_percent(data, source).values(), 0.0),
        networks=_networks(data, source) if source in data.mlp_sources else [],
    )


def limits(data: StudyData, source: str, size: int | None = None) -> dict[str, Interval]:
    """Bounds and references of a source at a codebook size, with the references' distance from the bound."""
    names = ("shannon", "shannon_low", "shannon_high", "restricted", "gaussian_reference")
    found = {n: mean_interval(v.values()) for n in names if (v := data.limit(source, n, size))}
    bound = data.limit(source, "shannon", size)
    for name in ("pca", "free"):
        values = data.reference(source, name, size)
        if values:
            found[f"reference_{name}"] = mean_interval(values.values())
            found[f"reference_{name}_db"] = mean_interval(_gaps(values, bound).values())
    return found


def bound_name(summary: SourceSummary) -> str:
    """What 0 dB is: tight for a Gaussian, a lower bound elsewhere, estimated for real data."""
    if "restricted" in summary.limits:
        return "Shannon bound"
    return f"{'estimated ' if 'shannon_low' in summary.limits else ''}Shannon lower bound"


def _gaps(values: Values, bound: Values) -> Values:
    return {s: gap_db(v, bound[s]) for s, v in values.items()}


def _networks(data: StudyData, source: str) -> list[NetworkRow]:
    rows = []
    for beta in dict.fromkeys((data.settings.commitment, 1.0)):
        base = data.network(source, "straight_through", beta)
        for name in NETWORK_ESTIMATORS:
            own = data.network(source, name, beta)
            metrics = {
                m: mean_interval(data.network(source, name, beta, m).values(), 0.0)
                for m in ("mse", "perplexity_percent", "dead")
            }
            bound = data.limit(source, "shannon")
            if set(own) <= set(bound):
                metrics["gap_db"] = mean_interval(_gaps(own, bound).values())
            versus = None if name == "straight_through" else paired_percent(own, base)
            rows.append(NetworkRow(name, beta, metrics, versus))
    return rows


def learned_gain(data: StudyData, source: str, size: int, beta: float) -> Interval | None:
    """Per cent by which a trained encoder (straight-through, from the best Lloyd codebook) changes that one's error."""
    own = data.values(source, "straight_through", "lloyd", beta=beta, size=size)
    base = data.values(source, BASELINE, "lloyd", size=size)
    return paired_percent(own, base) if own and base else None


def seeds_text(summaries: Sequence[SourceSummary]) -> str:
    """5 seeds, or the range where sources differ."""
    counts = sorted({s.seeds for s in summaries})
    text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{text} seed{'' if counts == [1] else 's'}"
