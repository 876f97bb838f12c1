"""What MkDocs is told beside mkdocs.yml: pages made from the package, files of the repository, formulas as MathML."""

import html
import re
from pathlib import Path
from typing import Any

import chapters
import command_page
import kept_runs
import latex2mathml.converter
import names
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Files of the repository that are pages of the site, too.
# Sections whose folder may have pages that mkdocs.yml does not name.
FOLDERS = {"How-to": "how-to", "Results": "results"}
OWN = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
EXPLORED = {"film": "explore/film.json", "plane": "results/plane.json"}
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
        for title, pages in section.items():
            if isinstance(pages, list) and (folder := FOLDERS.get(title)):
                listed = {page if isinstance(page, str) else next(iter(page.values())) for page in pages}
                found = (
                    path.relative_to(ROOT / "docs").as_posix()
                    for path in sorted((ROOT / "docs" / folder).glob("*.md"))
                )
                section[title] = [*pages, *(page for page in found if page not in listed)]
        if "Results" in section:
            section["Results"] = [*section["Results"], kept_runs.navigation()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of docs/ holds."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    for source, target in OWN.items():
        add(target, _own(source))
    add("reference/commands.md", command_page.page())
    for title in names.PAGES:
        add(f"reference/{title}.md", names.page(title))
    for path, content in (*chapters.files(), *kept_runs.files()):
        add(path, content)
    # The explorers' figures as scripts: a page that is opened as a file may not fetch one.
    for name, source in EXPLORED.items():
        figures = (ROOT / "docs" / source).read_text(encoding="utf-8").strip()
        add(f"explore/{name}-data.js", f"window.{name.upper()} = {figures};\n")
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to sources, which work in a clone, become links to the pages that are made of them."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+course/(\d\d_\w+)\.py\)", rf"]({up}course/\1.md)", markdown)
    return re.sub(
        r"\]\((?:\.\./)+src/codebound/(\w+)(?:/|\.py)\)",
        lambda found: f"]({up}reference/{'commands' if found[1] == 'cli' else found[1]}.md)",
        markdown,
    )


def on_page_content(text: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw by themselves."""
    return FORMULA.sub(_formula, text)


def _formula(found: re.Match[str]) -> str:
    source = html.unescape(found[2]).strip()
    display = "block" if found[1] == "div" else "inline"
    return latex2mathml.converter.convert(source[2:-2], display=display)


def _own(name: str) -> str:
    """A file of the repository's root as a page: its links into docs/ are links between pages."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\]\((CHANGELOG|CONTRIBUTING)\.md", lambda m: f"]({m[1].lower()}.md", text)
