"""A whole picture set as indices: sharded Parquet files with a card, as `datasets` opens them."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from pydantic import Field

from codebound import config
from codebound.codec import tiles
from codebound.codec.model import Model, load_model
from codebound.data.image_sources import open_images
from codebound.data.picture_files import Parts, PictureFiles
from codebound.data.picture_reading import whole_image
from codebound.data.picture_request import PictureRequest
from codebound.errors import InputError
from codebound.files import replacing, write_text
from codebound.runs import parallel
from codebound.runs.folder import RunFolder
from codebound.runs.kinds import RunKind, kind_of_settings, run_kind
from codebound.runs.tokenised_card import Split, card, schema
from codebound.tokenizers.image import ImageTokenizer
from codebound.tokenizers.pretrained import DEFAULT, DEFAULT_NAME, MANIFEST

STUDY = "tokenize"
ROW_GROUP = 64  # pictures that are written at once: what a process holds of a shard
_META = b"codebound"


class TokeniseSettings(config.Settings):
    """What decides the rows of a tokenised set, besides the pictures and the model."""

    data: str
    long_side: int = Field(default=512, ge=1)  # pixels: larger pictures are reduced to it, as in training
    shard_size: int = Field(default=1024, ge=1)  # pictures in a file


class Shard(NamedTuple):
    """A file to be written: some pictures of a split, in the set's order."""

    split: str
    number: int
    of: int
    files: PictureFiles

    def path(self, folder: Path) -> Path:
        """Where it belongs."""
        return folder / "data" / f"{self.split}-{self.number:05d}-of-{self.of:05d}.parquet"


class _Work(NamedTuple):
    """What a process needs to write a shard, besides the shard."""

    folder: Path
    model: Path
    digest: str  # of the model, which must not have changed meanwhile
    long_side: int


def tokenise(
    source: str,
    settings: TokeniseSettings,
    folder: Path,
    request: PictureRequest | None = None,
    *,
    jobs: int = 1,
    backend: str = "loky",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Split]:
    """Write the indices of every picture of a set, one row a picture, in `data/SPLIT-NUMBER-of-NUMBER.parquet`.

    A shard is a function of the pictures, the model and its number: however many processes write, and however often
    they are stopped, the bytes are the same. What is finished is not written again.

    Args:
        source: the folder of a finished run or of a model, or "default" for the model in the package.
        folder: a new one, or that of an earlier call with the same settings, pictures and model.
        request: decides which pictures are the split `test`: the run's own, so that they are those it never saw.
        jobs, backend: as `parallel.each`.
        progress: called with (finished, all) shards.

    Returns:
        What each split holds.

    Raises:
        InputError: no model or no such set, a folder that holds something else (the differences are named), or what
            `parallel.check` refuses.
    """
    # The model, and the pictures with its number of channels.
    parallel.check(jobs, backend)
    path = model_folder(source)
    model = load_model(path)
    request = (request or PictureRequest())._replace(channels=model.tokenizer.channels)
    parts = _parts(settings.data, request)

    # The folder says what its shards are of, so that another model's are never put beside them.
    identity = {
        "model": model.digest().hex(),
        "train pictures": parts.train.digest(),
        "test pictures": parts.test.digest(),
    }
    RunFolder.open(folder, STUDY, settings, identity)

    # Only shards that are not there are written, by as many processes as were asked for.
    shards = _shards(parts, settings.shard_size)
    missing = [shard for shard in shards if not shard.path(folder).exists()]
    work = _Work(folder.absolute(), path.absolute(), identity["model"], settings.long_side)
    write = functools.partial(write_shard, work)
    progress(len(shards) - len(missing), len(shards))
    for done, _ in enumerate(
        parallel.each(write, missing, jobs=jobs, backend=cast(parallel.Backend, backend)), start=1
    ):
        progress(len(shards) - len(missing) + done, len(shards))

    # Figures and card come from the files themselves, whoever wrote them.
    return _finish(folder, shards, model, settings)


def _parts(data: str, request: PictureRequest) -> Parts:
    """The pictures; what a training would say of them is left unsaid: one that is too small for its crops has a row."""
    with warnings.catch_warnings():
        for ending in (".*: left out$", ".*: another picture takes its place$"):
            warnings.filterwarnings("ignore", ending, UserWarning)
        return open_images(data, request).parts


def model_folder(source: str) -> Path:
    """The folder of the model that a run, a model's folder or "default" stands for.

    Raises:
        InputError: neither a finished run nor a model.
    """
    if source == DEFAULT_NAME:
        return DEFAULT
    for path in (Path(source) / "model", Path(source)):
        if (path / MANIFEST).is_file():
            return path
    raise InputError(
        f"RUN={source} is neither the folder of a finished run nor of a model; these, or {DEFAULT_NAME!r} for the "
        "model in the package, are accepted"
    )


def run_request(source: str) -> PictureRequest | None:
    """What a run asked of its pictures, which decides what it held out; None for a model without its run."""
    found = _kind_and_settings(source)
    return None if found is None else found[0].pictures(found[1])


def run_data(source: str) -> str | None:
    """The pictures that a run was trained on, by name; None for a model without its run."""
    found = _kind_and_settings(source)
    return None if found is None else found[1].data


def _kind_and_settings(source: str) -> tuple[RunKind[Any], Any] | None:
    """The kind and the settings of a run; None for a model without its run."""
    path = Path(source)
    if not (path / "model").is_dir() or not (path / "config.yaml").is_file():
        return None
    kind = run_kind(kind_of_settings(path / "config.yaml"))
    return kind, config.from_yaml(kind.settings, path / "config.yaml")


def write_shard(work: _Work, shard: Shard) -> None:
    """Write one file, whole or not at all; pictures that can't be read have no row and are listed in its metadata."""
    # What the rows are made with, and what their columns are.
    tokenizer = _tokenizer(work.model, work.digest)
    sizes = list(tokenizer.quantizer.codebook_sizes)
    unreadable: list[str] = []
    columns = schema(shard.files.labelled, shard.files.label_names)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of floats depend on how they are divided

    # Row by row into a temporary file; the metadata come last, when it is known which pictures could be read.
    try:
        with (
            replacing(shard.path(work.folder)) as temporary,
            pyarrow.parquet.ParquetWriter(temporary, columns, compression="zstd") as writer,
        ):
            for rows in _row_groups(tokenizer, shard.files, work.long_side, unreadable):
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=columns))
            about = {"model": work.digest, "codebook_sizes": sizes, "unreadable": unreadable}
            writer.add_key_value_metadata({_META: json.dumps(about).encode()})
    finally:
        torch.set_num_threads(threads)


def _row_groups(
    tokenizer: ImageTokenizer, files: PictureFiles, long_side: int, unreadable: list[str]
) -> Iterator[list[dict[str, Any]]]:
    """The rows of the pictures, some at a time; the keys of pictures that can't be read are added to `unreadable`."""
    rows: list[dict[str, Any]] = []
    for number in range(len(files)):
        # A picture that can't be read has no row; its key is kept for the card.
        try:
            with files.open(number) as image:
                pixels = whole_image(image, files.title(number), long_side, tokenizer.channels)
        except InputError:
            unreadable.append(files.key(number))
            continue

        # A row: the indices flattened, and the shape that makes them a grid again.
        indices = tiles.encode(tokenizer, pixels)
        row: dict[str, Any] = {
            "key": files.key(number),
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "indices": indices.astype(np.int32).ravel(),
            "grid": list(indices.shape),
        }
        if files.labelled:
            row["label"] = files.label(number)
        rows.append(row)

        # A full group is handed over, so that memory stays bounded.
        if len(rows) == ROW_GROUP:
            yield rows
            rows = []
    yield rows


def _shards(parts: Parts, size: int) -> list[Shard]:
    """Equally many pictures a shard, in the set's order; the last one of a split has the rest."""
    shards = []
    for split, files in (("train", parts.train), ("test", parts.test)):
        of = max(1, -(-len(files) // size))
        for number in range(of):
            rows = np.arange(number * size, min((number + 1) * size, len(files)))
            shards.append(Shard(split, number, of, files.select(rows)))
    return shards


def _finish(folder: Path, shards: list[Shard], model: Model, settings: TokeniseSettings) -> dict[str, Split]:
    """Read back what the shards say of themselves, and write the card if it is not there."""
    # Count rows, bytes and unreadable pictures of each split from the shards' own metadata.
    splits: dict[str, Split] = {}
    for shard in shards:
        path = shard.path(folder)
        try:
            metadata = pyarrow.parquet.read_metadata(path)
            unreadable = json.loads(metadata.metadata[_META])["unreadable"]
        except (OSError, pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is damaged ({error}); remove it, and the same command writes it anew"
            ) from None
        before = splits.get(shard.split, Split(0, 0, 0, ()))
        splits[shard.split] = Split(
            before.pictures + metadata.num_rows,
            before.shards + 1,
            before.bytes + path.stat().st_size,
            (*before.unreadable, *unreadable),
        )

    # Say once which pictures have no row.
    if lost := [key for split in splits.values() for key in split.unreadable]:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        warnings.warn(f"can't be read and have no row: {', '.join(lost[:5])}{more}", stacklevel=3)

    # The card is written once: from then on it is its owner's to edit.
    if not (target := folder / "README.md").exists():
        files = shards[0].files
        labels = (files.labelled, files.label_names)
        write_text(target, card(folder.name, settings.data, settings.long_side, model, splits, labels))
    return splits


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path, digest: str) -> ImageTokenizer:
    """The tokenizer, read once in each process.

    Raises:
        InputError: it is no longer the model that the shards are to be of.
    """
    model = load_model(folder)
    if model.digest().hex() != digest:
        raise InputError(f"the model in {folder} has changed: it was {digest}, it is {model.digest().hex()}")
    return model.tokenizer
