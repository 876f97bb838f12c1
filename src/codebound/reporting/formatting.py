"""Numbers and intervals as text."""

from __future__ import annotations

import math
import re

import numpy as np

from codebound.metrics.usage import DEAD
from codebound.reporting.statistics import Interval
from codebound.theory import finite

FEW = 20  # vectors a codeword, under which the counting itself shows in dead codes and perplexity


def number(x: float | int) -> str:
    """Four significant digits at most, no exponent for ordinary sizes."""
    if x != x:
        return "–"
    if x in (float("inf"), float("-inf")):
        return "∞" if x > 0 else "−∞"
    if x != 0 and not 1e-3 <= abs(x) < 1e7:
        return f"{x:.3g}"
    magnitude = abs(x)
    digits = 3 if magnitude < 10 else 2 if magnitude < 100 else 1 if magnitude < 1000 else 0
    return f"{x:,.{digits}f}" if x != int(x) else f"{x:,.0f}"


def interval_text(interval: Interval) -> str:
    """2.672 [2.668, 2.676]; "never" where the centre is infinite; with the seeds it rests on if some are left out."""
    centre = number(interval.mean)
    if interval.kind == "median" and interval.mean == float("inf"):
        text = f"never in {interval.never} of {interval.n}"
    elif interval.known:
        text = f"{centre} [{number(interval.low)}, {number(interval.high)}]"
    else:
        text = centre
    return f"{text} ({kept_text(interval)})" if interval.dropped else text


def kept_text(interval: Interval) -> str:
    """5 of 8 seeds"""
    return f"{interval.n} of {interval.n + interval.dropped} seeds"


def percent_text(interval: Interval | None) -> str:
    """+1.2 ± 0.3 %"""
    if interval is None:
        return "–"
    digits = 1 if abs(interval.mean) < 100 else 0
    half = f" ± {(interval.high - interval.low) / 2:.{digits}f}" if interval.known else ""
    return f"{interval.mean:+.{digits}f}{half} %"


def db_text(interval: Interval) -> str:
    """1.13 dB [1.12, 1.14]"""
    bounds = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.known else ""
    return f"{interval.mean:.2f} dB{bounds}"


def count_text(count: int, noun: str) -> str:
    """1 source, 3 sources"""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def few_vectors_text(vectors: int, codebook_size: int) -> str:
    """What dead codes and perplexity would read of a code used evenly; empty from 20 vectors a codeword on."""
    if vectors >= FEW * codebook_size:
        return ""
    even = np.full(codebook_size, 1 / codebook_size)
    dead = finite.expected_dead_codes(even, vectors, threshold=DEAD)
    return (
        f"Dead codes and perplexity are counted on {vectors:,} vectors: about {dead:.0f} of the {codebook_size} "
        f"codewords would look dead, and the perplexity would read about "
        f"{finite.uniform_perplexity(codebook_size, vectors):.0f}, even if all were equally likely."
    )


def unknown(interval: Interval, least: float | int = 1.0) -> str:
    """Why an interval says nothing about its value; empty where it does.

    It does not where there is none, or where it is wider than three times the value and wider than `least`, in the
    value's unit.
    """
    if not math.isfinite(interval.mean):
        return "there is no value"
    if math.isnan(interval.low) or math.isnan(interval.high):
        return "one value has no interval" if interval.n == 1 else "no interval can be formed"
    width = interval.high - interval.low
    if width > max(3 * abs(interval.mean), least):
        ends = f"{number(interval.low)} to {number(interval.high)}"
        return f"the interval is over three times as wide as the value: {ends}"
    return ""


def typeset(text: str) -> str:
    """Numbers keep their units, and minus signs look like minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", re.sub(r"(?<=\d) (?=%|dB)", "\u00a0", text))
