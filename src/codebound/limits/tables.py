"""Limits as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from codebound.limits.compute import DataLimits, GaussianLimits
from codebound.reporting.formatting import FEW
from codebound.theory.gaussian import gap_db


def gaussian(limits: GaussianLimits) -> Table:
    """One line a limit, from what nothing beats to what chance reaches."""
    table = _table(f"Gaussian at {limits.rate_bits:.4g} bits per vector")

    def row(name: str, value: float | None, meaning: str) -> None:
        gap = "" if value is None else f"{gap_db(value, limits.shannon):.2f}"
        table.add_row(name, "–" if value is None else f"{value:.5g}", gap, meaning)

    row("Shannon bound", limits.shannon, "no code of any length does better")
    row("converse", limits.converse, "no codebook of this size does better (certified; isotropic only)")
    row("best known", limits.best_known, "the best codebook found so far, where one is tabulated")
    row(
        "best random codebook",
        limits.best_random_codebook,
        f"expected at the best variance, {_number(limits.best_variance)}",
    )
    error = limits.random_codebook_error
    stated = "" if error is None else f" (± {error:.2g})"
    row("random codebook", limits.random_codebook, f"expected of the water-filled Gaussian{stated}")
    return table


def data(limits: DataLimits) -> Table:
    """The limit, the reference, and k-means between them."""
    table = _table(f"{limits.rows} vectors of {limits.dim}, at {limits.rate_bits:.4g} bits per vector")
    interval = f"95 % interval of the entropy estimate: {limits.shannon_low:.5g} to {limits.shannon_high:.5g}"
    table.add_row("Shannon lower bound", f"{limits.shannon:.5g}", "0.00", f"the limit; {interval}")
    table.add_row(
        "Gaussian reference",
        f"{limits.gaussian_reference:.5g}",
        f"{gap_db(limits.gaussian_reference, limits.shannon):.2f}",
        "water-filled Gaussian of equal covariance: data may beat it",
    )
    table.add_row(
        "k-means, held out",
        f"{limits.kmeans:.5g}",
        f"{limits.gap_db:.2f}",
        f"on {limits.held_out_rows} rows; {_interval(limits)}; {limits.gaussian_reference_db:+.2f} dB to the "
        f"reference; perplexity {limits.perplexity:.1f}{_few(limits)}",
    )
    table.add_row(
        "k-means, training rows", f"{limits.kmeans_train:.5g}", "", "flattered: it was fitted on them"
    )
    return table


def _few(limits: DataLimits) -> str:
    if limits.held_out_rows >= FEW * 2**limits.rate_bits:
        return ""
    return f" (so few rows would show about {limits.perplexity_even:.0f} even if all codewords were equally likely)"


def _interval(limits: DataLimits) -> str:
    if limits.gap_db_low is None:
        return "of one image: no interval"
    return (
        f"95 % interval of its error {limits.kmeans_low:.5g} to {limits.kmeans_high:.5g}, with the limit's "
        f"{limits.gap_db_low:.2f} to {limits.gap_db_high:.2f} dB above it"
    )


def _table(title: str) -> Table:
    table = Table(title=title, caption="distortion: squared error summed over the vector")
    table.add_column("limit")
    table.add_column("distortion", justify="right")
    table.add_column("dB above\nShannon", justify="right")
    table.add_column("meaning")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
