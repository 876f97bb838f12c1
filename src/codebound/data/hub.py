"""Sets of the Hugging Face hub; they stay on the disk, memory-mapped, until a picture is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from codebound.data.image_sets import ImageSet
from codebound.data.picture_files import Parts, TableFiles
from codebound.data.picture_request import PictureRequest
from codebound.data.picture_sets import HELD_OUT_PART, divided_set, survey
from codebound.errors import InputError
from codebound.extras import imported


def hugging_face(name: str, request: PictureRequest) -> ImageSet:
    """A data set of the Hugging Face hub, or a local one that `datasets` can read, as `NAME` or `NAME:SPLIT`.

    Pictures of one size up to 64 with labels are taken as they are, others as photographs to cut crops from. Held out
    is the split `test` or `validation`, or else a tenth, as in a folder.

    Raises:
        InputError: `datasets` is not installed, no such set, or no column of pictures.
    """
    datasets, path, train, test = loaded(name)
    note = f"{path} of the Hugging Face hub, "
    files = _files(datasets, path, train)
    if test is not None:
        parts = Parts(files, _files(datasets, path, test))
    else:
        rows, held_out = divided_rows(datasets, len(files))
        # Of a set that is read as it goes, what is not needed to judge by is trained on.
        held = len(held_out) if survey(files, request).fits else min(len(held_out), request.held_out)
        rows = np.concatenate([rows, held_out[held:]])
        parts = Parts(files.select(rows), files.select(held_out[:held]))
    return divided_set(f"hf:{path}", note + f"{len(parts.train):,} pictures", parts, request)


def loaded(name: str) -> tuple[Any, str, Any, Any]:
    """The package `datasets`, the path of a set given as `NAME` or `NAME:SPLIT`, the split to train on, and another one
    to judge by (`test`, else `validation`) or None.

    Raises:
        InputError: `datasets` is not installed, no such set, or no such split.
    """
    # The set, and in it the split to train on.
    datasets = imported("datasets", "hf", f"data=hf:{name}")
    path, _, split = name.partition(":")
    try:
        splits = datasets.load_dataset(path)
    except Exception as error:  # the hub's errors have no common ancestor
        said = str(error.__cause__ or error).strip() or type(error).__name__
        raise InputError(f"data=hf:{path} can't be loaded: {said.splitlines()[0]}") from None
    train = splits.get(split or "train")
    if train is None:
        raise InputError(
            f"data=hf:{name}: no split {split or 'train'!r}; there are {', '.join(map(str, splits))}"
        )

    # Held out is another split of the set, or else a tenth of this one.
    test = next((splits[s] for s in ("test", "validation") if s in splits and s != split), None)
    return datasets, path, train, test


def _files(datasets: Any, name: str, table: Any) -> TableFiles:
    """The pictures of a split as they are stored: `codebound` decodes them like those of a folder."""
    column = next((c for c, f in table.features.items() if type(f).__name__ == "Image"), None)
    if column is None:
        raise InputError(f"data=hf:{name}: no column of pictures among {', '.join(table.features)}")
    label = next((c for c, f in table.features.items() if type(f).__name__ == "ClassLabel"), None)
    return TableFiles(table.cast_column(column, datasets.Image(decode=False)), name, column, label)


def divided_rows(datasets: Any, count: int) -> list[Int64[np.ndarray, " n"]]:
    """The rows that `train_test_split` of `datasets` would put into each part."""
    rows = datasets.Dataset.from_dict({"row": list(range(count))})
    parts = rows.train_test_split(test_size=HELD_OUT_PART, seed=0)
    return [np.array(parts[name]["row"], dtype=np.int64) for name in ("train", "test")]
