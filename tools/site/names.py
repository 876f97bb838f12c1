"""The reference: which names are public, their pages, and where the documentation shows each of them in use."""

import ast
import importlib
import inspect
import re
from functools import cache, partial
from pathlib import Path
from types import ModuleType

from codebound.quantize import Quantizer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
# Title of a page of the reference: the modules whose public names it has.
PAGES: dict[str, tuple[str, ...]] = {
    "quantize": ("codebound.quantize",),
    "search": ("codebound.search", "codebound.errors"),
    "recipes": ("codebound.recipes",),
    "migrate": ("codebound.migrate",),
    "theory": tuple(
        f"codebound.theory.{name}"
        for name in ("gaussian", "bounds", "converse", "finite", "entropy", "lloyd", "population", "trellis")
    ),
    "metrics": tuple(
        f"codebound.metrics{name}" for name in ("", ".likeness", ".rate_distortion", ".distributions")
    ),
    "data": tuple(f"codebound.data.{name}" for name in ("linear_gaussian", "low_rank", "images", "arrays")),
    "tokenizers": ("codebound.tokenizers", "codebound.tokenizers.sequences"),
    "generators": ("codebound.generators",),
    "codec": ("codebound.codec",),
    "course": ("codebound.course",),
}


def public(module: ModuleType) -> list[str]:
    """The names of a module that its users may rely on: `__all__`, or what it defines without a leading underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or callable(value))
    ]


def every() -> dict[str, list[str]]:
    """Public names by module, of all pages of the reference; what several modules have is in each."""
    modules = [name for listed in PAGES.values() for name in listed]
    return {name: public(importlib.import_module(name)) for name in modules}


def page(title: str) -> str:
    """A page of the reference, in Markdown for mkdocstrings: each name, its docstring, and where it is in use."""
    lines = [f"# {title}", ""]
    for module in PAGES[title]:
        found = importlib.import_module(module)
        lines += [f"`import {module}` · {(found.__doc__ or '').strip().splitlines()[0]}", ""]
        for name in sorted(public(found), key=partial(_place, found)):
            places = uses().get(name, [])
            links = ", ".join(f"[{place}](../{place}.md)" for place in places[:3])
            # A name may differ from the one in its own module: `GumbelAssign` is `assign.Gumbel`.
            options = ["    options:", f"      heading: {name}", f"      toc_label: {name}"]
            lines += [
                f"::: {_home(found, name)}",
                *options,
                "",
                *([f"In use: {links}", ""] if places else []),
            ]
    return "\n".join(lines)


def _place(module: ModuleType, name: str) -> int:
    """Quantizers come first, the one that most need before all; the rest as the module has it."""
    value = getattr(module, name)
    return (name != "VectorQuantizer") + (not (inspect.isclass(value) and issubclass(value, Quantizer)))


def _home(module: ModuleType, name: str) -> str:
    """Where a name is defined, as a static reader finds it."""
    value = getattr(module, name)
    return f"{getattr(value, '__module__', module.__name__)}.{getattr(value, '__name__', name)}"


@cache
def uses() -> dict[str, list[str]]:
    """Pages (below docs/, without suffix) whose code uses a name, for each name; read from the syntax tree."""
    found: dict[str, list[str]] = {}
    for place, code in _code():
        for name in sorted(_identifiers(code)):
            if place not in found.setdefault(name, []):
                found[name].append(place)
    return found


def _code() -> list[tuple[str, str]]:
    """(page, its code), of the Markdown pages and of the course's chapters."""
    pages = [
        (
            str(path.relative_to(ROOT / "docs").with_suffix("")),
            "\n".join(BLOCK.findall(path.read_text("utf-8"))),
        )
        for path in sorted((ROOT / "docs").rglob("*.md"))
    ]
    # Chapters explain what they use, so they come first.
    chapters = [
        (f"course/{path.stem}", path.read_text("utf-8"))
        for path in sorted((ROOT / "course").glob("[0-9]*.py"))
    ]
    return chapters + pages


def _identifiers(code: str) -> set[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return set()
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return loaded | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
