"""The commands around compressed files: compress, decompress, info, verify, fit-prior.

What they call is imported inside them, as in `cli.training`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from codebound import files
from codebound.cli.terminal import AsJson, Cells, err, out, plain
from codebound.errors import InputError

SUFFIX = ".cbd"
Sources = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of them.")]
Output = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="A file; of several a folder (default: beside each)."),
]
ModelFolder = Annotated[
    Path | None, typer.Option("--model", help="A tokenizer's folder (default: the one in the package).")
]


def compress(
    sources: Sources,
    target: Output = None,
    model: ModelFolder = None,
    quality: Annotated[
        int | None, typer.Option(help="Levels written, from 1; more is better and larger (default: all).")
    ] = None,
    trade: Annotated[
        float | None,
        typer.Option(
            help="How much bits count against errors (default 0.5 if the model can); 0: the nearest codewords."
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Don't decode what was written to compare.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pictures to .cbd files.

    [bold]Examples[/]

      codebound compress photo.png

      codebound compress holiday --quality 2 --out small
    """
    from codebound import codec
    from codebound.data.images import image_files

    chosen = _model(model)
    pairs = _pairs(sources, lambda folder: image_files(folder), target, SUFFIX)

    def one(source: Path, goal: Path) -> dict[str, Any]:
        data = codec.compress(source, model=chosen, quality=quality, trade=trade, verify=not no_verify)
        _write(goal, data)
        picture = codec.inspect(data).picture
        assert picture is not None
        pixels = picture.height * picture.width
        return {
            "file": str(goal),
            "width": picture.width,
            "height": picture.height,
            "bytes": len(data),
            "bits_per_pixel": round(8 * len(data) / pixels, 4),
        }

    _each(pairs, one, as_json)


def decompress(
    sources: Sources,
    target: Output = None,
    model: ModelFolder = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Decode in float64: the same pixels on any machine, 3 to 5 times slower."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """.cbd files to PNG, or to what the suffix of --out says; files of indices to .npy, or .npz if they hold
    several grids.

    The indices are the same on every machine; pixels may differ by 1 of 255 between machines without --exact.

    [bold]Examples[/]

      codebound decompress photo.cbd

      codebound decompress photo.cbd --exact --out again.png
    """
    from PIL import Image

    from codebound import codec

    chosen = _model(model)
    pairs = _pairs(sources, _compressed, target, ".png")

    def one(source: Path, goal: Path) -> dict[str, Any]:
        data = _read(source)
        if codec.inspect(data).picture is None:
            return _write_grids(goal, codec.decompress_grids(data, prior=chosen.prior))
        pixels = codec.decompress(data, model=chosen, exact=exact)
        try:
            with files.replacing(goal) as temporary:
                Image.fromarray(pixels).save(temporary)
        except (OSError, ValueError) as error:
            raise InputError(f"{goal} can't be written: {error}") from None
        return {"file": str(goal), "width": pixels.shape[1], "height": pixels.shape[0]}

    _each(pairs, one, as_json)


def _write_grids(goal: Path, grids: list[np.ndarray]) -> dict[str, Any]:
    goal = goal.with_suffix(".npy" if len(grids) == 1 else ".npz")
    try:
        with files.replacing(goal) as temporary, temporary.open("wb") as file:
            if len(grids) == 1:
                np.save(file, grids[0])
            else:
                np.savez(file, *grids)
    except OSError as error:
        raise InputError(f"{goal} can't be written: {error}") from None
    height, width = grids[0].shape[:2]
    return {"file": str(goal), "width": width, "height": height}


def info(
    file: Annotated[Path, typer.Argument(help="A .cbd file.")],
    as_json: AsJson = False,
) -> None:
    """What is in a .cbd file; its checksums of bytes are checked, its indices are not decoded.

    [bold]Example[/]

      codebound info photo.cbd
    """
    from codebound import codec

    with _naming(file):
        report = codec.inspect(_read(file))
    if as_json:
        described = report._asdict()
        described["picture"] = report.picture and report.picture._asdict()
        described["grids"] = [grid._asdict() for grid in report.grids]
        plain(json.dumps(described, indent=2))
        return
    table = Table("part", "value", title=escape(str(file)))
    table.add_row("model", report.model or "none needed")
    if report.picture is not None:
        kind = "grey" if report.picture.grey else "colour"
        table.add_row("picture", f"{report.picture.width}×{report.picture.height}, {kind}")
    table.add_row("codebook sizes", ", ".join(map(str, report.codebook_sizes)))
    for number, grid in enumerate(report.grids):
        count = grid.height * grid.width * len(grid.modes)
        table.add_row(
            f"grid {number}", f"{grid.width}×{grid.height}×{len(grid.modes)}: {', '.join(grid.modes)}"
        )
        table.add_row("  indices", f"{grid.bytes:,} bytes, {8 * grid.bytes / count:.3f} bits each")
    table.add_row("header", f"{report.overhead} bytes")
    table.add_row("file", f"{report.bytes:,} bytes{_per_pixel(report)}")
    out.print(table)


def verify(sources: Sources, model: ModelFolder = None, as_json: AsJson = False) -> None:
    """Check .cbd files to the last index; exit code 2 if one is damaged.

    [bold]Example[/]

      codebound verify photo.cbd
    """
    from codebound import codec

    chosen = _model(model)
    pairs = _pairs(sources, _compressed, None, SUFFIX)

    def one(source: Path, _: Path) -> dict[str, Any]:
        counted = codec.verify(_read(source), model=chosen)
        return {"file": str(source), "indices": counted, "verdict": "right"}

    _each(pairs, one, as_json)


def fit_prior(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished codebound train.")],
    steps: Annotated[int, typer.Option(help="Of training, for each level.")] = 4000,
    hidden: Annotated[int, typer.Option(help="Units in each of the two hidden layers.")] = 96,
    as_json: AsJson = False,
) -> None:
    """Fit the integer prior for a run's tokenizer, on its own training pictures, into RUN/model.

    [bold]Example[/]

      codebound fit-prior runs/default-model
    """
    from codebound.priors.fitting import FitSettings
    from codebound.runs import priors

    with Cells("levels") as bar:
        rows = priors.fit(folder, FitSettings(steps=steps, hidden=hidden), bar.show)
    if as_json:
        plain(json.dumps(rows, indent=2))
        return
    out.print(_table(rows, "Held-out pictures, bits per index"))


def _model(folder: Path | None) -> Any:
    from codebound import codec

    return codec.default_model() if folder is None else codec.load_model(folder)


def _pairs(sources: Iterable[Path], within: Any, target: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Each input file and where its result goes.

    Raises:
        InputError: no such file, or two results of one name.
    """
    pairs: list[tuple[Path, Path]] = []
    sources = list(sources)
    several = len(sources) > 1 or any(source.is_dir() for source in sources)
    for source in sources:
        if source.is_dir():
            inner = [(file, file.relative_to(source)) for file in within(source)]
            pairs += [(file, (target or source) / name.with_suffix(suffix)) for file, name in inner]
        elif not source.exists():
            raise InputError(f"there is no file {source}")
        elif several or (target is not None and target.is_dir()):
            pairs.append((source, (target or source.parent) / source.with_suffix(suffix).name))
        else:
            pairs.append((source, target or source.with_suffix(suffix)))
    counts = Counter(goal for _, goal in pairs)
    if twice := next((goal for goal, count in counts.items() if count > 1), None):
        raise InputError(f"two inputs would both be written to {twice}: give them apart, with --out")
    return pairs


def _compressed(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(f"folder {folder} holds no {SUFFIX} file")
    return paths


def _each(pairs: list[tuple[Path, Path]], one: Any, as_json: bool) -> None:
    """Do one file after the other; what is refused is said, the rest is done, and the exit code is 2."""
    rows, refused = [], 0
    for source, goal in pairs:
        try:
            with _naming(source):
                rows.append(one(source, goal))
        except InputError as error:
            if len(pairs) == 1:
                raise
            refused += 1
            err.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    if as_json:
        plain(json.dumps(rows, indent=2))
    elif rows:
        out.print(_table(rows, ""))
    if refused:
        raise typer.Exit(2)


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """What is refused in here says which file it is about."""
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise InputError(f"{source}: {error}") from None


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(*rows[0], title=title or None)
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else escape(str(v)) for v in row.values()))
    return table


def _per_pixel(report: Any) -> str:
    if report.picture is None:
        return ""
    return f", {8 * report.bytes / (report.picture.height * report.picture.width):.4f} bits per pixel"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        with files.replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from None
