"""What MkDocs is told beside mkdocs.yml: pages made from the package, files of the repository, formulas as MathML."""

import html
import re
from pathlib import Path
from typing import Any

import chapters
import commands
import latex2mathml.converter
import names
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Files of the repository that are pages of the site, too.
OWN = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', flags=re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The sections whose pages are made from the package or from the course's sources."""
    assert config.nav is not None
    for section in config.nav:
        if "Course" in section:
            section["Course"] = chapters.navigation()
        if "Reference" in section:
            section["Reference"] = [
                "reference/index.md",
                {"Command line": "reference/commands.md"},
                *({title: f"reference/{title}.md"} for title in names.PAGES),
                {"Every name in use": "reference/examples.md"},
                {"Files of pictures (.cbd, version 2)": "picture-format.md"},
                {"Files of sound (.cbd, version 3)": "sound-format.md"},
                {"Files of indices (.cbd, version 1)": "format.md"},
                {"Metrics": "metrics.md"},
            ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of docs/ holds."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    for source, target in OWN.items():
        add(target, _own(source))
    add("reference/commands.md", commands.page())
    for title in names.PAGES:
        add(f"reference/{title}.md", names.page(title))
    for path, content in chapters.files():
        add(path, content)
    return files


def on_page_content(text: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw by themselves, and wide tables in a box that scrolls."""
    return (
        FORMULA.sub(_formula, text)
        .replace("<table>", '<div class="wide" tabindex="0"><table>')
        .replace("</table>", "</table></div>")
    )


def _formula(found: re.Match[str]) -> str:
    source = html.unescape(found[2]).strip()
    display = "block" if found[1] == "div" else "inline"
    return latex2mathml.converter.convert(source[2:-2], display=display)


def _own(name: str) -> str:
    """A file of the repository's root as a page: its links into docs/ are links between pages."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\]\((CHANGELOG|CONTRIBUTING)\.md", lambda m: f"]({m[1].lower()}.md", text)
