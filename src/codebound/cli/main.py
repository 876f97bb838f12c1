"""The command `codebound`: its groups, the limits.

What they call is imported inside them, as in `cli.training`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codebound import __version__
from codebound.cli import course, files, judging, sample, studies, tokenise, training, vectors
from codebound.cli.terminal import AsJson, Defaulting, group, out, plain
from codebound.errors import InputError

if TYPE_CHECKING:
    import numpy as np

app = group("Vector quantization where every number stands next to its limit.")
limits_app = group("How well can any codebook do? Bounds for a Gaussian, or for your own vectors.")
eval_app = group("Figures of a run anew; of samples beside real pictures; of codes.", Defaulting)
eval_app.command("run")(training.evaluate)
eval_app.command("samples")(judging.samples)
eval_app.command("codes")(judging.codes)
app.add_typer(studies.app, name="study")
app.add_typer(limits_app, name="limits")
app.add_typer(eval_app, name="eval")
app.command("train")(training.train)
app.command("report")(training.report)
app.command("runs")(training.runs)
app.command("compress")(files.compress)
app.command("decompress")(files.decompress)
app.command("info")(files.info)
app.command("verify")(files.verify)
app.command("compress-vectors")(vectors.compress_vectors)
app.command("decompress-vectors")(vectors.decompress_vectors)
app.command("fit-prior")(files.fit_prior)
app.command("tokenize")(tokenise.tokenize)
app.command("sample")(sample.sample)
app.add_typer(course.app, name="course")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


@limits_app.command("gaussian")
def limits_gaussian(
    codebook_size: Annotated[int, typer.Option(help="n, the number of codewords.")],
    dim: Annotated[int | None, typer.Option(help="k, the number of dimensions.")] = None,
    spectrum: Annotated[
        str | None, typer.Option(help="Variances along the principal axes: 9,4,1,.25")
    ] = None,
    covariance: Annotated[Path | None, typer.Option(help="A covariance matrix: .npy, .csv or text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Limits for a Gaussian: squared error summed over the vector, at log2(n) bits per vector.

    [bold]Examples[/]

      codebound limits gaussian --dim 8 --codebook-size 256

      codebound limits gaussian --spectrum 9,4,1,.25 --codebook-size 16
    """
    from codebound.limits import compute, tables

    limits = compute.gaussian_limits(_spectrum(dim, spectrum, covariance), codebook_size)
    if as_json:
        plain(json.dumps(asdict(limits), indent=2))
        return
    out.print(tables.gaussian(limits))


@limits_app.command("data")
def limits_data(
    file: Annotated[str, typer.Argument(help=".npy, .npz, .csv, .parquet or a folder of images.")],
    codebook_size: Annotated[int, typer.Option(help="n, the number of codewords.")],
    seed: Annotated[int, typer.Option(help="Of the held-out split and of k-means.")] = 0,
    axis: Annotated[
        int | None,
        typer.Option(
            help="Which axis of an array is the vector, from 0 (default: the last of two or three)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Limits for your vectors, and where k-means stands on held-out rows.

    [bold]Example[/]

      codebound limits data latents.npy --codebook-size 256
    """
    from codebound.limits import compute, tables

    limits = compute.data_limits(file, codebook_size, seed, axis)
    if as_json:
        plain(json.dumps(asdict(limits), indent=2))
        return
    out.print(tables.data(limits))


def _spectrum(dim: int | None, spectrum: str | None, covariance: Path | None) -> np.ndarray:
    import numpy as np

    from codebound.limits.compute import load_covariance
    from codebound.theory import gaussian

    if spectrum is not None and covariance is not None:
        raise InputError("give --spectrum or --covariance, not both")
    if covariance is not None:
        variances = gaussian.spectrum(load_covariance(covariance))
    elif spectrum is not None:
        try:
            variances = np.array([float(part) for part in spectrum.split(",")])
        except ValueError:
            raise InputError(f"--spectrum takes numbers with commas between them; got {spectrum!r}") from None
    elif dim is None:
        raise InputError("give --dim, --spectrum or --covariance")
    else:
        if dim < 1:
            raise InputError(f"--dim must be at least 1; got {dim}")
        variances = np.ones(dim)
    if dim is not None and len(variances) != dim:
        raise InputError(f"--dim {dim} does not fit the {len(variances)} variances given")
    return variances


def main() -> None:
    """Entry point of the `codebound` command."""
    app()


if __name__ == "__main__":
    sys.exit(main())
