"""Blocks of a documentation page that a command writes: between its two markers everything is replaced."""

from __future__ import annotations

from pathlib import Path

from codebound import files

DOCS = Path(__file__).parent.parent / "docs"


def write_block(page: str, name: str, text: str) -> None:
    """Put `text` between the markers `<!-- name -->` and `<!-- /name -->` of docs/`page`.

    Raises:
        SystemExit: the page has no such markers.
    """
    path, begin, end = DOCS / page, f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{path} needs the markers {begin} and {end}")
    files.write_text(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
    print(f"written: {path.relative_to(DOCS.parent)}, block {name}")
