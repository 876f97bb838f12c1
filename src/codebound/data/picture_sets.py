"""Encoded pictures as a set to train on: in memory where they fit, else read as the training goes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from codebound.data.crops import Pyramid, level_sizes, pyramid
from codebound.data.image_sets import Classes, Crops, FixedPictures, ImageSet, LabelledPictures
from codebound.data.images import Photograph
from codebound.data.labelled import labelled
from codebound.data.picture_files import Parts, PictureFiles
from codebound.data.picture_reading import upright_pixels
from codebound.data.picture_request import PictureRequest
from codebound.data.streamed_crops import StreamedCrops
from codebound.data.twins import copies, divided_order
from codebound.errors import InputError

HELD_OUT_PART = 0.1
LARGEST_FIXED = 64  # pixels: up to this side, pictures of one size with labels are taken whole


class Survey(NamedTuple):
    """What the headers of pictures say.

    Attributes:
        fits: whether all of them, at all scales, fit in the memory.
        bytes: that they would take, or as far as was counted.
        sizes: height and width as stored, of all if they fit, else of the first ones; 0 where a header can't be read.
    """

    fits: bool
    bytes: int
    sizes: Int64[np.ndarray, "n 2"]

    @property
    def one_small_size(self) -> bool:
        """Whether the pictures are of one size that is small enough to be taken whole."""
        known = np.unique(self.sizes[self.sizes.all(axis=1)], axis=0)
        return self.fits and len(known) == 1 and int(known.max()) <= LARGEST_FIXED


def survey(files: PictureFiles, request: PictureRequest) -> Survey:
    """Read headers until all are read, or so many that their pictures would not fit in memory."""
    sizes, spent = [], 0
    for number in range(len(files)):
        # A header that can't be read counts as a picture of no size.
        try:
            with files.open(number) as image:
                height, width = image.height, image.width
        except InputError:
            height, width = 0, 0
        sizes.append((height, width))
        # A picture that is smaller than a crop is left out, unless all are that small and have labels.
        scales = level_sizes(height, width, request.crop) or ([(height, width)] if files.labelled else [])
        spent += request.channels * sum(h * w for h, w in scales)
        if spent > request.memory:
            return Survey(False, spent, np.array(sizes))
    return Survey(True, spent, np.array(sizes).reshape(-1, 2))


def undivided_set(kind: str, source: str, files: PictureFiles, request: PictureRequest) -> ImageSet:
    """A set that comes in one: a tenth, at least one picture, is held out; of a set that is read as it goes, no more
    than there are to be held-out crops. Copies of a held-out picture are held out with it.

    Which ones is decided by a permutation of their sorted names, so it changes only when the names do.

    Args:
        kind, source: as in `--data KIND:SOURCE`.

    Raises:
        InputError: fewer than two usable pictures.
    """
    # The order in which pictures are looked at, so that any first part of them is a random sample.
    order = np.random.default_rng(0).permutation(len(files))
    shuffled = files.select(order)
    whole_survey = survey(shuffled, request)
    if whole_survey.fits and not (files.labelled and whole_survey.one_small_size):
        return _undivided_in_memory(kind, source, files, order, request)

    # How many are held out: of a streamed set no more than are needed to judge by.
    _check_count(kind, source, len(files), len(files), request)
    held = max(1, round(HELD_OUT_PART * len(files)))
    if not whole_survey.fits:
        held = min(held, request.held_out)
    seen, out = divided_order(files, order, held)
    _check_distinct(kind, source, len(seen))
    name, title = f"{kind}:{Path(source).name}", Path(source).name
    note = f"{len(seen):,} pictures of {title}, {len(out):,} more held out"

    # Small pictures with labels are taken whole, others read as training goes.
    parts = Parts.divided(files, out)
    if whole_survey.fits:
        return fixed_set(name, note, parts, request)
    train, test = files.select(seen), files.select(out)
    return StreamedCrops(name, note, train, test, request, parts, whole_survey.sizes)


def divided_set(name: str, note: str, parts: Parts, request: PictureRequest) -> ImageSet:
    """A set that is already divided. Pictures of one size up to 64 with labels are taken as they are, others as
    photographs to cut crops from.

    Raises:
        InputError: no usable picture in a part.
    """
    # Both parts must fit in the memory together.
    train, test = parts
    train_survey = survey(train, request)
    test_survey = train_survey
    if train_survey.fits:
        test_survey = survey(test, request._replace(memory=request.memory - train_survey.bytes))

    # In memory: whole where they are small, of one size and labelled, else as crops; without copies of what judges.
    if train_survey.fits and test_survey.fits:
        parts = _without_copies(name, parts)
        train, test = parts
        sizes = np.concatenate([train_survey.sizes, test_survey.sizes])
        both = Survey(True, train_survey.bytes + test_survey.bytes, sizes)
        if train.labelled and test.labelled and both.one_small_size:
            return fixed_set(name, note, parts, request)
        return _divided_in_memory(name, note, parts, request)

    # Shuffled, so that a replacement of a picture that can't be used is no neighbour in the set.
    shuffled = [files.select(np.random.default_rng(0).permutation(len(files))) for files in parts]
    held = shuffled[1].select(np.arange(min(len(test), request.held_out)))
    return StreamedCrops(name, note, shuffled[0], held, request, parts, train_survey.sizes)


def _without_copies(name: str, parts: Parts) -> Parts:
    """A divided set whose training pictures are none of its test pictures; how many were left out is said."""
    copied = copies(parts.train, parts.test)
    if not copied.any():
        return parts
    warnings.warn(
        f"data={name}: {copied.sum():,} training pictures are held out, too: left out", stacklevel=4
    )
    return parts._replace(train=parts.train.select(np.flatnonzero(~copied)))


def fixed_set(name: str, note: str, parts: Parts, request: PictureRequest) -> FixedPictures:
    """Small pictures of one size with labels, all in memory.

    Raises:
        InputError: a picture that can't be read, or without a label.
    """
    train, test = (_labelled(name, files) for files in parts)
    names = parts.train.label_names
    return FixedPictures(name, note, train, test, request.held_out, parts, names)


def _labelled(name: str, files: PictureFiles) -> LabelledPictures:
    """All pictures in full, with their classes."""
    pixels, labels = [], []
    for number in range(len(files)):
        with files.open(number) as image:
            pixels.append(upright_pixels(image, files.title(number)))
        labels.append(files.label(number))
    return labelled(pixels, labels, name)


def _undivided_in_memory(
    kind: str, source: str, files: PictureFiles, order: Int64[np.ndarray, " n"], request: PictureRequest
) -> Crops:
    """Crops of a set that comes in one, held at all scales; the first tenth of `order` is held out."""
    # Only pictures that can be used are counted and divided.
    usable = list(_usable(files, order, request))
    _check_count(kind, source, len(usable), len(files), request)
    name, title = f"{kind}:{Path(source).name}", Path(source).name
    held = max(1, round(HELD_OUT_PART * len(usable)))
    pyramids = dict(usable)
    seen, out = divided_order(files, np.array(list(pyramids)), held)
    _check_distinct(kind, source, len(seen))
    note = f"{len(seen)} pictures of {title}, {len(out)} more held out"
    train, test = ([pyramids[number] for number in numbers.tolist()] for numbers in (seen, out))
    classes = _classes(files, seen, files, out)
    return Crops(name, note, train, test, request.crop, request.held_out, Parts.divided(files, out), classes)


def _divided_in_memory(name: str, note: str, parts: Parts, request: PictureRequest) -> Crops:
    """Crops of a set that is already divided, held at all scales."""
    usable = [dict(_usable(files, np.arange(len(files)), request)) for files in parts]
    train, test = (list(pyramids.values()) for pyramids in usable)
    if not train or not test:
        raise InputError(
            f"data={name}: {len(train)} usable pictures to train on and {len(test)} held out; at least 1 of each "
            f"is needed, of {request.crop}x{request.crop} pixels or more"
        )
    seen, out = (np.array(list(pyramids)) for pyramids in usable)
    classes = _classes(parts.train, seen, parts.test, out)
    return Crops(name, note, train, test, request.crop, request.held_out, parts, classes)


def _classes(
    train: PictureFiles, seen: Int64[np.ndarray, " n"], test: PictureFiles, out: Int64[np.ndarray, " m"]
) -> Classes | None:
    """The classes of the pictures with these numbers; None where not all have one."""
    if not (train.labelled and test.labelled):
        return None
    labels = [[files.label(n) for n in numbers.tolist()] for files, numbers in ((train, seen), (test, out))]
    known = [label for part in labels for label in part if label is not None]
    if len(known) < sum(map(len, labels)):
        return None
    names = train.label_names or tuple(map(str, range(1 + max(known))))
    return Classes(np.array(labels[0], dtype=np.int64), np.array(labels[1], dtype=np.int64), names)


def _usable(
    files: PictureFiles, order: Int64[np.ndarray, " n"], request: PictureRequest
) -> Iterator[tuple[int, Pyramid]]:
    """Number and pyramid of each picture that can be read and holds a crop; the others are named in a warning."""
    for number in order.tolist():
        title = files.title(number)
        try:
            with files.open(number) as image:
                photograph = Photograph(title, upright_pixels(image, title))
            reduced = pyramid(photograph, request.crop, request.channels)
        except InputError as error:
            warnings.warn(f"{error}: left out", stacklevel=4)
            continue
        yield number, reduced


def _check_distinct(kind: str, source: str, seen: int) -> None:
    if not seen:
        raise InputError(
            f"data={kind}:{source}: all pictures are copies of those held out; at least 2 different ones are needed"
        )


def _check_count(kind: str, source: str, usable: int, of: int, request: PictureRequest) -> None:
    if usable < 2:
        raise InputError(
            f"data={kind}:{source}: {usable} usable of {of} pictures; at least 2 are needed, one to train on and one "
            f"held out, of {request.crop}x{request.crop} pixels or more"
        )
