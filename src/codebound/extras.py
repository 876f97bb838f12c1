"""Packages that not everybody needs: imported where they are used, asked for by name where they are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from codebound.errors import InputError

# What the extra `lab` brings, by the names under which it is imported.
LAB = (
    "PIL", "constriction", "huggingface_hub", "jinja2", "joblib", "lightning_fabric", "markupsafe", "matplotlib",
    "pandas", "pyarrow", "rich", "threadpoolctl", "typer", "yaml",
)  # fmt: skip


class MissingExtra(InputError, ImportError):
    """A package of an extra is not installed; the message says how to install it."""


def imported(module: str, extra: str, user: str) -> Any:
    """The module of an extra.

    Args:
        user: what needs it, as the user wrote it.

    Raises:
        MissingExtra: it is not installed; how to install it is said.
    """
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(f"{user} needs an extra: pip install 'codebound[{extra}]'") from None


def require_lab(user: str) -> None:
    """Refuse to go on where a package of the extra `lab` is not installed.

    Args:
        user: what needs it, as the user wrote it.

    Raises:
        MissingExtra: at least one is missing; how to install them is said.
    """
    if missing := [module for module in LAB if find_spec(module) is None]:
        raise MissingExtra(
            f"{user} needs an extra: pip install 'codebound[lab]' (not installed: {', '.join(missing)})"
        )


def on_demand(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: names whose modules are imported when one of them is first asked for.

    Args:
        homes: the module of each name; a module of the package itself is its own.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(homes[name])
        return module if homes[name] == f"{package}.{name}" else getattr(module, name)

    return find
