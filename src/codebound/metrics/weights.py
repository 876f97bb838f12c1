"""Weights of foreign networks from files, of which nothing but tensors is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from codebound.errors import InputError


def read_state(path: Path, what: str) -> Mapping[Any, Any]:
    """The state dict in a `.safetensors` file, or in one that `torch.save` wrote.

    Args:
        what: whose weights the file should hold, for the messages.

    Raises:
        InputError: it can't be read, or holds no mapping; what is in the mapping, its reader checks.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(f"{path} can't be read as {what} (.pth or .safetensors): {reason}") from None
    except Exception:
        # Of a foreign file anything may come, and torch's own words advise to unpickle whatever is in it.
        raise InputError(
            f"{path} can't be read as {what} (.pth or .safetensors): it is cut short, of another format, or holds "
            "something else than tensors"
        ) from None

    if not isinstance(state, Mapping):
        raise InputError(f"{path} holds a {type(state).__name__}; a state dict of {what} is accepted")
    return state
