"""What a tokenised set says of itself: the columns as `datasets` names them, and the card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import pyarrow
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from codebound.codec.model import Model
from codebound.tokenizers.sequences import offsets

_ENVIRONMENT = Environment(
    loader=PackageLoader("codebound.runs", "."),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # Markdown, not HTML
)
_TEMPLATE = _ENVIRONMENT.get_template("tokenised_card.md.j2")


class Split(NamedTuple):
    """What was written of a part of a set."""

    pictures: int
    shards: int
    bytes: int
    unreadable: tuple[str, ...]  # keys of pictures that have no row


def features(labelled: bool, label_names: Sequence[str]) -> dict[str, Any]:
    """The columns, as `datasets.Features.from_dict` reads them."""

    # A column of plain numbers or text, in the words of `datasets`.
    def value(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "_type": "Value"}

    # A class has names where the set gives them.
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
    sizes = list(model.codebook_sizes)
    return _TEMPLATE.render(
        header=yaml.safe_dump(_header(splits, *label), sort_keys=False, allow_unicode=True),
        name=name,
        data=data,
        version=version("codebound"),
        splits=splits,
        unreadable=[key for part in splits.values() for key in part.unreadable],
        model=model.digest().hex(),
        sizes=sizes,
        offsets=offsets(sizes),
        vocab_size=model.tokenizer.vocab_size,
        stride=model.tokenizer.stride,
        long_side=long_side,
    )


def _header(splits: Mapping[str, Split], labelled: bool, names: Sequence[str]) -> dict[str, Any]:
    """Which files are which split, and what their columns are."""
    # One pattern of files for each split.
    size = sum(part.bytes for part in splits.values())
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    return {
        "library_name": "codebound",
        "tags": ["vector-quantization", "image-tokens"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {
            "features": [_column(name, kind) for name, kind in features(labelled, names).items()],
            "splits": [
                {"name": split, "num_bytes": part.bytes, "num_examples": part.pictures}
                for split, part in splits.items()
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
