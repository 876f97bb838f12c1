"""What the figures of runs are called, and what each can be at best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from codebound.reporting.formatting import number

Row = tuple[tuple[str, ...], str, str, str]

# Where a figure stands in final_metrics.json, its label, how it is written, and its limit.
ROWS: tuple[Row, ...] = (
    (("held_out", "psnr"), "PSNR, dB", "{:.2f}", "–"),
    (("held_out", "ssim"), "SSIM", "{:.4f}", "1"),
    (("whole", "psnr"), "PSNR of whole photographs, dB", "{:.2f}", "–"),
    (("whole", "ssim"), "SSIM of whole photographs", "{:.4f}", "1"),
    (("whole", "ms_ssim"), "MS-SSIM of whole photographs", "{:.4f}", "1"),
    (("held_out", "effnet_distance"), "EfficientNet feature distance", "{:.4f}", "0"),
    (("whole", "effnet_distance"), "the same of whole photographs", "{:.4f}", "0"),
    (("held_out", "usage"), "usage of the codewords", "{:.1%}", "100 %"),
    (("held_out", "perplexity"), "perplexity, codewords", "{:.1f}", "K"),
    (("held_out", "entropy_bits"), "index entropy, bits", "{:.3f}", "log₂ K"),
    (("held_out", "bpp_nominal"), "bits per pixel, log₂ K", "{:.4f}", "–"),
    (("held_out", "bpp_entropy"), "bits per pixel, index entropy", "{:.4f}", "the line above"),
    (("held_out", "gap_db"), "gap of the latents' code, dB", "{:.2f}", "0: Shannon's bound"),
    (("held_out", "gaussian_reference_db"), "above the Gaussian reference, dB", "{:.2f}", "no limit"),
    (("probe_accuracy",), "linear probe on the codes", "{:.1%}", "100 %"),
)


def rows(runs: Sequence[Mapping[str, Any]], named: Sequence[Row] = ROWS) -> list[tuple[str, list[str], str]]:
    """Label, one cell a run, limit; figures that no run has are left out."""
    table = []
    for path, label, form, limit in named:
        if any(look_up(run, path) is not None for run in runs):
            table.append((label, [_cell(run, path, form) for run in runs], _limit(limit, runs)))
    return table


def table(figures: Mapping[str, Mapping[str, Any]], named: Sequence[Row] = ROWS) -> list[list[str]]:
    """Rows for a terminal, the first one the head: label, one cell a run, limit."""
    found = rows(list(figures.values()), named)
    return [["held out", *figures, "limit"], *([label, *cells, limit] for label, cells, limit in found)]


def look_up(run: Any, path: Sequence[str]) -> float | None:
    """A figure of `final_metrics.json`; None where a run has none."""
    for key in path:
        run = run.get(key) if isinstance(run, Mapping) else None
    return run


def written(value: float | None, form: str) -> str:
    """A figure as text: a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return form.format(value) if abs(value) < 1e6 else number(value)


def _cell(run: Mapping[str, Any], path: Sequence[str], form: str) -> str:
    """A figure, with its interval where it has one."""
    *where, name = path
    low, high = (look_up(run, [*where, f"{name}_{side}"]) for side in ("low", "high"))
    text = written(look_up(run, path), form)
    return text if low is None else f"{text} [{written(low, form)}, {written(high, form)}]"


def _limit(limit: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """The limit in figures where all runs have the same single codebook."""
    sizes = {tuple(run.get("codebook_sizes", ())) for run in runs}
    if len(sizes) != 1 or len(one := sizes.pop()) != 1:
        return limit
    return {"K": f"{one[0]:,}", "log₂ K": f"{math.log2(one[0]):.4g}"}.get(limit, limit)
