"""The commands around compressed files, of pictures and of sound: compress, decompress, info, verify, fit-prior.

What they call is imported inside them, as in `cli.training`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from codebound.cli import sounds, vectors
from codebound.cli.batch import (
    STREAM,
    Job,
    Output,
    Outputs,
    Row,
    Sources,
    each,
    inputs,
    naming,
    opened,
    plan,
    read,
    table,
)
from codebound.cli.model_option import ModelFolder, Models
from codebound.cli.terminal import AsJson, Cells, Force, err, out, plain
from codebound.data.listing import Listing, files_below
from codebound.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from codebound.codec import SourcePicture

SUFFIX = ".cbd"
MaxPixels = Annotated[
    int,
    typer.Option(
        min=1,
        help="Height times width of the largest picture; of a file of indices an eighth as many. 10⁸ pixels take 4 GB "
        "and 90 seconds to compress, 2 GB and a minute to decompress.",
    ),
]


def compress(
    sources: Sources,
    target: Output = None,
    model: ModelFolder = None,
    quality: Annotated[
        int | None,
        typer.Option(help="1 to 100, better and larger (default 50); with --model levels written, from 1."),
    ] = None,
    trade: Annotated[
        float | None,
        typer.Option(
            help="Of sound, and with --model: how much bits count against errors; 0: the nearest codewords. Default: 0 "
            "of sound, which is quicker; of pictures 0.5 if the model can."
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Don't decode what was written to compare.")
    ] = False,
    keep_suffix: Annotated[
        bool, typer.Option("--keep-suffix", help="a.jpg to a.jpg.cbd, where there is an a.png, too.")
    ] = False,
    background: Annotated[
        str, typer.Option(help="What shows through where a picture is transparent: a name, or #rrggbb.")
    ] = "white",
    bitrate: Annotated[
        float | None,
        typer.Option(
            help="Of sound: kbit/s of each channel before coding (default: all that the model has)."
        ),
    ] = None,
    segment: Annotated[
        float | None,
        typer.Option(
            help="Of sound: seconds (default 2; whole blocks of the model, 1 s of the one in the package) that damage "
            "costs; longer ones make smaller files at low rates."
        ),
    ] = None,
    max_pixels: MaxPixels = 2**28,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Pictures, in sRGB, and sound to .cbd files. A file that exists is not replaced without --force, and an input
    never.

    Files of pictures are of wavelet coefficients, or with --model of a tokenizer's indices, as those of sound are.

    [bold]Examples[/]

      codebound compress photo.png

      codebound compress holiday --quality 30 --out small

      codebound compress - < photo.png > photo.cbd

      codebound compress speech.wav --bitrate 3 --trade 0.6
    """
    from codebound import codec
    from codebound.data.colour import colour

    def result(name: Path) -> Path:
        return name.with_name(name.name + SUFFIX) if keep_suffix else name.with_suffix(SUFFIX)

    jobs = plan(sources, _compressible, target, result, "" if keep_suffix else "--keep-suffix keeps both")
    outputs, models = Outputs((job.source for job in jobs), force), Models(model)
    behind = colour(background)
    if not models.is_of_sound:
        maybe_sound = any(sounds.may_be_sound(job.source) for job in jobs)
        codec.check_settings(model=models.of_pictures, quality=quality, trade=None if maybe_sound else trade)

    def one(job: Job) -> Row:
        # What a file begins with says whether it is sound.
        outputs.check(job.goal)
        _check_suffix(job)
        with opened(job.source) as stream:
            if sounds.is_sound(job.source, stream):
                if quality is not None:
                    raise InputError("the file is sound: --bitrate is accepted, --quality is not")
                return sounds.compress(job, stream, outputs, models.of_sound, bitrate, segment, trade)
            for name, value in (("bitrate", bitrate), ("segment", segment)):
                if value is not None:
                    raise InputError(f"the file is a picture: --quality is accepted, --{name} is not")
            chosen = models.of_pictures
            picture = codec.read_picture(stream, background=behind, max_pixels=max_pixels)
        data = codec.compress(picture, model=chosen, quality=quality, trade=trade, verify=not no_verify)
        outputs.write(job.goal, data)
        return _compressed_row(job, picture, data, background)

    each(jobs, one, "files", as_json)


def _compressed_row(job: Job, picture: SourcePicture, data: bytes, background: str) -> Row:
    """What is said of a picture that was compressed."""
    # Text and flat drawings are another format's: said, not hidden.
    from codebound import codec

    exact = codec.better_png(picture, len(data))
    if exact is not None:
        said = f"{job.source} is better off as PNG: exactly in {len(exact):,} bytes, here {len(data):,}"
        err.print(escape(said), highlight=False, soft_wrap=True)

    # Its size, and what became of its colours.
    height, width = picture.pixels.shape[:2]
    changed = [f"from {picture.profile}"] * bool(picture.profile)
    changed += [f"on {background}"] * picture.transparent
    return {
        "file": str(job.goal),
        "width": width,
        "height": height,
        "bytes": len(data),
        "bits_per_pixel": round(8 * len(data) / (height * width), 4),
        "colours": ", ".join(["grey" if picture.grey else "sRGB", *changed]),
        "exact_png_bytes": exact and len(exact),
    }


def _check_suffix(job: Job) -> None:
    """Refuse to write a compressed file under the name of a picture or of sound, which others would try to open."""
    from codebound.data import picture_reading, sound_reading

    if job.goal.suffix.lower() in (*picture_reading.SUFFIXES, *sound_reading.SUFFIXES):
        raise InputError(f"--out {job.goal}: what is written is a compressed file; {SUFFIX} is accepted")


def decompress(
    sources: Sources,
    target: Output = None,
    model: ModelFolder = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Files of indices: decode in float64, the same pixels on any machine, 3 to 5 times slower.",
        ),
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", help="Of sound: where to begin, 12.5s or 1:02.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Of sound: where to end.")] = None,
    max_pixels: MaxPixels = 2**28,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """.cbd files to PNG (photo.cbd to photo.cbd.png), of sound to WAV, or to what the suffix of --out says; files of
    indices to .npy, or .npz if they hold several grids. A file that exists is not replaced without --force.

    Pixels are the same on every machine; of files of indices they may differ by 1 of 255 without --exact, and samples
    of sound by 1 of 32768.

    [bold]Examples[/]

      codebound decompress photo.cbd

      codebound decompress photo.cbd --exact --out again.png

      codebound decompress speech.cbd --from 12.5s --to 20s
    """
    from codebound import codec
    from codebound.data.picture_output import encode_picture, picture_format

    jobs = plan(sources, _compressed, target, lambda name: name.with_name(name.name + ".png"))
    outputs, models = Outputs((job.source for job in jobs), force), Models(model)

    def one(job: Job) -> Row:
        # What the file holds decides what is written, and where.
        data = read(job.source)
        if vectors.is_vectors(data):
            raise InputError("the file holds vectors: codebound decompress-vectors reads those")
        if sounds.is_sound_file(data):
            return sounds.decompress(job, data, outputs, models.of_sound, start, end)
        if start is not None or end is not None:
            raise InputError("the file is not sound: --from and --to are for sound")
        chosen = models.of_pictures
        report = codec.inspect(data)
        if report.picture is None:
            goal = _grids_goal(job, len(report.grids))
            outputs.check(goal)
            prior = (chosen or codec.default_model()).prior
            grids = codec.decompress_grids(data, prior=prior, max_pixels=max_pixels)
            outputs.write(goal, _grid_bytes(grids, goal))
            height, width = grids[0].shape[:2]
            return {"file": str(goal), "width": width, "height": height, "written as": f"{len(grids)} grids"}

        # A format that can't be written is refused before the work.
        form = picture_format(job.goal)
        outputs.check(job.goal)
        pixels = codec.decompress(data, model=chosen, exact=exact, max_pixels=max_pixels)
        outputs.write(job.goal, encode_picture(pixels, form))
        height, width = pixels.shape[:2]
        return {"file": str(job.goal), "width": width, "height": height, "written as": form.said}

    each(jobs, one, "files", as_json)


def _grids_goal(job: Job, grids: int) -> Path:
    """Where so many grids go: the suffix says how they are written.

    Raises:
        InputError: a suffix was asked for that can't hold them.
    """
    suffix = ".npy" if grids == 1 else ".npz"
    if job.goal == STREAM:
        return STREAM
    if not job.asked:
        return job.goal.with_suffix(suffix)
    if job.goal.suffix.lower() not in ("", suffix, ".npz"):
        raise InputError(f"--out {job.goal}: the file holds indices ({grids} grids); {suffix} is accepted")
    return job.goal


def _grid_bytes(grids: list[np.ndarray], goal: Path) -> bytes:
    """One grid as .npy, several or what is called so as .npz."""
    import numpy as np

    stream = io.BytesIO()
    if len(grids) == 1 and goal.suffix.lower() != ".npz":
        np.save(stream, grids[0])
    else:
        np.savez(stream, *grids)
    return stream.getvalue()


def info(
    file: Annotated[Path, typer.Argument(help="A .cbd or .cbv file; - for stdin.")],
    as_json: AsJson = False,
) -> None:
    """What is in a .cbd or .cbv file; its checksums of bytes are checked, its indices are not decoded.

    [bold]Example[/]

      codebound info photo.cbd
    """
    from codebound import codec

    data = read(file)
    if vectors.is_vectors(data):
        with naming(file):
            vectors.show(file, data, as_json)
        return
    if sounds.is_sound_file(data):
        with naming(file):
            sounds.show(file, data, as_json)
        return
    with naming(file):
        report = codec.inspect(data)
    if as_json:
        described = report._asdict()
        described["picture"] = report.picture and report.picture._asdict()
        described["grids"] = [grid._asdict() for grid in report.grids]
        plain(json.dumps(described, indent=2))
        return
    shown = Table("part", "value", title=escape(str(file)))
    shown.add_row(
        "kind", "indices" if report.quality is None else f"wavelet coefficients, quality {report.quality}"
    )
    shown.add_row("model", report.model or "none needed")
    if report.picture is not None:
        kind = "grey" if report.picture.grey else "colour"
        shown.add_row("picture", f"{report.picture.width}×{report.picture.height}, {kind}")
    if report.profile:
        shown.add_row("colours", f"sRGB, from {escape(report.profile)}")
    if report.codebook_sizes:
        shown.add_row("codebook sizes", ", ".join(map(str, report.codebook_sizes)))
    for number, grid in enumerate(report.grids):
        count = grid.height * grid.width * len(grid.modes)
        shown.add_row(
            f"grid {number}", f"{grid.width}×{grid.height}×{len(grid.modes)}: {', '.join(grid.modes)}"
        )
        shown.add_row("  indices", f"{grid.bytes:,} bytes, {8 * grid.bytes / count:.3f} bits each")
    shown.add_row("header", f"{report.overhead} bytes")
    shown.add_row("file", f"{report.bytes:,} bytes{_per_pixel(report)}")
    out.print(shown)


def verify(
    sources: Sources, model: ModelFolder = None, max_pixels: MaxPixels = 2**28, as_json: AsJson = False
) -> None:
    """Check .cbd and .cbv files to the last value; exit code 2 if one is damaged.

    [bold]Example[/]

      codebound verify photo.cbd
    """
    from codebound import codec

    models = Models(model)
    jobs = [Job(found.path) for found in inputs(sources, _either)]

    def one(job: Job) -> Row:
        data = read(job.source)
        if vectors.is_vectors(data):
            return {"file": str(job.source), "values": vectors.check(data, max_pixels), "verdict": "right"}
        if sounds.is_sound_file(data):
            counted = codec.verify_sound(data, model=models.of_sound)
        else:
            counted = codec.verify(data, model=models.of_pictures, max_pixels=max_pixels)
        return {"file": str(job.source), "values": counted, "verdict": "right"}

    each(jobs, one, "files", as_json)


def fit_prior(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished codebound train.")],
    steps: Annotated[
        int | None, typer.Option(help="Of training, for each level (default 4000; of sound 1200).")
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option(help="Units in each of the two hidden layers (default 96; of sound 64)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit the integer prior for a run's tokenizer, on its own training pictures or sound, into RUN/model.

    [bold]Example[/]

      codebound fit-prior runs/default-model
    """
    from codebound.priors.fitting import FitSettings
    from codebound.priors.frame_fitting import FrameFitSettings
    from codebound.runs import audio_priors, priors
    from codebound.runs.run import kind_of

    given = {name: value for name, value in (("steps", steps), ("hidden", hidden)) if value is not None}
    of_sound = kind_of(folder).name == "audio"
    with Cells("steps" if of_sound else "levels") as bar:
        if of_sound:
            rows = audio_priors.fit(folder, FrameFitSettings(**given), bar.show)
        else:
            rows = priors.fit(folder, FitSettings(**given), bar.show)
    if as_json:
        plain(json.dumps(rows, indent=2))
        return
    out.print(table(rows, f"Held-out {'sound' if of_sound else 'pictures'}, bits per index"))


def _compressible(folder: Path) -> Listing:
    from codebound.data import picture_reading, sound_reading

    return files_below(folder, (*picture_reading.SUFFIXES, *sound_reading.SUFFIXES), "picture or sound")


def _compressed(folder: Path) -> Listing:
    return files_below(folder, (SUFFIX,), f"{SUFFIX} file")


def _either(folder: Path) -> Listing:
    return files_below(folder, (SUFFIX, vectors.SUFFIX), "compressed file")


def _per_pixel(report: Any) -> str:
    if report.picture is None:
        return ""
    return f", {8 * report.bytes / (report.picture.height * report.picture.width):.4f} bits per pixel"
