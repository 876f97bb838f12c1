"""The command that draws new pictures. What it calls is imported inside it, as in `cli.training`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codebound.cli.terminal import AsJson, Cells, out, plain


def sample(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A finished run of codebound train prior; default: the one that is here."
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="A new folder.")],
    count: Annotated[int, typer.Option(help="Pictures, in all.")] = 16,
    label: Annotated[
        str | None, typer.Option("--class", help="A class by name or number, or all: in turns.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1: likelier pictures; 0: the likeliest token.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many of the likeliest tokens only.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the likeliest tokens of this probability only.")
    ] = 1.0,
    guidance: Annotated[
        float, typer.Option(help="Above 1: more of the class, less variety (1.5 to 2).")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    given: Annotated[
        Path | None, typer.Option("--from", help="Complete this picture, of the size that the prior knows.")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="What of it stays: top, left, or a mask.png, white where it stays.")
    ] = "top",
    steps: Annotated[int | None, typer.Option(help="Of a masked prior (default 8).")] = None,
    as_json: AsJson = False,
) -> None:
    """New pictures: PNGs, grid.png with all of them, samples.json with settings and likelihoods.

    Picture number n depends on seed, n, class and settings alone: more of them change none.

    [bold]Examples[/]

      codebound sample default --class all --count 20 --out clothes

      codebound sample runs/fashion-prior --class all --count 100 --guidance 1.5 --out samples

      codebound sample runs/fashion-prior --from half.png --keep top --class dress --out completed
    """
    from codebound.runs.sampling import SHEET_NAME, SampleOptions
    from codebound.runs.sampling import sample as core

    options = SampleOptions(count, label, temperature, top_k, top_p, guidance, seed, given, keep, steps)
    with Cells("pictures") as bar:
        about = core(run, options, folder, bar.show)
    if as_json:
        plain(json.dumps(about, indent=2))
        return
    bits = [row["bits"] for row in about["samples"]]
    out.print(
        f"{len(bits):,} pictures in {escape(str(folder))}, {sum(bits) / len(bits) / about['tokens']:.3f} bits a token"
        f"{'' if about['exact'] else ' at most'}; all in {escape(str(folder / SHEET_NAME))}",
        highlight=False,
        soft_wrap=True,
    )
