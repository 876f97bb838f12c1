"""Which initialisation to use: the arms ordered by how bad they can get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codebound.reporting.formatting import count_text, typeset
from codebound.studies.initialisation import labels
from codebound.studies.initialisation.arms import ARMS
from codebound.studies.initialisation.settings import ArmName
from codebound.studies.initialisation.summary import BASELINE, Row, Summary

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


@dataclass(frozen=True)
class Recommendation:
    """What to use, in a sentence and as code; what else is good; what to avoid. Empty where there is nothing to say."""

    use: str
    code: str = ""
    good: str = ""
    avoid: str = ""

    def to_json(self) -> list[str]:
        """As in results.json."""
        code = f"In code: {self.code}" if self.code else ""
        return [text for text in (self.use, code, self.good, self.avoid) if text]


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


def recommend(summary: Summary) -> Recommendation:
    """From the ranking. An arm that sees all training data is not recommended: a layer begins from a batch."""
    ranks = [r for r in ranking(summary) if r.arm not in ARMS or ARMS[r.arm].sees != "all"]
    if not ranks:
        return Recommendation("No start ran on every source, so none can be recommended.")

    # The safest, with its worst case.
    first = ranks[0]
    label = labels.arm(first.arm)
    which = count_text(len(summary.sources), "source") if len(summary.sources) > 1 else "the one source"
    use = (
        f"Use “{label.name}” ({label.text}): on {which} here it ends at most {_text(first.worst_end)} above the best "
        f"start, and begins at most {_text(first.worst_start)} above it."
    )
    seeds = min(summary.seeds.values())
    if seeds < SEEDS:
        use += f" Caution: this rests on {count_text(seeds, 'seed')}; another may order the starts anew."

    # To be worth a warning an arm must be clearly worse than what everybody has already.
    good = [labels.arm(r.arm).name for r in ranks[1:] if r.worst_end < 1.0]
    usual = max((r.worst_end for r in ranks if r.arm == BASELINE), default=0.0)
    bad = [f"{labels.arm(r.arm).name} ({_text(r.worst_end)})" for r in ranks if r.worst_end > usual + 5]
    return Recommendation(
        typeset(use),
        next((code_line(summary, arm) for arm in ARMS if arm == first.arm), ""),
        f"Also within 1 % of the best end on every source: {', '.join(good)}." if good else "",
        typeset(f"Avoid, for how far above the best they can end: {', '.join(bad)}.") if bad else "",
    )


def code_line(summary: Summary, arm: ArmName) -> str:
    """The quantizer as one writes it, for vectors of the dimension that the user's data have."""
    settings = summary.settings
    inner = f"VectorQuantizer({settings.dim}, {settings.codebook_size}, init=init.{ARMS[arm].code})"
    if summary.data_dim in (None, settings.dim):
        return f"from codebound.quantize import VectorQuantizer, init; quantizer = {inner}"
    outer = f"Projected({inner}, {summary.data_dim}, orthogonal=True)"
    return f"from codebound.quantize import Projected, VectorQuantizer, init; quantizer = {outer}"


def _excess(row: Row, rows: Sequence[Row], when: str) -> float:
    """Per cent above the best arm, from decibels so that redrawn sources weigh equally."""
    name = f"{when}_gaussian_reference_db"
    if any(name not in r.metrics for r in rows):
        name = f"{when}_fresh_distortion"
        return 100 * (row.metrics[name].mean / min(r.metrics[name].mean for r in rows) - 1)
    above = row.metrics[name].mean - min(r.metrics[name].mean for r in rows)
    return 100 * (10 ** (above / 10) - 1)


def _text(percent: float) -> str:
    return f"{max(percent, 0.1):.{0 if percent >= 10 else 1}f} %"
