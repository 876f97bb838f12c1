"""Picture sets by name: `photos`, `fashion-mnist[:PATH]`, `cifar10:PATH`, `folder:PATH`, `hf:NAME[:SPLIT]`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codebound.data import labelled
from codebound.data.crops import Pyramid, pyramid
from codebound.data.image_sets import Crops, Fixed, ImageSet
from codebound.data.images import Photograph, image_files, photographs, read_image
from codebound.errors import InputError
from codebound.extras import imported

KINDS = "photos, fashion-mnist[:PATH], cifar10:PATH, folder:PATH, hf:NAME"
MEMORY = 2**30  # bytes of pyramids: of a larger folder a random part is used
HELD_OUT_PART = 0.1


class Wanted(NamedTuple):
    """What a training asks of its pictures; fixed sets have a size and number of channels of their own."""

    crop: int = 32
    channels: int = 3
    held_out: int = 1024  # fixed crops or pictures


def open_images(name: str, wanted: Wanted = Wanted()) -> ImageSet:  # noqa: B008  a tuple of numbers
    """The set of a name.

    Raises:
        InputError: an unknown name, or what the set's reader refuses.
    """
    kind, _, rest = name.partition(":")
    if kind == "photos" and not rest:
        return _photos(wanted)
    if kind == "fashion-mnist":
        return labelled.fashion_mnist(Path(rest) if rest else labelled.FASHION_MNIST, wanted.held_out)
    if kind == "cifar10" and rest:
        return labelled.cifar10(Path(rest), wanted.held_out)
    if kind == "folder" and rest:
        return folder(Path(rest), wanted)
    if kind == "hf" and rest:
        return hugging_face(rest, wanted)
    raise InputError(f"data={name!r} is unknown; accepted: {KINDS}")


def folder(path: Path, wanted: Wanted) -> Crops:
    """Crops of the pictures below a folder; a tenth of the files, at least one, is held out.

    A file that can't be read or is smaller than a crop is named in a warning and left out.

    Raises:
        InputError: no folder, or fewer than two usable pictures in it.
    """
    files = image_files(path)
    order = np.random.default_rng(0).permutation(
        len(files)
    )  # so that both parts and a cut are a random sample
    usable = _usable(path, [files[i] for i in order], wanted)
    pyramids, budget = [], MEMORY
    for found in usable:
        pyramids.append(found)
        budget -= sum(level.nbytes for level in found.levels)
        if budget < 0:
            warnings.warn(
                f"{path}: {len(pyramids)} of {len(files)} pictures fill {MEMORY >> 20} MiB; the others are "
                "left out",
                stacklevel=2,
            )
            break
    if len(pyramids) < 2:
        raise InputError(
            f"data=folder:{path}: {len(pyramids)} usable of {len(files)} pictures; at least 2 are needed, "
            f"one to train on and one held out, of {wanted.crop}x{wanted.crop} pixels or more"
        )
    held = max(1, round(HELD_OUT_PART * len(pyramids)))
    note = f"{len(pyramids) - held} pictures of {path.name}, {held} more held out"
    return Crops(f"folder:{path.name}", note, pyramids[held:], pyramids[:held], wanted.crop, wanted.held_out)


def hugging_face(name: str, wanted: Wanted) -> ImageSet:
    """A data set of the Hugging Face hub, or a local one that `datasets` can read, as `NAME` or `NAME:SPLIT`.

    Pictures of one size up to 64 with labels are taken as they are, others as photographs to cut crops from. Held out
    is the split `test` or `validation`, or else a tenth.

    Raises:
        InputError: `datasets` is not installed, no such set, or no column of pictures.
    """
    datasets = imported("datasets", "hf", f"data=hf:{name}")
    path, _, split = name.partition(":")
    try:
        found = datasets.load_dataset(path)
    except Exception as error:  # the hub's errors have no common ancestor
        raise InputError(f"data=hf:{path} can't be loaded: {str(error).strip().splitlines()[0]}") from None
    train = found.get(split or "train")
    if train is None:
        raise InputError(
            f"data=hf:{name}: no split {split or 'train'!r}; there are {', '.join(map(str, found))}"
        )
    test = next((found[s] for s in ("test", "validation") if s in found and s != split), None)
    if test is None:
        parts = train.train_test_split(test_size=HELD_OUT_PART, seed=0)
        train, test = parts["train"], parts["test"]
    return _from_tables(path, train, test, wanted)


def _from_tables(name: str, train: Any, test: Any, wanted: Wanted) -> ImageSet:
    column = next((c for c, f in train.features.items() if type(f).__name__ == "Image"), None)
    if column is None:
        raise InputError(f"data=hf:{name}: no column of pictures among {', '.join(train.features)}")
    label = next((c for c, f in train.features.items() if type(f).__name__ == "ClassLabel"), None)
    pixels = [[np.array(row[column].convert("RGB")) for row in part] for part in (train, test)]
    shapes = {array.shape for part in pixels for array in part}
    note = f"{name} of the Hugging Face hub, {len(pixels[0]):,} pictures"
    if label is not None and len(shapes) == 1 and max(shapes.pop()[:2]) <= 64:
        one, other = (
            labelled.labelled(p, part[label], name) for p, part in zip(pixels, (train, test), strict=True)
        )
        return Fixed(f"hf:{name}", note, one, other, wanted.held_out)
    one, other = (
        [
            pyramid(Photograph(f"{name} {i}", array), wanted.crop, wanted.channels)
            for i, array in enumerate(part)
        ]
        for part in pixels
    )
    return Crops(f"hf:{name}", note, one, other, wanted.crop, wanted.held_out)


def _photos(wanted: Wanted) -> Crops:
    train, held_out = (
        [pyramid(p, wanted.crop, wanted.channels) for p in photographs(split)]
        for split in ("train", "held_out")
    )
    note = f"crops of {len(train)} embedded photographs, {len(held_out)} others held out"
    return Crops("photos", note, train, held_out, wanted.crop, wanted.held_out)


def _usable(root: Path, files: Sequence[Path], wanted: Wanted) -> Iterator[Pyramid]:
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            yield pyramid(read_image(file, name), wanted.crop, wanted.channels)
        except InputError as error:
            warnings.warn(f"{error}: left out", stacklevel=4)
