"""Sets of pictures to train on, each batch a pure function of (seed, step); here those that are in memory."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from codebound.data.batch_stream import BatchStream
from codebound.data.crops import HELD_OUT_SEED, Pyramid, cut_crops, which
from codebound.data.picture_files import ArrayFiles, Parts
from codebound.errors import InputError

LARGEST_WHOLE = 8  # held-out photographs that are judged in full
EPOCH_OF_CROPS = 8192  # crops have no natural epoch: this many are called one


class LabelledPictures(NamedTuple):
    """Pictures with their classes, for a probe."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]


class ImageSet(ABC):
    """What a training reads.

    Attributes:
        name, note: what it is, for a report.
        channels, size: 1 (grey) or 3 (colour); height and width of a picture.
        epoch: pictures that count as one epoch.
        whole: held-out photographs in full, where there are any.
        parts: every picture in full, one at a time, as the set was found: for whoever tokenises all of it.
        train_labelled, test_labelled: for a linear probe; None where there are no classes.
        class_names: of the classes that `labels` knows; none where pictures have no classes.
    """

    name: str
    note: str
    channels: int
    size: tuple[int, int]
    epoch: int
    whole: tuple[UInt8[Tensor, "c _ _"], ...] = ()
    parts: Parts
    train_labelled: LabelledPictures | None = None
    test_labelled: LabelledPictures | None = None
    class_names: tuple[str, ...] = ()

    @property
    @abstractmethod
    def held_out(self) -> UInt8[Tensor, "n c h w"]:
        """The fixed pictures that a training never sees."""

    @abstractmethod
    def batch(self, seed: int, step: int, size: int) -> UInt8[Tensor, "size c h w"]:
        """The pictures of a step; equal arguments give equal pictures, so a resume needs no loader's state."""

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Tensor]:
        """The batches of this step and all that follow; sets that are read from the disk read ahead here.

        What came before `first_step` is not looked at, so a resume costs nothing.
        """
        return BatchStream(self.batch(seed, step, size) for step in itertools.count(first_step))

    def labels(self, seed: int, step: int, size: int) -> Int64[Tensor, " size"]:
        """The classes of the pictures of `batch` with the same arguments.

        Raises:
            InputError: a set without classes.
        """
        raise InputError(f"data={self.name} has no classes")

    @property
    def held_out_labels(self) -> Int64[Tensor, " n"]:
        """The classes of `held_out`.

        Raises:
            InputError: a set without classes.
        """
        raise InputError(f"data={self.name} has no classes")

    @abstractmethod
    def latents(self, stride: int) -> int:
        """Tokens that the training pictures have without overlap: no more codewords can be told apart."""

    @abstractmethod
    def pictures(self) -> Iterator[UInt8[np.ndarray, "h w c"]]:
        """The training pictures in full, photographs at each of their scales."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 that says which pictures these are: a resumed run must see the same."""


class InMemorySet(ImageSet):
    """A set whose pixels are all in memory."""

    @abstractmethod
    def _arrays(self) -> Sequence[np.ndarray]:
        """Every array that a batch can come from."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels."""
        total = hashlib.sha256()
        for array in [*self._arrays(), self.held_out.numpy()]:
            total.update(str(array.shape).encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()


class Classes(NamedTuple):
    """The classes of two parts of a set, picture by picture, and their names."""

    train: Int64[np.ndarray, " n"]
    held_out: Int64[np.ndarray, " m"]
    names: tuple[str, ...]


class Crops(InMemorySet):
    """Crops of photographs at random scales and places (`cut_crops`).

    Args:
        train, held_out: different photographs.
        crop: side of a crop in pixels.
        count: fixed crops of the held-out photographs.
        parts: the pictures as they were found; the photographs at their largest scale if not given.
        classes: of the photographs, where they have any.
    """

    def __init__(
        self,
        name: str,
        note: str,
        train: Sequence[Pyramid],
        held_out: Sequence[Pyramid],
        crop: int,
        count: int,
        parts: Parts | None = None,
        classes: Classes | None = None,
    ) -> None:
        self.name, self.note, self.epoch = name, note, EPOCH_OF_CROPS
        self.channels, self.size = train[0].levels[0].shape[2], (crop, crop)
        self.pyramids, self._others, self._count = train, held_out, count
        self.whole = tuple(torch.from_numpy(p.levels[-1]).permute(2, 0, 1) for p in held_out[:LARGEST_WHOLE])
        self.parts = parts or Parts(_largest(train), _largest(held_out))
        self._classes, self.class_names = classes, () if classes is None else classes.names

    def batch(self, seed: int, step: int, size: int) -> Tensor:
        return cut_crops(self.pyramids, size, self.size[0], step_random(seed, step))

    def labels(self, seed: int, step: int, size: int) -> Tensor:
        if self._classes is None:
            return super().labels(seed, step, size)
        return torch.from_numpy(self._classes.train[which(step_random(seed, step), size, len(self.pyramids))])

    @cached_property
    def held_out(self) -> Tensor:
        return cut_crops(self._others, self._count, self.size[0], step_random(HELD_OUT_SEED, 0), flip=False)

    @property
    def held_out_labels(self) -> Tensor:
        if self._classes is None:
            return super().held_out_labels
        drawn = which(step_random(HELD_OUT_SEED, 0), self._count, len(self._others))
        return torch.from_numpy(self._classes.held_out[drawn])

    def pictures(self) -> Iterator[UInt8[np.ndarray, "h w c"]]:
        return (level for pyramid in self.pyramids for level in pyramid.levels)

    def latents(self, stride: int) -> int:
        largest = (pyramid.levels[-1] for pyramid in self.pyramids)
        return sum((level.shape[0] // stride) * (level.shape[1] // stride) for level in largest)

    def _arrays(self) -> Sequence[np.ndarray]:
        return [level for pyramid in self.pyramids for level in pyramid.levels]


class EpochOrder:
    """Numbers below `count`, each once an epoch, in an order drawn from (seed, epoch)."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._last: tuple[int, int, np.ndarray] = (-1, -1, np.empty(0, dtype=np.int64))

    def rows(self, seed: int, step: int, size: int) -> Int64[Tensor, " size"]:
        """Those of a step of so many."""
        # A batch may reach over the end of an epoch: each of its numbers comes from its own epoch's order.
        first = step * size
        places = np.arange(first, first + size)
        rows = [
            self._permutation(seed, int(e))[places[places // self.count == e] % self.count]
            for e in np.unique(places // self.count)
        ]
        return torch.from_numpy(np.concatenate(rows))

    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        if self._last[:2] != (seed, epoch):
            self._last = (seed, epoch, step_random(seed, epoch).permutation(self.count))
        return self._last[2]


class FixedPictures(InMemorySet):
    """Pictures of one size, each seen once an epoch in an order drawn from (seed, epoch).

    Args:
        train, test: the pictures with their classes.
        count: of `test` the first ones, which a training is judged by.
        parts: the pictures as they were found; the same, numbered, if not given.
        class_names: by label; numbers if not given.

    Raises:
        InputError: a part is empty, or the two differ in size.
    """

    def __init__(
        self,
        name: str,
        note: str,
        train: LabelledPictures,
        test: LabelledPictures,
        count: int,
        parts: Parts | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        # Two parts of pictures that are alike in size.
        if not len(train.images) or not len(test.images):
            raise InputError(
                f"{name}: {len(train.images)} pictures to train on and {len(test.images)} held out; at least 1 of "
                "each is needed"
            )
        if train.images.shape[1:] != test.images.shape[1:]:
            raise InputError(f"{name}: training and held-out pictures differ in size")

        # Everything stays in memory, test pictures too: the first of them judge a training, all of them a probe.
        self.name, self.note, self.epoch = name, note, len(train.images)
        self.channels, self.size = train.images.shape[1], (train.images.shape[2], train.images.shape[3])
        self.images, self._first = train.images, test.images[:count]
        self.train_labelled, self.test_labelled = train, test
        classes = 1 + int(max(train.labels.max(), test.labels.max()))
        self.class_names = tuple(class_names) or tuple(map(str, range(classes)))
        self.parts = parts or Parts(_as_files(train), _as_files(test))
        self._order = EpochOrder(self.epoch)

    def batch(self, seed: int, step: int, size: int) -> Tensor:
        return self.images[self._order.rows(seed, step, size)]

    def labels(self, seed: int, step: int, size: int) -> Tensor:
        assert self.train_labelled is not None
        return self.train_labelled.labels[self._order.rows(seed, step, size)]

    @property
    def held_out(self) -> Tensor:
        return self._first

    @property
    def held_out_labels(self) -> Tensor:
        assert self.test_labelled is not None
        return self.test_labelled.labels[: len(self._first)]

    def pictures(self) -> Iterator[UInt8[np.ndarray, "h w c"]]:
        return (image.permute(1, 2, 0).numpy() for image in self.images)

    def latents(self, stride: int) -> int:
        height, width = self.images.shape[2:]
        return len(self.images) * -(-height // stride) * -(-width // stride)

    def _arrays(self) -> Sequence[np.ndarray]:
        return [self.images.numpy()]


def _largest(pyramids: Sequence[Pyramid]) -> ArrayFiles:
    return ArrayFiles([p.levels[-1] for p in pyramids], [p.name for p in pyramids])


def _as_files(part: LabelledPictures) -> ArrayFiles:
    return ArrayFiles(list(part.images.permute(0, 2, 3, 1).numpy()), labels=part.labels.tolist())


def step_random(seed: int, step: int) -> np.random.Generator:
    """A stream of its own for each (seed, step): Philox is counter-based (Salmon et al. 2011)."""
    return np.random.Generator(np.random.Philox(key=[seed, step]))
