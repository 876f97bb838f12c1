"""Crops of a set that is larger than memory: every picture is decoded when a batch needs it."""

from __future__ import annotations

import functools
import hashlib
import itertools
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from codebound.data.batch_stream import BatchStream, read_ahead
from codebound.data.crops import HELD_OUT_SEED, Pyramid, cut_crop, level_sizes, pyramid
from codebound.data.image_sets import EPOCH_OF_CROPS, LARGEST_WHOLE, ImageSet, step_random
from codebound.data.images import Photograph
from codebound.data.picture_files import Parts, PictureFiles
from codebound.data.picture_reading import upright_pixels
from codebound.data.picture_request import PictureRequest
from codebound.errors import InputError

TRIES = 1000  # pictures in a row that can't be used, before it is said that the set can't be


class CropBatch(NamedTuple):
    """Crops, and why pictures that should have been among them were replaced, by their number."""

    crops: UInt8[Tensor, "n c size size"]
    refused: dict[int, str]


class CropReader:
    """Cuts crops from pictures that it opens one by one.

    A picture that can't be used is replaced by the next one that can, in the order of `files`: which one that is
    depends on the files alone, so all processes that read, and a run that is resumed, see the same crops.

    Args:
        files: in an order that was shuffled, so that the replacements are no neighbours in their folder.
        crop: side of a crop in pixels.
        channels: 1 (grey) or 3 (colour).
    """

    def __init__(self, files: PictureFiles, crop: int, channels: int) -> None:
        self.files, self.crop, self.channels = files, crop, channels
        self.refused: dict[int, str] = {}  # what this process has met so far

    def step(self, seed: int, size: int, step: int) -> CropBatch:
        """The crops of a step."""
        return self.cut(step_random(seed, step).random((size, 5)))

    def cut(self, draws: Float64[np.ndarray, "n five"], flip: bool = True) -> CropBatch:
        """A crop for each five numbers in [0, 1): picture, scale, place (two), whether mirrored.

        Raises:
            InputError: no picture can be used, or none of 1,000 in a row.
        """
        # What this call had to replace is told along, so that the main process can say it.
        crops = np.empty((len(draws), self.channels, self.crop, self.crop), dtype=np.uint8)
        before = set(self.refused)
        for draw, crop in zip(draws, crops, strict=True):
            self._cut_one(draw, flip, crop)
        return CropBatch(
            torch.from_numpy(crops), {n: why for n, why in self.refused.items() if n not in before}
        )

    def pyramids(self) -> Iterator[Pyramid]:
        """The pictures in full at all their scales, but for those that can't be used."""
        for number in range(len(self.files)):
            title = self.files.title(number)
            try:
                with self.files.open(number) as image:
                    photograph = Photograph(title, upright_pixels(image, title))
                reduced = pyramid(photograph, self.crop, self.channels)
            except InputError as error:
                self.refused[number] = str(error)
                continue
            yield reduced

    def _cut_one(
        self, draw: Float64[np.ndarray, " five"], flip: bool, crop: UInt8[np.ndarray, "c s s"]
    ) -> None:
        """Fill `crop` by five draws; a picture that can't be used gives way to the next one that can."""
        # From the drawn picture on, the first one that can be used; those known to be unusable are not tried again.
        first, count = int(draw[0] * len(self.files)), len(self.files)
        for number in (np.arange(first, first + min(count, TRIES)) % count).tolist():
            if number in self.refused:
                continue
            try:
                with self.files.open(number) as image:
                    crop[:] = cut_crop(image, self.files.title(number), draw, self.crop, self.channels, flip)
                return
            except InputError as error:
                self.refused[number] = str(error)
        raise InputError(
            f"none of {min(count, TRIES)} pictures can be used; the last one: {list(self.refused.values())[-1]}"
        )


class StreamedCrops(ImageSet):
    """Crops at random scales and places of pictures that stay on the disk, however many they are.

    The draws are those of `Crops`: a set of PNG pictures has the same crops either way, to a rounding of the resizing.

    Args:
        train, held_out: different pictures, each in an order that was shuffled.
        request: side and channels of a crop, the number of held-out crops, the number of reading processes.
        parts: the same pictures in the set's own order.
        sizes: height and width of some training pictures, 0 for those that can't be read.

    Raises:
        InputError: no picture of a part can be used.
    """

    def __init__(
        self,
        name: str,
        note: str,
        train: PictureFiles,
        held_out: PictureFiles,
        request: PictureRequest,
        parts: Parts,
        sizes: Int64[np.ndarray, "n 2"],
    ) -> None:
        # What a set is, and a reader for each part.
        self.name, self.note, self.epoch = name, note, EPOCH_OF_CROPS
        self.channels, self.size = request.channels, (request.crop, request.crop)
        self.parts, self.workers = parts, request.workers
        self._count, self._sizes = request.held_out, sizes
        self._train, self._held_out = (
            CropReader(files, request.crop, request.channels) for files in (train, held_out)
        )
        self._named: set[str] = set()
        # What can't work is refused before a training begins.
        self._name(self._train.cut(np.zeros((1, 5))).refused)
        self.whole = tuple(
            torch.from_numpy(p.levels[-1]).permute(2, 0, 1)
            for p in itertools.islice(self._held_out.pyramids(), LARGEST_WHOLE)
        )
        self._name(self._held_out.refused)

    def batch(self, seed: int, step: int, size: int) -> Tensor:
        return self._crops(self._train.step(seed, size, step))

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream:
        read = functools.partial(self._train.step, seed, size)
        return BatchStream(map(self._crops, read_ahead(read, first_step, self.workers)))

    @functools.cached_property
    def held_out(self) -> Tensor:
        draws = step_random(HELD_OUT_SEED, 0).random((self._count, 5))
        batch = self._held_out.cut(draws, flip=False)
        return self._crops(batch)

    def pictures(self) -> Iterator[UInt8[np.ndarray, "h w c"]]:
        for levels in self._train.pyramids():
            yield from levels.levels
        self._name(self._train.refused)

    def latents(self, stride: int) -> int:
        """Tokens of all training pictures, estimated from those whose sizes are known."""
        largest = [sizes[-1] for h, w in self._sizes.tolist() if (sizes := level_sizes(h, w, self.size[0]))]
        tokens = sum((height // stride) * (width // stride) for height, width in largest)
        return tokens * len(self._train.files) // max(len(self._sizes), 1)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of what `PictureFiles.digest` looks at."""
        return hashlib.sha256((self.parts.train.digest() + self.parts.test.digest()).encode()).hexdigest()

    def _crops(self, batch: CropBatch) -> Tensor:
        self._name(batch.refused)
        return batch.crops

    def _name(self, refused: dict[int, str]) -> None:
        """Say once which pictures can't be used; every reading process tells of them."""
        for why in refused.values():
            if why not in self._named:
                self._named.add(why)
                warnings.warn(f"{why}: another picture takes its place", stacklevel=4)
