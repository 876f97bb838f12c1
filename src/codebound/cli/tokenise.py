"""The command that turns a picture set into indices. What it calls is imported inside it, as in `cli.training`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from codebound.cli.terminal import AsJson, Backend, Cells, Jobs, err, out, plain
from codebound.errors import InputError


def tokenize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A finished run, a model's folder, or default, default-speech: the models in the package.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="photos, fashion-mnist[:PATH], cifar10:PATH, folder:PATH, classes:PATH, hf:NAME, webdataset:PATTERN; "
            "of sound speech, sonic-pi, folder:PATH or hf:NAME."
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="A new folder, or one to go on with.")],
    long_side: Annotated[
        int, typer.Option(help="Pixels: larger pictures are reduced to it, as in training.")
    ] = 512,
    shard_size: Annotated[int, typer.Option(help="Pictures in a file.")] = 1024,
    jobs: Jobs = 1,
    backend: Backend = "loky",
    as_json: AsJson = False,
) -> None:
    """The indices of every picture or recording of a set: Parquet files with a card, which the package datasets opens.

    One row a picture, whole. The split test has the pictures that a run on this set never saw. Interrupt it when you
    like: the same command goes on where it stopped, file by file (of sound: split by split).

    [bold]Examples[/]

      codebound tokenize default --data folder:holiday --out holiday-tokens

      codebound tokenize runs/ba_test --data photos --out runs/ba_test-tokens --jobs 2
    """
    from codebound import config
    from codebound.runs import audio_tokenise
    from codebound.runs import tokenise as core

    if audio_tokenise.is_of_sound(source):
        other = {
            "--long-side": long_side != 512,
            "--shard-size": shard_size != 1024,
            "--jobs": jobs != 1,
            "--backend": backend != "loky",
        }
        if refused := [option for option, given in other.items() if given]:
            raise InputError(
                f"{', '.join(refused)}: not for sound, which one process writes, a file a split; --data and --out are "
                "accepted"
            )
        _sounds(source, data, folder, as_json)
        return

    values = {"data": data, "long_side": long_side, "shard_size": shard_size}
    settings = config.build(core.TokeniseSettings, values)
    try:
        with Cells("files") as bar:
            splits = core.tokenise(
                source,
                settings,
                folder,
                core.run_request(source),
                jobs=jobs,
                backend=backend,
                progress=bar.show,
            )
    except KeyboardInterrupt:
        err.print(
            f"Interrupted. What is finished stays in {escape(str(folder))}; the same command goes on from there."
        )
        raise
    if as_json:
        plain(json.dumps({name: part._asdict() for name, part in splits.items()}, indent=2))
        return
    table = Table("split", "pictures", "files", "bytes", "unreadable", title=escape(str(folder)))
    for name, part in splits.items():
        table.add_row(
            name, f"{part.pictures:,}", f"{part.shards:,}", f"{part.bytes:,}", f"{len(part.unreadable):,}"
        )
    out.print(table)


def _sounds(source: str, data: str, folder: Path, as_json: bool) -> None:
    """The same of sound."""
    from codebound.runs.audio_tokenise import tokenise_sounds

    with Cells("recordings") as bar:
        splits = tokenise_sounds(source, data, folder, bar.show)
    if as_json:
        plain(json.dumps({name: part._asdict() for name, part in splits.items()}, indent=2))
        return
    table = Table("split", "recordings", "seconds", "bytes", title=escape(str(folder)))
    for name, part in splits.items():
        table.add_row(name, f"{part.recordings:,}", f"{part.seconds:,.1f}", f"{part.bytes:,}")
    out.print(table)
