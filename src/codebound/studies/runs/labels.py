"""What the figures of runs are called, and what each can be at best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from codebound.studies.formatting import number

# Where a figure stands in final_metrics.json, its label, how it is written, and its limit.
ROWS = (
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
    (("held_out", "bpp_entropy"), "bits per pixel, index entropy", "{:.4f}", "log₂ K"),
    (("held_out", "gap_db"), "gap of the latents' code, dB", "{:.2f}", "0: Shannon's bound"),
    (("held_out", "gaussian_reference_db"), "above the Gaussian reference, dB", "{:.2f}", "no limit"),
    (("probe_accuracy",), "linear probe on the codes", "{:.1%}", "100 %"),
)


def rows(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], str]]:
    """Label, one cell a run, limit; figures that no run has are left out."""
    found = []
    for path, label, form, limit in ROWS:
        values = [look_up(run, path) for run in runs]
        if any(value is not None for value in values):
            found.append((label, [written(value, form) for value in values], limit))
    return found


def look_up(run: Any, path: Sequence[str]) -> float | None:
    """A figure of `final_metrics.json`; None where a run has none."""
    for key in path:
        run = run.get(key) if isinstance(run, Mapping) else None
    return run


def written(value: float | None, form: str) -> str:
    """A cell: a dash where there is no figure."""
    if value is None or math.isnan(value):
        return "–"
    return form.format(value) if abs(value) < 1e6 else number(value)
