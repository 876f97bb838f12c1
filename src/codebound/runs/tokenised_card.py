"""What a tokenised set says of itself: the columns as `datasets` names them, and the card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import pyarrow
import yaml

from codebound.codec.model import Model
from codebound.tokenizers.sequences import offsets


class Split(NamedTuple):
    """What was written of a part of a set."""

    pictures: int
    shards: int
    bytes: int
    unreadable: tuple[str, ...]  # keys of pictures that have no row


def features(labelled: bool, label_names: Sequence[str]) -> dict[str, Any]:
    """The columns, as `datasets.Features.from_dict` reads them."""

    def value(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "_type": "Value"}

    label = {"names": list(label_names), "_type": "ClassLabel"} if label_names else value("int64")
    return {
        "key": value("string"),
        **({"label": label} if labelled else {}),
        "height": value("int32"),
        "width": value("int32"),
        "indices": {"feature": value("int32"), "_type": "Sequence"},
        "grid": {"feature": value("int32"), "_type": "Sequence"},
    }


def schema(labelled: bool, label_names: Sequence[str]) -> pyarrow.Schema:
    """The columns, as Parquet has them; those of `datasets` are in the metadata, where it looks for them."""

    def arrow(kind: Mapping[str, Any]) -> pyarrow.DataType:
        if kind["_type"] == "Sequence":
            return pyarrow.list_(arrow(kind["feature"]))
        return pyarrow.type_for_alias(kind.get("dtype", "int64"))  # a class is an integer

    described = features(labelled, label_names)
    columns = [(name, arrow(kind)) for name, kind in described.items()]
    return pyarrow.schema(columns, {"huggingface": json.dumps({"info": {"features": described}})})


def card(
    name: str,
    data: str,
    long_side: int,
    model: Model,
    splits: Mapping[str, Split],
    label: tuple[bool, Sequence[str]],
) -> str:
    """`README.md` of a tokenised set: a header that the hub and `datasets` read, and what a reader needs.

    Args:
        label: whether there are labels, and their names.
    """
    tokenizer, sizes = model.tokenizer, list(model.codebook_sizes)
    header = yaml.safe_dump(_header(splits, *label), sort_keys=False, allow_unicode=True)
    rows = "\n".join(
        f"| {split} | {found.pictures:,} | {found.shards:,} | {len(found.unreadable):,} |"
        for split, found in splits.items()
    )
    unreadable = [key for found in splits.values() for key in found.unreadable]
    lost = f"\nWithout a row, as they can't be read: {', '.join(unreadable)}.\n" if unreadable else ""
    return f"""---
{header}---
# {name}

The pictures of `{data}` as indices of an image tokenizer, written by `codebound tokenize` {version("codebound")}.

| split | pictures | files | unreadable |
|---|---|---|---|
{rows}
{lost}
| | |
|---|---|
| model (hash) | `{model.digest().hex()}` |
| codebook sizes, level by level | {", ".join(f"{size:,}" for size in sizes)} |
| vocabulary size (all levels) | {tokenizer.vocab_size:,} |
| first token of each level | {", ".join(f"{first:,}" for first in offsets(sizes))} |
| pixels per token | {tokenizer.stride}×{tokenizer.stride} |
| largest side, pixels | {long_side:,} |

Larger pictures were reduced to the largest side (Lanczos), none was enlarged; they are upright.

## Columns

- `key`: the picture's file, key or row in its set.
- `label`: its class, where the set has classes.
- `height`, `width`: of the picture that was tokenised, in pixels.
- `grid`: rows, columns and levels of its indices; a token stands for {tokenizer.stride}×{tokenizer.stride} pixels.
- `indices`: all of them, row by row, the levels of a position together; each from 0 to below its level's codebook size.

## Reading

```python
import torch
from datasets import load_dataset
from codebound.tokenizers import ImageTokenizer

rows = load_dataset("path/to/this/folder", split="train")
row = rows[0]
indices = torch.tensor(row["indices"]).view(1, *row["grid"])      # [1, H, W, levels]

tokenizer = ImageTokenizer.from_pretrained("path/to/the/model")   # the one with the hash above
picture = tokenizer.decode(indices, size=(row["height"], row["width"]))
```

As one sequence for a language model, a level's indices are moved behind those of the levels before it:

```python
tokens = tokenizer.flatten(indices)                               # [1, H·W·levels], below {tokenizer.vocab_size}
again = tokenizer.unflatten(tokens, tuple(row["grid"][:2]))       # [1, H, W, levels]
```

Without `codebound`: `(indices + torch.tensor({offsets(sizes)})).flatten(1)`.
"""


def _header(splits: Mapping[str, Split], labelled: bool, names: Sequence[str]) -> dict[str, Any]:
    """Which files are which split, and what their columns are."""
    size = sum(found.bytes for found in splits.values())
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    return {
        "library_name": "codebound",
        "tags": ["vector-quantization", "image-tokens"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {
            "features": [_column(name, kind) for name, kind in features(labelled, names).items()],
            "splits": [
                {"name": split, "num_bytes": found.bytes, "num_examples": found.pictures}
                for split, found in splits.items()
            ],
            "download_size": size,
            "dataset_size": size,
        },
    }


def _column(name: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    """A column as the header of a card has it."""
    if kind["_type"] == "Sequence":
        return {"name": name, "sequence": kind["feature"]["dtype"]}
    if kind["_type"] == "ClassLabel":
        return {"name": name, "dtype": {"class_label": {"names": dict(enumerate(kind["names"]))}}}
    return {"name": name, "dtype": kind["dtype"]}
