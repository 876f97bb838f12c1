"""What the run says, in sentences made from its own intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from codebound.quantize.update import EMA
from codebound.reporting.finding import Finding, typeset_all
from codebound.reporting.formatting import count_text
from codebound.reporting.statistics import Interval
from codebound.studies.utilisation.arms import FAST, FAST_DECAY, SOFT
from codebound.studies.utilisation.summary import NEEDED_USAGE, Row, StudyData, gain, groups

START_NAMES = {"kmeans": "from k-means", "bad": "from a bad start"}


def findings(data: StudyData, rows: Sequence[Row]) -> list[Finding]:
    """The study's questions in their order."""
    found = [
        _blahut_arimoto(rows),
        _cause(data, rows),
        _equal_rate(rows),
        _usage_is_not_psnr(rows),
        _scale(data, rows),
    ]
    return typeset_all(found)


def _blahut_arimoto(rows: Sequence[Row]) -> Finding | None:
    compared = [row for row in rows if row.arm in SOFT and row.psnr_gain is not None and row.psnr_gain.known]
    if not compared:
        return None
    wins = [row for row in compared if row.psnr_gain is not None and row.psnr_gain.above(0)]
    losses = [row for row in compared if row.psnr_gain is not None and row.psnr_gain.below(0)]
    text = (
        f"Of {count_text(len(compared), 'comparison')} with EMA (same start, size, steps and seeds), Blahut–Arimoto "
        f"has the higher PSNR in {len(wins)}, the lower in {len(losses)}; "
        f"{len(compared) - len(wins) - len(losses)} are undecided."
    )
    return Finding("Does Blahut–Arimoto win?", text, tuple(map(_line, compared)))


def _cause(data: StudyData, rows: Sequence[Row]) -> Finding | None:
    """BA's codewords also follow the latents faster than EMA's: what is left beside an EMA that is as fast?"""
    gains = [
        (row, found)
        for row in rows
        if row.arm == "ba" and (found := gain(data, "ba", row.codebook_size, row.start, FAST)) is not None
    ]
    if not gains:
        return None
    higher = sum(found.known and found.above(0) for _, found in gains)
    lower = sum(found.known and found.below(0) for _, found in gains)
    text = (
        f"While it anneals, BA's codewords follow the latents with a decay of {FAST_DECAY}, EMA's with {EMA().decay}. "
        f"Beside an EMA of decay {FAST_DECAY}, with the same revival, BA has the higher PSNR in {higher}, the lower in "
        f"{lower} of {count_text(len(gains), 'comparison')}; {len(gains) - higher - lower} are undecided."
    )
    items = [
        f"K = {row.codebook_size:,}, {START_NAMES[row.start]}: {_signed(found)} dB" for row, found in gains
    ]
    return Finding("Is it the soft assignment?", text, tuple(items))


def _line(row: Row) -> str:
    assert row.psnr_gain is not None
    plain = f", {_signed(row.plain_gain)} dB above EMA without revival" if row.plain_gain else ""
    return (
        f"{row.label}, K = {row.codebook_size:,}, {START_NAMES[row.start]}: {_signed(row.psnr_gain)} dB at "
        f"{_percent(row.figures['usage'])} usage{plain}"
    )


def _equal_rate(rows: Sequence[Row]) -> Finding | None:
    items = [
        f"{row.label}, K = {row.codebook_size:,}, {START_NAMES[row.start]}: {_signed(row.rate_gain)} dB at "
        f"{row.figures['bpp_entropy'].mean:.3f} bits per pixel"
        for row in rows
        if row.rate_gain is not None
    ]
    if not items:
        return None
    text = (
        "Codes that are used less evenly have a lower entropy, which an entropy coder turns into fewer bytes. PSNR "
        "above that of EMA at the same entropy, read off between EMA's own codebook sizes."
    )
    return Finding("And at equal rate?", text, tuple(items))


def _usage_is_not_psnr(rows: Sequence[Row]) -> Finding | None:
    items = []
    for size, start, group in groups(rows):
        if len(group) >= 4:
            usage, psnr = ([row.figures[name].mean for row in group] for name in ("usage", "psnr"))
            rho = float(np.corrcoef(stats.rankdata(usage), stats.rankdata(psnr))[0, 1])
            best, fullest = (max(group, key=lambda r: r.figures[name].mean) for name in ("psnr", "usage"))
            items.append(
                f"K = {size:,}, {START_NAMES[start]}: rank correlation {rho:.2f}; highest PSNR {best.label}, highest "
                f"usage {fullest.label}"
            )
    if not items:
        return None
    text = "How far the order of the arms by usage is their order by PSNR (1: the same order)."
    return Finding("Usage is not quality", text, tuple(items))


def _scale(data: StudyData, rows: Sequence[Row]) -> Finding | None:
    """Row B6: at least 95 % usage and no less PSNR than the same method at K = 4,096, or the largest size below."""
    sizes = sorted({row.codebook_size for row in rows if row.start == "kmeans"})
    reference = 4096 if 4096 in sizes else None
    large = [row for row in rows if row.start == "kmeans" and reference and row.codebook_size > reference]
    if reference is None or not large:
        return None
    items, met = [], {row.codebook_size: False for row in large}
    for row in large:
        before = data.values(row.arm, reference, "kmeans", "psnr")
        after = data.values(row.arm, row.codebook_size, "kmeans", "psnr")
        shared = sorted(before.keys() & after.keys())
        change = sum(after[s] - before[s] for s in shared) / len(shared) if shared else float("nan")
        good = row.figures["usage"].mean >= NEEDED_USAGE and change >= 0
        met[row.codebook_size] |= good
        own = row.figures["usage_training"]
        seen = f" ({_percent(own)} on the training photographs)" if not math.isnan(own.mean) else ""
        items.append(
            f"{row.label}, K = {row.codebook_size:,}: usage {_percent(row.figures['usage'])}{seen}, PSNR "
            f"{change:+.2f} dB against K = {reference:,}: {'meets the bar' if good else 'does not meet it'}"
        )
    sizes_met = [f"{size:,}" for size, good in met.items() if good]
    text = (
        f"The bar (95 % of the codewords used on held-out crops, PSNR no worse than at K = {reference:,}) is met at "
        f"K = {' and '.join(sizes_met)}."
        if sizes_met
        else f"No arm meets the bar: 95 % held-out usage and PSNR no worse than at K = {reference:,}."
    )
    return Finding("Very large codebooks", text, tuple(items))


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} %"


def _signed(interval: Interval) -> str:
    bounds = f" [{interval.low:+.2f}, {interval.high:+.2f}]" if interval.known else ""
    return f"{interval.mean:+.2f}{bounds}"
