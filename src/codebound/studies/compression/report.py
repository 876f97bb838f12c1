"""The report: results.json, figures/*.png and one self-contained report.html in the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from codebound.files import write_text
from codebound.reporting import page, plots
from codebound.studies.compression import figures
from codebound.studies.compression.codecs import OURS
from codebound.studies.compression.labels import MODES, NAMES
from codebound.studies.compression.summary import Data, load


def write(out: Path) -> Path:
    """Write results.json, the figures and report.html of a run, finished or not; returns the page's path.

    Raises:
        InputError: not a run of this study, or no finished picture.
    """
    data = load(Path(out))
    drawn = {
        m: plots.save(figures.curves(data, m), data.path / "figures" / f"{m}.png") for m in ("psnr", "ssim")
    }
    if data.ladder:
        drawn["costs"] = plots.save(figures.costs(data.ladder), data.path / "figures" / "costs.png")
    write_text(data.path / "results.json", json.dumps(results(data), indent=1, allow_nan=False) + "\n")
    place = data.path / "report.html"
    rendered = page.render(
        "studies/compression/report.html.j2",
        data=data,
        rows=data.comparison(),
        verdict=verdict(data),
        pictures={name: page.embed(path) for name, path in drawn.items()},
        names=NAMES,
        modes=MODES,
        ours=OURS,
        settings=page.settings_text(data.settings),
    )
    write_text(place, rendered)
    return place


def results(data: Data) -> dict[str, Any]:
    """The content of results.json."""
    return {
        **data.study,
        "settings": data.settings.model_dump(mode="json"),
        "comparison": data.comparison(),
        "ladder": list(data.ladder),
        "decoder_bytes": data.decoder_bytes,
        "pictures": list(data.pictures),
    }


def verdict(data: Data) -> list[str]:
    """In words, who wins at the rate of the comparison: as the numbers have it."""
    said = []
    for row in data.comparison()[1:]:
        name, gain = NAMES[row["codec"]], row["our_gain_db"]
        if gain is None:
            least, there = row["least_rate"], row["our_gain_at_least_db"]
            line = (
                f"{name} has no files of {data.settings.rate:g} bits per pixel: its smallest take {least:.2f}"
            )
            if there is not None:
                line += (
                    f", and at their sizes {OURS} is {abs(there):.2f} dB {'better' if there > 0 else 'worse'}"
                )
            said.append(line + _over_all(row) + ".")
            continue
        better = f"{OURS} is {abs(gain):.2f} dB {'better' if gain > 0 else 'worse'} than {name}"
        where = f"at {data.settings.rate:g} bits per pixel (mean of {row['pictures']} pictures)"
        said.append(f"{better} {where}{_over_all(row)}.")
    return said


def _over_all(row: dict[str, Any]) -> str:
    change = row["bd_rate_percent"]
    if change is None:
        return ""
    percent = round(abs(change))
    amount = f"{percent} % {'fewer' if change < 0 else 'more'}" if percent else "as many"
    mean = f"mean of {row['bd_pictures']} pictures"
    return f"; over the range where both have the same PSNR it needs {amount} bits ({mean})"


def tables(data: Data) -> list[Table]:
    """For a terminal."""
    rate = f"{data.settings.rate:g} bpp"
    comparison = Table(title=f"Held-out pictures: {len(data.pictures)}")
    for column in (
        "codec",
        f"PSNR at {rate}",
        f"SSIM at {rate}",
        "ours − it, dB",
        "BD rate %",
        "encode s",
        "decode s",
    ):
        comparison.add_column(column, justify="left" if column == "codec" else "right")
    for row in data.comparison():
        comparison.add_row(
            NAMES[row["codec"]],
            *(_text(row[key], digits) for key, digits in (("psnr", 2), ("ssim", 3), ("our_gain_db", 2))),
            *(
                _text(row[key], digits)
                for key, digits in (("bd_rate_percent", 0), ("encode_s", 3), ("decode_s", 3))
            ),
        )
    if not data.ladder:
        return [comparison]
    costs = Table(*data.ladder[0], title="Bits per index")
    for row in data.ladder:
        costs.add_row(*(f"{value:g}" for value in row.values()))
    return [comparison, costs]


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
