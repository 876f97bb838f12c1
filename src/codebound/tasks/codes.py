"""What a prior learns from: the indices of pictures, as they are encoded batch by batch, or of a tokenised set."""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from jaxtyping import Int64
from torch import Tensor

from codebound.data.augment import Augmentation, augmented
from codebound.data.batch_stream import BatchStream
from codebound.data.image_sets import EpochOrder, ImageSet
from codebound.errors import InputError
from codebound.generators.layout import Grid, Layout
from codebound.tokenizers.opening import PictureTokenizer

ENCODED = 128  # pictures at once


class Codes(ABC):
    """Batches of pictures or of their indices, with classes; each a function of (seed, step).

    Attributes:
        note: what they are, for a report.
        layout: how a picture's indices stand in a sequence.
        classes: their names; none where pictures have no classes.
    """

    note: str
    layout: Layout
    classes: tuple[str, ...]

    @abstractmethod
    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[tuple[Tensor, Tensor]]:
        """The batches of this step and all that follow: something for `tokens`, and the labels, 0 without classes."""

    @abstractmethod
    def tokens(self, batch: Tensor) -> Int64[Tensor, "b n"]:
        """The tokens of a batch, on its device."""

    @property
    @abstractmethod
    def held_out(self) -> tuple[Int64[Tensor, "m n"], Int64[Tensor, " m"]]:
        """Tokens and labels that a training never sees."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 that says which codes these are."""


class PictureCodes(Codes):
    """The codes of a set of pictures, encoded when a batch needs them: crops are as many as steps ask for.

    Args:
        tokenizer: in eval; it does not learn.
        images: pictures of one size.
        augmentation: what is done to each picture of a batch before it is encoded.

    Raises:
        InputError: pictures with other channels than the tokenizer's.
    """

    def __init__(
        self,
        tokenizer: PictureTokenizer,
        images: ImageSet,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  immutable
    ) -> None:
        if images.channels != tokenizer.channels:
            raise InputError(
                f"data={images.name}: pictures of {images.channels} channels; the tokenizer has {tokenizer.channels}"
            )
        self.tokenizer, self.images = tokenizer.requires_grad_(False), images
        self.augmentation = augmentation
        self.note, self.digest_of_images = images.note, images.digest
        self.layout = layout_of(tokenizer, images.size)
        self.classes = images.class_names

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[tuple[Tensor, Tensor]]:
        # Without classes all labels are 0, which is then the number of no class.
        def labelled(batch: Tensor, step: int) -> tuple[Tensor, Tensor]:
            none = torch.zeros(size, dtype=torch.int64)
            labels = self.images.labels(seed, step, size) if self.classes else none
            return augmented(batch, self.augmentation, seed, step), labels

        return self.images.batches(seed, first_step, size).map(labelled, first_step)

    @torch.no_grad()
    def tokens(self, batch: Tensor) -> Tensor:
        # Indices are those of a finished tokenizer, whatever precision the prior learns in.
        with torch.autocast(batch.device.type, enabled=False):
            return self.layout.flatten(self.tokenizer.to(batch.device).encode(batch))

    @cached_property
    def held_out(self) -> tuple[Tensor, Tensor]:
        images = self.images.held_out
        device = next(self.tokenizer.parameters()).device
        tokens = [self.tokens(batch.to(device)).cpu() for batch in images.split(ENCODED)]
        none = torch.zeros(len(images), dtype=torch.int64)
        return torch.cat(tokens), self.images.held_out_labels if self.classes else none

    @property
    def digest(self) -> str:
        return self.digest_of_images


class TokenisedCodes(Codes):
    """The rows of a folder that `codebound tokenize` wrote, all in memory.

    Args:
        held_out: rows of the split `test` that judge a training, at most.

    Raises:
        InputError: no such folder, a damaged file, grids of several sizes, or indices of several models.
    """

    def __init__(self, folder: Path, held_out: int) -> None:
        # Both splits; what they were made with stands in their files.
        train, test = (_split(folder, split) for split in ("train", "test"))
        if len({train.grid, test.grid}) != 1 or (train.model, train.sizes) != (test.model, test.sizes):
            raise InputError(
                f"data={folder}: the splits differ in grid or model; a prior learns from one of each"
            )
        self.note = f"{len(train.indices):,} rows of {folder.name}"
        self.model, self.classes = train.model, train.classes
        height, width, _ = train.grid
        self.layout = Layout([Grid(height, width, train.sizes)])
        self._train, self._test = train, test
        self._held_out, self._order = held_out, EpochOrder(len(train.indices))

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[tuple[Tensor, Tensor]]:
        rows = (self._order.rows(seed, step, size) for step in itertools.count(first_step))
        return BatchStream((self._train.indices[some], self._train.labels[some]) for some in rows)

    def tokens(self, batch: Tensor) -> Tensor:
        return self.layout.flatten(batch)

    @property
    def held_out(self) -> tuple[Tensor, Tensor]:
        count = self._held_out
        return self.tokens(self._test.indices[:count]), self._test.labels[:count]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all rows."""
        total = hashlib.sha256(self.model.encode())
        for part in (self._train.indices, self._train.labels, *self.held_out):
            total.update(part.numpy().tobytes())
        return total.hexdigest()


def layout_of(tokenizer: PictureTokenizer, size: tuple[int, int]) -> Layout:
    """The layout of the indices of pictures of this height and width."""
    return Layout([Grid(*grid) for grid in tokenizer.grids(size)])


class _Split(NamedTuple):
    """The rows of a split of a tokenised set."""

    indices: Int64[Tensor, "n h w q"]
    labels: Int64[Tensor, " n"]
    grid: tuple[int, ...]
    sizes: tuple[int, ...]
    model: str
    classes: tuple[str, ...]


def _split(folder: Path, split: str) -> _Split:
    """All rows of a split.

    Raises:
        InputError: as `TokenisedCodes`.
    """
    # The split's files, each of which says what it was made with.
    paths = sorted((folder / "data").glob(f"{split}-*.parquet"))
    if not paths:
        raise InputError(
            f"data={folder} is no folder of codebound tokenize: it has no data/{split}-….parquet"
        )
    try:
        tables = [pyarrow.parquet.read_table(path) for path in paths]
        about = [json.loads(pyarrow.parquet.read_metadata(path).metadata[b"codebound"]) for path in paths]
        table = pyarrow.concat_tables(table.replace_schema_metadata() for table in tables)
        grids = {tuple(grid) for grid in table.column("grid").to_pylist()}
        indices = table.column("indices").combine_chunks().flatten().to_numpy()
        made = {(one["model"], tuple(one["codebook_sizes"])) for one in about}
    except (OSError, pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"data={folder}: the rows of {split} can't be read: {error}") from None

    # A prior learns from pictures of one size and one tokenizer.
    if len(grids) != 1 or len(made) != 1:
        raise InputError(
            f"data={folder}: {len(grids)} sizes of grids by {len(made)} models in {split}; a prior learns "
            "from one of each"
        )
    (grid,), ((model, sizes),) = grids, made

    # Classes, where there are any; without them all labels are 0, which is then the number of no class.
    labels, names = np.zeros(len(table), dtype=np.int64), ()
    if "label" in table.column_names and not table.column("label").null_count:
        labels = table.column("label").to_numpy().astype(np.int64)
        names = tuple(map(str, range(1 + int(labels.max(initial=0)))))
    return _Split(
        torch.from_numpy(indices.astype(np.int64).reshape(len(table), *grid)),
        torch.from_numpy(labels),
        grid,
        sizes,
        model,
        names,
    )
