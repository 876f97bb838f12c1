"""What the run says, in sentences made from its own intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import scipy

from codebound.quantize.update import EMA
from codebound.reporting.finding import Finding, typeset_all
from codebound.studies.framework import declare as fw
from codebound.studies.utilisation.arms import ARMS, BASELINE, FAST, FAST_DECAY, PLAIN, SOFT, STARTS
from codebound.studies.utilisation.summary import GAIN, GAIN_AT_RATE, GAIN_PLAIN, Row

NEEDED_USAGE = 0.95  # of very large codebooks
REFERENCE_SIZE = 4096  # whose PSNR they must not lose


def answer(rows: Sequence[Row]) -> str:
    """What revival and a larger codebook do to EMA's usage and PSNR, each in a sentence."""
    own = [row for row in rows if row.arm == BASELINE and row.start == "kmeans"]
    if not own:
        return "No training with EMA is finished yet, and the others are compared with it."
    beside = [row for row in own if row.above(arm=PLAIN)]
    first = beside[-1] if beside else own[0]
    size, used = f"{first.codebook_size:,}", _usage(first)
    text = f"A codebook of {size} that follows moving averages (EMA) uses {used} of its codewords"

    # What revival does, where both ran.
    if gain := first.above(arm=PLAIN):
        plain = next(row for row in rows if row.levels == {**first.levels, "arm": PLAIN})
        text += f" where dead ones are revived and {_usage(plain)} where they are not; "
        text += f"revival {_changes(gain)}"

    # What more codewords do.
    small, large = own[0], own[-1]
    if large is not small and (gain := large.above(codebook_size=small.codebook_size)):
        text += f". From {small.codebook_size:,} to {large.codebook_size:,} codewords usage goes from {_usage(small)} "
        text += f"to {_usage(large)}, and that {_changes(gain)}"
    return fw.typeset(f"{text}.")


def findings(rows: Sequence[Row]) -> list[Finding]:
    """The study's questions in their order."""
    soft = {row: row.of(GAIN) for row in rows if row.arm in SOFT and row.of(GAIN).known}
    fast = {row: gain for row in rows if row.arm == "ba" and (gain := row.above(arm=FAST))}
    rate = {row: row.of(GAIN_AT_RATE) for row in rows if row.of(GAIN_AT_RATE).n}
    return typeset_all([
        _compared(
            "Does Blahut–Arimoto win?", soft,
            "Beside EMA (same start, size, steps and seeds) the PSNR of Blahut–Arimoto (BA) is",
            lambda row: f" at {_usage(row)} usage" + _above_plain(row.of(GAIN_PLAIN)),
        ),
        _compared(
            "Is it the soft assignment?", fast,
            f"While it anneals, BA's codewords follow the latents with a decay of {FAST_DECAY}, EMA's with "
            f"{EMA().decay}; beside an EMA of decay {FAST_DECAY}, with the same revival, its PSNR is",
        ),
        _compared(
            "And at equal rate?", rate,
            "Uneven use lowers the index entropy, which an entropy coder turns into fewer bytes: beside EMA at equal "
            "entropy, read off between its sizes, the PSNR of the others is",
            lambda row: f" at {row.of('bpp_entropy').mean:.3f} bits per pixel",
        ),
        _usage_is_not_psnr(rows),
        _scale(rows),
    ])  # fmt: skip


def _compared(
    title: str, gains: Mapping[Row, fw.Interval], text: str, more: Callable[[Row], str] = lambda row: ""
) -> Finding | None:
    """In how many comparisons the interval lies above 0, below it, or on both sides; each on a line."""
    if not gains:
        return None
    above = sum(gain.above(0) for gain in gains.values())
    below = sum(gain.below(0) for gain in gains.values())
    sides = f"higher in {above}, lower in {below}, undecided in {len(gains) - above - below}"
    items = tuple(f"{row.name}: {_db(gain)}{more(row)}" for row, gain in gains.items())
    return Finding(title, f"{text} {sides} of {fw.count_text(len(gains), 'comparison')}.", items)


def _above_plain(gain: fw.Interval) -> str:
    return f", {_db(gain)} above EMA without revival" if gain.n else ""


def _usage_is_not_psnr(rows: Sequence[Row]) -> Finding | None:
    items, agree = [], 0
    for (size, start), members in groupby(rows, key=lambda row: (row.codebook_size, row.start)):
        group = list(members)
        if len(group) < 4:
            continue
        usage, psnr = ([row.of(name).mean for row in group] for name in ("usage", "psnr"))
        best, fullest = (group[values.index(max(values))] for values in (psnr, usage))
        agree += best is fullest
        items.append(
            f"K = {size:,}, {STARTS[start]}: rank correlation {scipy.stats.spearmanr(usage, psnr)[0]:.2f}; highest "
            f"PSNR {ARMS[best.arm].label}, highest usage {ARMS[fullest.arm].label}"
        )
    text = (
        f"In {agree} of {fw.count_text(len(items), 'comparison')} at one size and start the arm that uses most "
        "codewords also has the highest PSNR."
    )
    return Finding("Usage is not quality", text, tuple(items)) if items else None


def _scale(rows: Sequence[Row]) -> Finding | None:
    """At least 95 % usage and no less PSNR than the same method at K = 4,096."""
    large = [row for row in rows if row.start == "kmeans" and row.codebook_size > REFERENCE_SIZE]
    if not large or not any(row.codebook_size == REFERENCE_SIZE for row in rows):
        return None
    items, sizes_met = [], []
    for row in large:
        change, usage = row.above(codebook_size=REFERENCE_SIZE), row.of("usage")
        good = usage.mean >= NEEDED_USAGE and change is not None and change.mean >= 0
        sizes_met += [f"{row.codebook_size:,}"] if good else []
        training = row.of("usage_training")
        seen = f" ({100 * training.mean:.1f} % on the training photographs)" if training.n else ""
        items.append(
            f"{row.name}: usage {_usage(row)}{seen}, PSNR {_db(change) if change else 'not measured'} beside "
            f"K = {REFERENCE_SIZE:,}: {'meets the bar' if good else 'does not meet it'}"
        )
    bar = f"95 % of the codewords used on held-out crops, PSNR no worse than at K = {REFERENCE_SIZE:,}"
    met = " and ".join(dict.fromkeys(sizes_met))
    text = f"The bar ({bar}) is met at K = {met}." if met else f"No arm meets the bar: {bar}."
    return Finding("Very large codebooks", text, tuple(items))


def _usage(row: Row) -> str:
    return f"{100 * row.of('usage').mean:.1f} %"


def _changes(gain: fw.Interval) -> str:
    undecided = gain.known and not (gain.above(0) or gain.below(0))
    return f"leaves PSNR undecided, {_db(gain)}" if undecided else f"changes PSNR by {_db(gain)}"


def _db(gain: fw.Interval) -> str:
    """+1.13 dB [+1.12, +1.14]"""
    return f"{gain.mean:+.2f} dB" + (f" [{gain.low:+.2f}, {gain.high:+.2f}]" if gain.known else "")
