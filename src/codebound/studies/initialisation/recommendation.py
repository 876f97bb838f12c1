"""Which initialisation to use: the arms ordered by how bad they can get."""

from __future__ import annotations

from dataclasses import dataclass

from codebound.reporting.formatting import count_text, typeset
from codebound.studies.initialisation.arms import ARMS
from codebound.studies.initialisation.labels import look
from codebound.studies.initialisation.summary import BASELINE, Row, Summary

CODE = "In code: "  # begins the sentence that is code
SEEDS = 3  # fewer are no ground for advice
EQUAL = 0.2  # per cent: worst cases that differ by less count as equal


@dataclass(frozen=True)
class Rank:
    """How far an arm is above the best arm of each source, in per cent of distortion, (start, end)."""

    arm: str
    excess: dict[str, tuple[float, float]]

    @property
    def worst_start(self) -> float:
        return max(start for start, _ in self.excess.values())

    @property
    def worst_end(self) -> float:
        return max(end for _, end in self.excess.values())


def ranking(summary: Summary, optimizer: str = "adam") -> list[Rank]:
    """The arms that ran on every source, safest first: smallest worst case after training, then at the start."""
    tables = {source: {r.arm: r for r in summary.select(source, optimizer)} for source in summary.sources}
    common = [arm for arm in summary.arms if all(arm in table for table in tables.values())]
    ranks = []
    for arm in common:
        excess = {}
        for source, table in tables.items():
            start, end = (_excess(table[arm], list(table.values()), when) for when in ("initial", "final"))
            excess[source] = (start, end)
        ranks.append(Rank(arm, excess))
    return sorted(ranks, key=lambda r: (round(r.worst_end / EQUAL), r.worst_start))


def recommendation(summary: Summary) -> list[str]:
    """Sentences: what to use and how to write it, what else is good, what to avoid.

    An arm that sees all training data is ranked but not recommended: a layer begins from its first batch.
    """
    ranks = [r for r in ranking(summary) if r.arm not in ARMS or ARMS[r.arm].sees != "all"]
    if not ranks:
        return ["No arm ran on every source, so none can be recommended."]
    first = ranks[0]
    sentences = [
        f"Use “{look(first.arm).name}” ({look(first.arm).text}). Over the {count_text(len(summary.sources), 'source')} "
        f"here it never ends more than {_excess_text(first.worst_end)} above the best arm, nor starts more than "
        f"{_excess_text(first.worst_start)} above it."
    ]
    seeds = min(summary.seeds.values())
    if seeds < SEEDS:
        sentences[0] += (
            f" Caution: this rests on {count_text(seeds, 'seed')}; another seed may order the starts anew."
        )
    if first.arm in ARMS:
        sentences.append(
            f"{CODE}from codebound.quantize import VectorQuantizer, init; "
            f"VectorQuantizer({summary.dim}, {summary.codebook_size}, init=init.{ARMS[first.arm].code})"
        )
    good = [r for r in ranks[1:] if r.worst_end < 1.0]
    if good:
        names = ", ".join(look(r.arm).name for r in good)
        sentences.append(f"Also within 1 % of the best end on every source: {names}.")
    # To be worth a warning an arm must be clearly worse than what everybody has already.
    usual = max((r.worst_end for r in ranks if r.arm == BASELINE), default=0.0)
    bad = [r for r in ranks if r.worst_end > usual + 5]
    if bad:
        names = ", ".join(f"{look(r.arm).name} ({r.worst_end:.0f} %)" for r in reversed(bad))
        sentences.append(
            f"Avoid, at least with this optimizer, for their worst case above the best end: {names}."
        )
    return [sentence if sentence.startswith(CODE) else typeset(sentence) for sentence in sentences]


def _excess(row: Row, rows: list[Row], when: str) -> float:
    """Per cent above the best arm, from decibels so that redrawn sources weigh equally."""
    name = f"{when}_gaussian_reference_db"
    if any(name not in r.metrics for r in rows):
        name = f"{when}_fresh_distortion"
        return 100 * (row.metrics[name].mean / min(r.metrics[name].mean for r in rows) - 1)
    above = row.metrics[name].mean - min(r.metrics[name].mean for r in rows)
    return 100 * (10 ** (above / 10) - 1)


def _excess_text(percent: float) -> str:
    return "0.1 %" if percent < 0.1 else f"{percent:.1f} %"
