"""New pictures from a finished prior: files, one picture of all, and a JSON with settings and likelihoods."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from codebound.data.images import read_image
from codebound.errors import InputError
from codebound.files import write_text
from codebound.generators.masked import MaskedPrior
from codebound.generators.prior import TokenPrior
from codebound.runs.pictures import grid_picture, save_png
from codebound.runs.prior import load_run, picture_size
from codebound.tokenizers.image import to_uint8
from codebound.tokenizers.opening import PictureTokenizer, decoded

ALL = "all"  # classes, in turns
COLUMNS = 16  # of the picture of all, at most
SHEET = 400  # pictures in it, at most
AT_ONCE = 100  # pictures
INDEX, SHEET_NAME = "samples.json", "grid.png"


class SampleOptions(NamedTuple):
    """What a user asks for.

    Attributes:
        count: pictures, in all.
        label: name or number of a class; "all" for all in turns; None for pictures of no class in particular.
        given, keep: a picture to complete, and what of it stays: "top", "left", or the path of a mask, white where it
            stays.
        steps: of a masked prior; its default if None.
        others: as `TokenPrior.sample`.
    """

    count: int = 16
    label: str | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    guidance: float = 1.0
    seed: int = 0
    given: Path | None = None
    keep: str = "top"
    steps: int | None = None


def sample(
    run: Path,
    options: SampleOptions,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Draw pictures and write them to a new folder: PNGs, `grid.png` and `samples.json`, which comes last.

    Returns:
        The content of `samples.json`: settings, hashes, and of each picture its file, class and bits.

    Raises:
        InputError: not a finished prior, a folder that holds something, or what `TokenPrior.sample` refuses.
    """
    # Everything that can be refused is refused before the first picture.
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--out {folder} holds something already; give a new folder")
    prior, tokenizer = load_run(run)
    labels = _labels(prior, options)
    size, completion = picture_size(run), None
    if options.given is not None:
        whole = _whole_size(prior, tokenizer)
        completion = _completion(prior, tokenizer, size or whole, options.given, options.keep)

    # Some pictures at a time: indices, their likelihood, pixels, files.
    rows: list[dict[str, Any]] = []
    sheet: list[Tensor] = []
    for start in range(0, options.count, AT_ONCE):
        part = labels[start : start + AT_ONCE]
        indices, bits = _drawn(prior, options, part, start, completion)
        pictures = decoded(tokenizer, indices, size).cpu()
        if completion is not None:
            pictures = torch.where(completion.kept, completion.picture, pictures)
        for number, (picture, label, cost) in enumerate(zip(pictures, part, bits, strict=True), start):
            name = f"{number:05d}.png" if label is None else f"{number:05d}-{prior.classes[label]}.png"
            save_png(folder / name, to_uint8(picture))
            rows.append(
                {
                    "file": name,
                    "class": None if label is None else prior.classes[label],
                    "bits": round(cost, 3),
                }
            )
        sheet += list(pictures[: max(0, SHEET - len(sheet))])
        progress(min(start + AT_ONCE, options.count), options.count)

    # All in one picture, a column for each class where they take turns; then what they are.
    turns = len(prior.classes) if options.label == ALL else math.ceil(math.sqrt(options.count))
    save_png(folder / SHEET_NAME, grid_picture(torch.stack(sheet), max(1, min(turns, COLUMNS))))
    about = {
        "run": str(run),
        "settings": {**options._asdict(), "given": None if options.given is None else str(options.given)},
        "tokenizer": prior.tokenizer,
        "exact": prior.exact,
        "tokens": prior.layout.length,
        "samples": rows,
    }
    write_text(folder / INDEX, json.dumps(about, indent=2) + "\n")
    return about


class _Completion(NamedTuple):
    """A picture of which a part is given."""

    picture: Float[Tensor, "1 c h w"]
    kept: Bool[Tensor, "1 1 h w"]
    known: list[Tensor]  # its indices on each grid, −1 where one is to be drawn


def _labels(prior: TokenPrior, options: SampleOptions) -> list[int | None]:
    """The class of each picture.

    Raises:
        InputError: an unknown class, or "all" of a prior without classes.
    """
    if options.count < 1:
        raise InputError(f"--count {options.count} is not accepted; at least 1 is")
    if options.label == ALL:
        if not prior.classes:
            raise InputError("--class all: this prior has no classes")
        return [number % len(prior.classes) for number in range(options.count)]
    label = options.label
    if label is not None and label.isdigit() and label not in prior.classes:
        label = int(label)
    number = int(prior.label_numbers(label, 1))
    return [None if number == prior.no_class else number] * options.count


def _drawn(
    prior: TokenPrior,
    options: SampleOptions,
    labels: Sequence[int | None],
    first: int,
    completion: _Completion | None,
) -> tuple[Any, list[float]]:
    """Indices of some pictures, and what each costs in bits given its class."""
    more: dict[str, Any] = {} if options.steps is None else {"steps": options.steps}
    if more and not isinstance(prior, MaskedPrior):
        raise InputError(
            f"--steps {options.steps}: only a masked prior draws in steps; this one is autoregressive"
        )
    indices = prior.sample(
        len(labels),
        labels=labels,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        guidance=options.guidance,
        seed=options.seed,
        first=first,
        known=None if completion is None else completion.known,
        **more,
    )
    return indices, prior.bits(indices, labels).tolist()


def _completion(
    prior: TokenPrior, tokenizer: PictureTokenizer, size: tuple[int, int], path: Path, keep: str
) -> _Completion:
    """What is given of a picture, as indices.

    Raises:
        InputError: a picture of another size than the prior's, or a mask that keeps nothing or everything, or of
            another size.
    """
    # The picture, in the tokenizer's colours and of the size that the prior knows.
    picture = _read(path, tokenizer.channels)
    height, width = picture.shape[2:]
    if (height, width) != size:
        raise InputError(
            f"--from {path}: {height}x{width} pixels; the prior completes pictures of {size[0]}x{size[1]}"
        )

    # What stays: a half, or what is white in a mask.
    kept = torch.zeros(1, 1, height, width, dtype=torch.bool)
    if keep == "top":
        kept[:, :, : height // 2] = True
    elif keep == "left":
        kept[:, :, :, : width // 2] = True
    else:
        mask = _read(Path(keep), 1)
        if mask.shape[2:] != picture.shape[2:]:
            raise InputError(
                f"--keep {keep}: {mask.shape[2]}x{mask.shape[3]} pixels; the picture has {height}x{width}"
            )
        kept = mask >= 0.5
    if not bool(kept.any()) or bool(kept.all()):
        raise InputError(f"--keep {keep}: some of the picture must stay, and some not")

    # What is hidden must not be seen through the encoder; a token is given where all of its pixels are.
    mean = (picture * kept).sum((2, 3), keepdim=True) / kept.sum()
    indices = tokenizer.encode(torch.where(kept, picture, mean))
    parts = [indices] if isinstance(indices, Tensor) else list(indices)
    known = []
    for part, stride, grid in zip(parts, tokenizer.strides, prior.layout.grids, strict=True):
        hidden = _hidden_tokens(~kept, stride)
        bottom, right = (
            grid.height - hidden.shape[1],
            grid.width - hidden.shape[2],
        )  # padded to the coarsest token
        known.append(part.masked_fill(nn.functional.pad(hidden, (0, 0, 0, right, 0, bottom), value=True), -1))
    return _Completion(picture, kept, known)


def _whole_size(prior: TokenPrior, tokenizer: PictureTokenizer) -> tuple[int, int]:
    """Height and width of all that the prior's grids decode to."""
    grid = prior.layout.grids[-1]
    return grid.height * tokenizer.stride, grid.width * tokenizer.stride


def _hidden_tokens(hidden: Bool[Tensor, "1 1 h w"], stride: int) -> Bool[Tensor, "1 rows columns 1"]:
    """The tokens of a grid of which some pixel is hidden."""
    bottom, right = (-side % stride for side in hidden.shape[2:])
    whole = nn.functional.pad(hidden.float(), (0, right, 0, bottom), mode="replicate")
    return nn.functional.max_pool2d(whole, stride)[:, 0, :, :, None] > 0


def _read(path: Path, channels: int) -> Float[Tensor, "1 c h w"]:
    """A picture file in [0, 1]."""
    pixels = read_image(path, path.name).pixels
    if channels == 1:
        pixels = np.array(Image.fromarray(pixels).convert("L"))[..., None]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
