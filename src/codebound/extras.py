"""Packages that not everybody needs: imported where they are used, asked for by name where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from codebound.errors import InputError


def imported(module: str, extra: str, user: str) -> Any:
    """The module of an extra.

    Args:
        user: what needs it, as the user wrote it.

    Raises:
        InputError: it is not installed; how to install it is said.
    """
    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"{user} needs an extra: pip install 'codebound[{extra}]'") from None
