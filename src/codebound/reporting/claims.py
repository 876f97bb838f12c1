"""The claims ledger: a number that somebody gave, the measurement that tests it, and the verdict.

A claim is data (YAML beside its study), with its source: where the number comes from. Its expectation is a range
[low, high] for one measured quantity ("about x" means x ± 10 % unless the claim gives a range). With the 95 % interval
over seeds of that quantity:

    CONFIRMED               the interval lies wholly inside the range
    REFUTED                 wholly outside
    INCONCLUSIVE            neither; or too few seeds for an interval; or seeds that had to be left out, since
                            which ones those are depends on the result
    NOT TESTABLE HERE       this run lacks what the claim is about; the reason is given
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from codebound.errors import InputError
from codebound.reporting.statistics import Interval, paired_ratio, quantity_interval

Level = str | int | float | bool | None
"""What a factor of an experiment is set to in one cell: 512, "kmeans"."""

Lookup = Callable[[Mapping[str, Level], str], Mapping[int, float | int]]
"""(levels by factor, metric) -> value per seed. Raises `NotMeasuredError` where the run has none."""

ANY = "any"  # as a level in a claim: the best of all that ran, seed by seed


class NotMeasuredError(LookupError):
    """The run does not hold what was asked for; the message says why, for a reader."""


class Status(StrEnum):
    """What the interval says about a claim."""

    CONFIRMED = "CONFIRMED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_TESTABLE = "NOT TESTABLE HERE"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(_Record):
    """The quantity is about `value`: within ± `margin` of it (relative)."""

    kind: Literal["value"]
    value: float
    margin: float = Field(default=0.1, gt=0)

    @property
    def range(self) -> tuple[float, float]:
        half = abs(self.value) * self.margin
        return self.value - half, self.value + half

    @property
    def text(self) -> str:
        return f"≈ {self.value:.4g}"


class Range(_Record):
    """The quantity lies in [low, high]; an open side makes it one-sided."""

    kind: Literal["range"]
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _has_a_side(self) -> "Range":
        if self.low is None and self.high is None:
            raise ValueError("a range needs low, high or both")
        return self

    @property
    def range(self) -> tuple[float, float]:
        return _open(self.low, self.high)

    @property
    def text(self) -> str:
        return _range_text(self.low, self.high)


class Ratio(_Record):
    """The claimed cell's quantity divided by that of another (paired by seed) lies in [low, high].

    `against` names the levels in which the other cell differs.
    """

    kind: Literal["ratio"]
    against: dict[str, Level]
    low: float | None = None
    high: float | None = None
    inverse: bool = False  # test the other / the claimed cell instead: "2-3 times faster" in steps

    @property
    def range(self) -> tuple[float, float]:
        return _open(self.low, self.high)

    @property
    def text(self) -> str:
        return _range_text(self.low, self.high) + " ×"


class UntestedStatement(_Record):
    """A statement this study has no measurement for; `why` says where it is settled, if anywhere."""

    kind: Literal["untested"]
    why: str

    @property
    def range(self) -> tuple[float, float]:
        return _open(None, None)

    @property
    def text(self) -> str:
        return "–"


Expectation = Annotated[Value | Range | Ratio | UntestedStatement, Field(discriminator="kind")]


class Case(_Record):
    """One measurement that tests a claim; the first case of a claim is the one it is judged by."""

    cell: dict[str, Level] = {}  # levels by factor, beside those of the claim
    metric: str
    label: str  # for a reader: "training set", "fresh data", "raw source"
    theory: str | None = None  # replaces the claim's sentence for this case


class Claim(_Record):
    """One number that somebody gave, and how it is tested."""

    id: str
    topic: str  # what it is about, in a few words; claims of one topic stand together in the file
    source: str  # where it comes from: a paper, or a text that was never published
    statement: str
    cell: dict[str, Level] = {}  # levels by factor that all cases share; a case may name others
    floor: float = float("-inf")  # what the quantity can't be below: 0 for counts
    expect: Expectation
    cases: tuple[Case, ...] = ()
    # Facts of the run, by name: equal, or at least that for a name that begins with "min_".
    requires: dict[str, float | int | str] = {}
    theory: str = ""  # shown when refuted; {name} is filled from the run's facts


@dataclass(frozen=True)
class Verdict:
    """What this run says about one case of a claim."""

    claim: Claim
    case: Case | None
    status: Status
    interval: Interval | None
    reason: str  # the sentence for a reader: theory where refuted, the lack where not testable
    main: bool  # the case the claim is judged by

    @property
    def id(self) -> str:
        if self.case is None:
            return self.claim.id
        levels = ",".join(f"{factor}={level}" for factor, level in self.case.cell.items())
        return "/".join(part for part in (self.claim.id, levels, self.case.metric) if part)

    @property
    def cell(self) -> dict[str, Level] | None:
        """Which cell was asked, by factor."""
        return {**self.claim.cell, **self.case.cell} if self.case else None

    def to_json(self) -> dict[str, Any]:
        """As a dictionary for results.json."""
        low, high = (_finite(v) for v in self.claim.expect.range)
        return {
            "id": self.id,
            "claim": self.claim.id,
            "topic": self.claim.topic,
            "source": self.claim.source,
            "statement": self.claim.statement,
            "claimed": self.claim.expect.text,
            "range": [low, high],
            "cell": self.cell,
            "metric": self.case.metric if self.case else None,
            "measured_on": self.case.label if self.case else None,
            "measured": self.interval.to_json() if self.interval else None,
            "verdict": self.status.value,
            "reason": self.reason,
            "main": self.main,
        }


def load_claims(path: Path) -> list[Claim]:
    """Claims from YAML: {source: text, requires: {...}, claims: [...]}.

    The file's `requires` hold for every claim, its `source` for each that names none.

    Raises:
        InputError: a claim that lacks something or has what is not known, or two of one id.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("claims"), list):
        raise InputError(f"{path} holds no list 'claims'")
    shared = raw.get("requires", {})
    if not isinstance(shared, dict) or not all(isinstance(claim, dict) for claim in raw["claims"]):
        raise InputError(f"{path}: 'requires' and each of 'claims' must be a mapping")
    source = {"source": raw["source"]} if "source" in raw else {}
    try:
        claims = TypeAdapter(list[Claim]).validate_python([{**source, **claim} for claim in raw["claims"]])
    except ValidationError as error:
        raise InputError(f"{path}: {error}") from None
    ids = [c.id for c in claims]
    if doubled := {i for i in ids if ids.count(i) > 1}:
        raise InputError(f"{path}: claim ids must be unique; twice: {', '.join(sorted(doubled))}")
    return [c.model_copy(update={"requires": {**shared, **c.requires}}) for c in claims]


def judge(
    claims: Sequence[Claim], lookup: Lookup, facts: Mapping[str, float | int | str] | None = None
) -> list[Verdict]:
    """One verdict per case of every claim.

    `facts` are the run's own settings and limits: compared with `requires`, and figures for the sentences.
    """
    verdicts = []
    for claim in claims:
        if isinstance(claim.expect, UntestedStatement):
            verdicts.append(Verdict(claim, None, Status.NOT_TESTABLE, None, claim.expect.why, main=True))
            continue
        for i, case in enumerate(claim.cases):
            verdicts.append(_judge_case(claim, case, lookup, facts or {}, main=i == 0))
    return verdicts


def _judge_case(
    claim: Claim, case: Case, lookup: Lookup, facts: Mapping[str, float | int | str], *, main: bool
) -> Verdict:
    def untestable(reason: str) -> Verdict:
        return Verdict(claim, case, Status.NOT_TESTABLE, None, reason, main)

    if lack := _unmet(claim.requires, facts):
        return untestable(lack)
    try:
        interval = _measure(claim, case, lookup)
    except NotMeasuredError as error:
        return untestable(str(error))
    if interval.n < 2:
        if isinstance(claim.expect, Ratio) and interval.dropped:
            return untestable(f"{_left_out(interval)}, so there is no ratio with an interval")
        return untestable(f"an interval needs at least 2 seeds; this run has {interval.n}")
    if interval.dropped:
        reason = (
            f"{_left_out(interval)}; which seeds those are depends on the result, so the others can't decide"
        )
        return Verdict(claim, case, Status.INCONCLUSIVE, interval, reason, main)
    if not interval.known:
        reason = "in some seeds the target was never reached, and a median needs 6 seeds for a 95 % interval"
        return Verdict(claim, case, Status.INCONCLUSIVE, interval, f"{reason} (here {interval.n})", main)
    status = _status(interval, claim.expect.range)
    reason = _fill(case.theory or claim.theory, facts) if status is Status.REFUTED else ""
    return Verdict(claim, case, status, interval, reason, main)


def _left_out(interval: Interval) -> str:
    seeds = f"{interval.dropped} of {interval.n + interval.dropped} seeds"
    return f"{seeds} are left out: neither arm reached the target there, or a curve still moved at the end"


def _fill(text: str, facts: Mapping[str, float | int | str]) -> str:
    """The sentence with this run's own figures at its {name} places; plain text if one of them is lacking."""
    try:
        return text.format_map(facts)
    except KeyError:
        return re.sub(r"\{(\w+)[^}]*\}", lambda m: f"(no {m.group(1).replace('_', ' ')})", text)


def _measure(claim: Claim, case: Case, lookup: Lookup) -> Interval:
    cell = {**claim.cell, **case.cell}
    own = lookup(cell, case.metric)
    expect = claim.expect
    if isinstance(expect, Ratio):
        other = lookup({**cell, **expect.against}, case.metric)
        return paired_ratio(other, own) if expect.inverse else paired_ratio(own, other)
    return quantity_interval(own.values(), floor=claim.floor)


def _status(interval: Interval, expected: tuple[float, float]) -> Status:
    low, high = expected
    if low <= interval.low and interval.high <= high:
        return Status.CONFIRMED
    if interval.high < low or interval.low > high:
        return Status.REFUTED
    return Status.INCONCLUSIVE


def _unmet(requires: Mapping[str, float | int | str], facts: Mapping[str, float | int | str]) -> str:
    """The first requirement the run does not meet, as a sentence; empty if all are met."""
    for name, required in requires.items():
        least = name.startswith("min_")
        key = name.removeprefix("min_")
        value = facts.get(key)
        word = key.replace("_", " ")
        if value is None:
            return f"this run does not say its {word}; the claim is about {required}"
        if least and float(value) < float(required):
            return f"this run has {word} {value:g}; the claim is about {required:g}"
        if not least and value != required:
            return f"this run has {word} {value}; the claim is about {required}"
    return ""


def _open(low: float | None, high: float | None) -> tuple[float, float]:
    return (float("-inf") if low is None else low, float("inf") if high is None else high)


def _range_text(low: float | None, high: float | None) -> str:
    if high is None:
        return f"≥ {low:g}"
    return f"≤ {high:g}" if low is None else f"{low:g}–{high:g}"


def _finite(x: float) -> float | None:
    return x if abs(x) < float("inf") else None
