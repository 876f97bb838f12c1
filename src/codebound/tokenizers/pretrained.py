"""Trained models as a folder: a description, the weights, a model card, and the SHA-256 of the first two.

safetensors loads a flipped bit of a weight without a word; so the manifest is checked before anything is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codebound import files
from codebound.errors import InputError

WEIGHTS, CONFIG, CARD, MANIFEST = "model.safetensors", "config.json", "README.md", "manifest.json"
DEFAULT_NAME = "default"  # of what is in the package, whichever kind is asked for
DEFAULT = Path(__file__).parent / "default_model"
EXAMPLE = """from codebound.tokenizers import {kind}
tokenizer = {kind}.from_pretrained("path/to/this/folder")
indices = tokenizer.encode(images)                      # uint8, or floats in [0, 1], [b, c, h, w]
again = tokenizer.decode(indices, size=images.shape[-2:])"""


class DamagedModel(InputError):
    """A file of a model is not the one that was saved."""


D = TypeVar("D", bound=BaseModel)


def described(kind: type[D], config: Mapping[str, Any]) -> D:
    """A model's description, checked field by field.

    Raises:
        InputError: an unknown field, a missing one, or a value that is not accepted.
    """
    try:
        return kind(**config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"config: {where} is not accepted: {first['msg']}") from None


def save(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    card: str,
    example: str = EXAMPLE,
) -> None:
    """Write the files one by one, each whole, the manifest last: a save cut short is found at the next load.

    Args:
        card: what the model card says of data, training and figures.
        example: code that uses such a model, for the card; `{kind}` stands for its class.

    Raises:
        InputError: the folder can't be made or written.
    """
    description = {"kind": kind, "codebound": version("codebound"), **config}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        files.write_text(folder / CONFIG, json.dumps(description, indent=2) + "\n")
        with files.replacing(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        files.write_text(folder / CARD, _card(folder.name, kind, config, card, example))
        sums = {
            name: sha256(folder / name) for name in (CONFIG, WEIGHTS)
        }  # the card is for its owner to edit
        files.write_text(folder / MANIFEST, json.dumps({"sha256": sums}, indent=2) + "\n")
    except (OSError, SafetensorError) as error:
        raise InputError(f"model folder {folder} can't be written: {error}") from None


def load(
    source: str | Path, kind: str, revision: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a folder, or of the hub, once every file is the one in the manifest.

    Raises:
        InputError: no such folder, a file missing, or a model of another kind.
        DamagedModel: a file's SHA-256 is not the manifest's.
    """
    folder = model_folder(source)
    folder = folder if folder.is_dir() else _download(str(source), revision)
    verify(folder)
    config = _json(folder / CONFIG)
    if config.pop("kind", None) != kind:
        raise InputError(f"{folder} does not hold a model of kind {kind}: see its {CONFIG}")
    config.pop("codebound", None)
    try:
        return config, load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DamagedModel(f"{folder / WEIGHTS} can't be read: {error}") from None


def kind_of(folder: Path) -> str:
    """The class of the model in a folder, as its description says.

    Raises:
        InputError: no model.
    """
    return str(_json(folder / CONFIG).get("kind"))


def model_folder(source: str | Path) -> Path:
    """The folder of a model on this machine; `"default"` is the one in the package."""
    return DEFAULT if str(source) == DEFAULT_NAME else Path(source)


def verify(folder: Path) -> None:
    """Check the files of a model folder against its manifest.

    Raises:
        InputError: a file is missing.
        DamagedModel: a SHA-256 differs; the file is named.
    """
    sums = _json(folder / MANIFEST).get("sha256")
    if not isinstance(sums, dict) or not {CONFIG, WEIGHTS} <= sums.keys():
        raise DamagedModel(f"{folder / MANIFEST} lists no SHA-256 of {CONFIG} and {WEIGHTS}")
    for name, expected in sums.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"{folder} is not a whole model: {name} is missing")
        if (digest := sha256(folder / name)) != expected:
            raise DamagedModel(
                f"{folder / name} is damaged or was changed: its SHA-256 is {digest[:12]}…, the manifest's "
                f"{str(expected)[:12]}…"
            )


def take_over(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load the weights. Raises InputError where they don't fit the description."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the weights of {source} don't fit its {CONFIG}: {error}") from None


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} is no model: it has no {path.name}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedModel(f"{path} can't be read: {error}") from None
    if not isinstance(description, dict):
        raise DamagedModel(f"{path} holds no description")
    return description


def _download(name: str, revision: str | None) -> Path:
    """The hub's copy of the four files, in its cache."""
    from huggingface_hub import snapshot_download  # seconds to import, and only hub users need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD, MANIFEST])
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{name!r} is no folder, and the hub does not give it: {reason}") from None
    return Path(folder)


def digest(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """What names a model: 16 hexadecimal digits of a SHA-256 over its description and weights."""
    hashed = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        tensor = tensor.detach().cpu().contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.numpy().tobytes())
    return hashed.hexdigest()[:16]


def _card(name: str, kind: str, config: Mapping[str, Any], text: str, example: str) -> str:
    described = json.dumps(config, indent=2)
    return f"""---
library_name: codebound
tags: [vector-quantization, tokenizer]
---
# {name}

A `{kind}` of [codebound](https://pypi.org/project/codebound/) {version("codebound")}.

```python
{example.replace("{kind}", kind)}
```

{text.strip()}

## Description

```json
{described}
```
"""
