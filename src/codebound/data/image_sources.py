"""Picture sets by name: `photos`, `fashion-mnist[:PATH]`, `folder:PATH`, `classes:PATH`, `hf:NAME[:SPLIT]`, …"""

from __future__ import annotations

from pathlib import Path

from codebound.data import labelled
from codebound.data.crops import pyramid
from codebound.data.hub import hugging_face
from codebound.data.image_sets import Crops, ImageSet
from codebound.data.images import PACK, pack_index, photographs
from codebound.data.picture_files import ClassFolders, FolderFiles, Parts
from codebound.data.picture_request import PictureRequest
from codebound.data.picture_sets import undivided_set
from codebound.data.shards import ShardFiles
from codebound.errors import InputError

KINDS = "photos, fashion-mnist[:PATH], cifar10:PATH, folder:PATH, classes:PATH, hf:NAME, webdataset:PATTERN"


def open_images(name: str, request: PictureRequest = PictureRequest()) -> ImageSet:  # noqa: B008  a tuple of numbers
    """The set of a name.

    Raises:
        InputError: an unknown name, or what the set's reader refuses.
    """
    # What stands before the colon says who reads what stands behind it.
    request.check()
    kind, _, rest = name.partition(":")
    if kind == "photos" and not rest:
        return _photos(request)
    if kind == "fashion-mnist":
        return labelled.fashion_mnist(Path(rest) if rest else labelled.FASHION_MNIST, request.held_out)
    if kind == "cifar10" and rest:
        return labelled.cifar10(Path(rest), request.held_out)
    if kind == "folder" and rest:
        return folder(Path(rest), request)
    if kind == "classes" and rest:
        return undivided_set("classes", rest, ClassFolders.below(Path(rest)), request)
    if kind == "webdataset" and rest:
        return webdataset(rest, request)
    if kind == "hf" and rest:
        return hugging_face(rest, request)
    raise InputError(f"data={name!r} is unknown; accepted: {KINDS}")


def folder(path: Path, request: PictureRequest) -> ImageSet:
    """Crops of the pictures below a folder; a tenth of the files, at least one, is held out.

    A file that can't be read or is smaller than a crop is named in a warning, and left out or replaced by another.

    Raises:
        InputError: no folder, or fewer than two usable pictures in it.
    """
    return undivided_set("folder", str(path), FolderFiles.below(path), request)


def webdataset(pattern: str, request: PictureRequest) -> ImageSet:
    """The pictures in tar files; of one size up to 64 with labels they are taken as they are, others as a folder's.

    Raises:
        InputError: as `ShardFiles.matching`, or fewer than two usable pictures.
    """
    return undivided_set("webdataset", pattern, ShardFiles.matching(pattern), request)


def _photos(request: PictureRequest) -> Crops:
    """Crops of the photographs in the package."""
    splits = ("train", "held_out")
    train, held_out = (
        [pyramid(p, request.crop, request.channels) for p in photographs(split)] for split in splits
    )
    note = f"crops of {len(train)} embedded photographs, {len(held_out)} others held out"
    files = (
        FolderFiles.named(PACK, [entry["file"] for entry in pack_index(PACK) if entry["split"] == split])
        for split in splits
    )
    return Crops("photos", note, train, held_out, request.crop, request.held_out, Parts(*files))
