"""Photographs: the embedded pack, a user's own folder, and luminance patches from either."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from codebound.data.picture_reading import image_names, opened_image, upright_pixels
from codebound.errors import InputError

Split = Literal["train", "held_out"]
PACK = Path(__file__).parent / "photos"
WORKING_SIDE = 256  # pixels on the long side, about, at which patches are cut
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Photograph:
    """One picture: its name and its 8-bit sRGB pixels, rows first."""

    name: str
    pixels: UInt8[np.ndarray, "h w 3"]


class Patches(NamedTuple):
    """Luminance patches, and for each the number of the picture it was cut from."""

    values: Float32[Tensor, "n size_squared"]
    groups: Int64[Tensor, " n"]


def photographs(split: Split) -> list[Photograph]:
    """The embedded photographs of one split; the splits share no photograph (13 train, 4 held out).

    Authors and licences: `photos/ATTRIBUTION.md`. Few scenes: say "photo crops", not "natural images".

    Raises `InputError` for an unknown split, or if a file is missing or its SHA-256 is not the recorded one.
    """
    if split not in ("train", "held_out"):
        raise InputError(f"split is {split!r}; accepted: train, held_out")
    return [_pack_photograph(PACK, entry) for entry in pack_index(PACK) if entry["split"] == split]


def pack_index(folder: Path) -> list[dict[str, str]]:
    """`index.json` of a pack: name, file, split, licence, author, sha256 of each photograph."""
    return json.loads((folder / "index.json").read_text(encoding="utf-8"))


def luminance(pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Luma Y' = 0.299 R' + 0.587 G' + 0.114 B' (ITU-R BT.601), on the coded values, scaled to [0, 1]."""
    return np.clip((pixels.astype(np.float32) @ _LUMA) / np.float32(255), 0, 1)


def photo_patches(
    split: Split, count: int, *, size: int = 8, generator: torch.Generator
) -> Float32[Tensor, "count size_squared"]:
    """Luminance patches of size×size from the embedded photographs of one split, mean kept, in [0, 1].

    Row i comes from photograph i mod P, so every photograph contributes equally (to within one) and so does
    every prefix. Positions are uniform over all pixels. See `cut_patches` for the scale.

    Raises `InputError` for an unknown split, count < 1 or a size that no photograph can hold.
    """
    pictures = photographs(split)
    return _round_robin(len(pictures), count, lambda i: pictures[i], size, generator).values


def folder_patches(
    path: str | Path, count: int, *, size: int = 8, generator: torch.Generator
) -> tuple[Patches, tuple[str, ...]]:
    """Luminance patches from a folder of images, as `photo_patches`, and the image names `groups` points to.

    Images are opened one at a time. Of more than `count` images, a random `count` are used.

    Raises `InputError` as `load_image_folder`, and for an image smaller than size×size.
    """
    root, files = Path(path), image_files(path)
    if len(files) > count:
        chosen = torch.randperm(len(files), generator=generator)[: max(count, 0)]
        files = [files[i] for i in sorted(chosen.tolist())]
    names = tuple(file.relative_to(root).as_posix() for file in files)
    patches = _round_robin(len(files), count, lambda i: read_image(files[i], names[i]), size, generator)
    return patches, names


def cut_patches(
    photograph: Photograph, count: int, *, size: int = 8, generator: torch.Generator
) -> Float32[Tensor, "count size_squared"]:
    """`count` patches of one picture, reduced by an integer box filter and cut at random positions.

    The factor is round(long side / 256), at least 1 and such that a patch fits: 2 to 4 for the embedded pack.
    Averaging f×f pixels at any phase takes the patches off a JPEG source's 8×8 grid and brings pictures of
    different resolution to one scale. Averages are of coded (not linear-light) values.

    The generator is a CPU one.

    Raises `InputError` if count < 0, size < 1 or the picture is smaller than size×size.
    """
    # Refuse what no patch fits in.
    luma = torch.from_numpy(luminance(photograph.pixels))
    height, width = luma.shape
    if count < 0:
        raise InputError(f"count is {count}; 0 or more is accepted")
    if not 1 <= size <= min(height, width):
        raise InputError(
            f"size is {size}; {photograph.name} is {height}x{width}: 1 to {min(height, width)} accepted"
        )

    # Reduce to about one scale, by averages that begin at every pixel.
    factor = max(1, min(round(max(height, width) / WORKING_SIDE), min(height, width) // size))
    reduced = torch.nn.functional.avg_pool2d(luma[None], factor, stride=1)[0]  # box mean at every phase
    steps = factor * torch.arange(size)

    # Random places, and the pixels there.
    top, left = (
        torch.randint(side - factor * size + 1, (count, 1), generator=generator) for side in (height, width)
    )
    rows, columns = top + steps, left + steps
    return reduced[rows[:, :, None], columns[:, None, :]].reshape(count, size * size)


def load_image_folder(path: str | Path) -> list[Photograph]:
    """Every image below a folder, sorted by path and named by it; all are held in memory.

    Raises `InputError` if the folder is missing or has no image, or an image can't be read (it is named).
    """
    return [read_image(file, file.relative_to(path).as_posix()) for file in image_files(path)]


def image_files(path: str | Path) -> list[Path]:
    """The image files below a folder, sorted; hidden ones and other suffixes are passed over.

    Raises `InputError` if the folder is missing or has no image.
    """
    return [Path(path) / name for name in image_names(path).names]


def read_image(source: str | Path | io.BytesIO, name: str) -> Photograph:
    """One image as `upright_pixels` has it: upright, in 8-bit sRGB, on white where it is transparent.

    Raises `InputError`, naming the image, if it is damaged, too large, or has float or 32-bit pixels.
    """
    with opened_image(source, name) as image:
        return Photograph(name, upright_pixels(image, name))


def _pack_photograph(folder: Path, entry: dict[str, str]) -> Photograph:
    """A photograph of the pack, once its file is known to be the recorded one."""
    file = folder / entry["file"]
    if not file.is_file():
        raise InputError(f"photograph {entry['file']} is missing from {folder}; reinstall the package")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise InputError(
            f"photograph {file} is damaged (SHA-256 differs from index.json); reinstall the package"
        )
    return read_image(io.BytesIO(data), entry["name"])


def _round_robin(
    pictures: int, count: int, picture: Callable[[int], Photograph], size: int, generator: torch.Generator
) -> Patches:
    """`count` patches, row i from picture(i mod pictures)."""
    if count < 1:
        raise InputError(f"count is {count}; at least 1 patch is accepted")
    groups = torch.arange(count) % pictures
    values = torch.empty(count, size * size)
    for i in range(min(pictures, count)):
        share = len(values[i::pictures])
        values[i::pictures] = cut_patches(picture(i), share, size=size, generator=generator)
    return Patches(values, groups)
