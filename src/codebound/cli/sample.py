"""The command that draws new pictures and sounds. What it calls is imported inside it, as in `cli.training`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codebound.cli.terminal import AsJson, Cells, out, plain
from codebound.errors import InputError


def sample(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A finished run of codebound train prior; of a tokenizer of pictures or of sound that codebound "
            "fit-prior gave a prior; default, default-speech: those that are here.",
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="A new folder.")],
    count: Annotated[int, typer.Option(help="Pictures or sounds, in all.")] = 16,
    label: Annotated[
        str | None, typer.Option("--class", help="A class by name or number, or all: in turns.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1: likelier pictures or sounds; 0: the likeliest token.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many of the likeliest tokens only.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the likeliest tokens of this probability only.")
    ] = 1.0,
    guidance: Annotated[
        float, typer.Option(help="Above 1: more of the class, less variety (1.5 to 2).")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures or sounds.")] = 0,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Complete this picture, of the size that the prior knows; or let this recording go on.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of sound that is drawn (default 4); of a prior of sound.")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="What of it stays: top, left, or a mask.png, white where it stays.")
    ] = "top",
    steps: Annotated[int | None, typer.Option(help="Of a masked prior (default 8).")] = None,
    as_json: AsJson = False,
) -> None:
    """New pictures: PNGs, grid.png with all of them, samples.json with settings and likelihoods; new sounds: WAVs.

    Number n depends on seed, n, class and settings alone: more of them change none.

    [bold]Examples[/]

      codebound sample default --class all --count 20 --out clothes

      codebound sample runs/fashion-prior --class all --count 100 --guidance 1.5 --out samples

      codebound sample runs/fashion --count 100 --out cheap    # after codebound fit-prior runs/fashion

      codebound sample runs/fashion-prior --from half.png --keep top --class dress --out completed

      codebound sample runs/speech-prior --from hello.wav --seconds 3 --count 4 --out goes-on
    """
    of_sound = _of_sound(run)
    if of_sound:
        # What is for pictures alone, and what an integer prior has no use for.
        refused = {
            "--class": label is not None,
            "--guidance": guidance != 1,
            "--keep": keep != "top",
            "--steps": steps is not None,
        }
        if of_sound == "audio":
            refused |= {
                "--temperature": temperature != 1,
                "--top-k": top_k is not None,
                "--top-p": top_p != 1,
                "--from": given is not None,
                "--seconds": seconds is not None,
            }
        if names := [name for name, asked in refused.items() if asked]:
            accepted = (
                "--count, --seed and --out are accepted" if of_sound == "audio" else "it is for pictures"
            )
            raise InputError(f"{', '.join(names)}: not for this prior of sound; {accepted}")
        if of_sound == "audio":
            _sounds(run, count, seed, folder, as_json)
        else:
            options = {
                "count": count, "given": given, "temperature": temperature, "top_k": top_k, "top_p": top_p,
                "seed": seed,
            }  # fmt: skip
            _sounds_on(run, options if seconds is None else {**options, "seconds": seconds}, folder, as_json)
        return
    if seconds is not None:
        raise InputError(f"--seconds {seconds:g}: {run} draws pictures")
    from codebound.runs.sample_sources import SampleOptions
    from codebound.runs.sampling import SHEET_NAME
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


def _of_sound(run: Path) -> str:
    """The kind of a run or a name of sound: of an audio tokenizer, or of a prior of one; empty for pictures."""
    from codebound.runs.run import kind_of

    if str(run) in ("default", "default-speech"):
        return "" if str(run) == "default" else "audio"
    kind = kind_of(run).name
    return kind if kind in ("audio", "sound-prior") else ""


def _sounds(run: Path, count: int, seed: int, folder: Path, as_json: bool) -> None:
    """Draw sounds from an integer prior."""
    from codebound.runs.audio_sampling import sample as core

    with Cells("sounds") as bar:
        about = core(run, count, seed, folder, bar.show)
    _say_sounds(about, folder, as_json)


def _sounds_on(run: Path, options: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Draw sounds from a trained prior, also such as go on from a recording; options as `SoundSampleOptions`."""
    from codebound.runs.sound_prior_sampling import SoundSampleOptions
    from codebound.runs.sound_prior_sampling import sample as core

    with Cells("sounds") as bar:
        about = core(run, SoundSampleOptions(**options), folder, bar.show)
    _say_sounds(about, folder, as_json)


def _say_sounds(about: dict[str, Any], folder: Path, as_json: bool) -> None:
    """What was drawn, and what it costs."""
    if as_json:
        plain(json.dumps(about, indent=2))
        return
    bits = sum(row["bits"] for row in about["samples"]) / len(about["samples"]) / about["indices"]
    out.print(
        f"{len(about['samples']):,} sounds in {escape(str(folder))}, {bits:.3f} bits an index",
        highlight=False,
        soft_wrap=True,
    )
