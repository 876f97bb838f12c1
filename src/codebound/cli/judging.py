"""The commands that judge samples and codes. What they call is imported inside them, as in `cli.training`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from codebound.cli.terminal import AsJson, out, plain


def samples(
    one: Annotated[str, typer.Argument(metavar="A", help="What is judged: a folder of pictures, or a set.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Real ones: a set by name, or a folder.")],
    features: Annotated[
        str, typer.Option(help="Spaces, with commas: pixels, classifier:RUN, effnet (an extra).")
    ] = "pixels",
    count: Annotated[int, typer.Option(help="Samples, at most; twice as many real pictures.")] = 1000,
    tokenizer: Annotated[
        str | None, typer.Option(help="A run, whose reconstructions are the ceiling of its priors.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How near samples are to real pictures: Fréchet and kernel distance, precision and recall, density and coverage.

    Beside real pictures judged by other real ones (the floor), and a tokenizer's reconstructions (the ceiling). The
    figures depend on features and number of pictures, and are none that others call FID or KID.

    [bold]Examples[/]

      codebound train classifier --data fashion-mnist --name judge

      codebound eval samples samples fashion-mnist --features pixels,classifier:runs/judge --tokenizer runs/fashion
    """
    from codebound.runs import judging as core

    spaces = [name.strip() for name in features.split(",")]
    found = core.judge(one, other, spaces, count=count, tokenizer=tokenizer)
    if as_json:
        plain(json.dumps(found, indent=2))
        return
    for figures in found:
        head, *rows = core.table(figures)
        table = Table(*head, title=f"{one} beside {other}")
        for row in rows:
            table.add_row(*row)
        out.print(table)


def codes(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of a tokenizer.")],
    data: Annotated[str | None, typer.Option(help="Other pictures with classes than the run's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a tokenizer's frozen codes know of classes: a linear probe, nearest neighbours, clusters (NMI, ARI).

    [bold]Example[/]

      codebound eval codes runs/fashion
    """
    from codebound.runs import judging as core

    found = core.judge_codes(folder, data)
    if as_json:
        plain(json.dumps({name: figures._asdict() for name, figures in found.items()}, indent=2))
        return
    table = Table("test pictures", *found, title=str(folder))
    for name, label, form in core.KNOWLEDGE:
        table.add_row(label, *(form.format(getattr(figures, name)) for figures in found.values()))
    out.print(table)
