"""Build the site strictly, as static files, a folder for each release: python tools/site/build.py [FOLDER]

FOLDER (build/site) keeps what other releases left there; versions.json lists them, and index.html leads to this one.
"""

import json
import logging
import re
import sys
from pathlib import Path

import mkdocs.commands.build
import mkdocs.config
from packaging.version import Version

from codebound import __version__

ROOT = Path(__file__).parents[2]
FRONT = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>codebound</title>'
    '<meta http-equiv="refresh" content="0; url={0}/index.html"><a href="{0}/index.html">codebound {0}</a></html>\n'
)


def main(folder: Path) -> None:
    """Build this release's pages, then the list of releases around them; a warning is an error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    config = mkdocs.config.load_config(
        str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder / __version__)
    )
    config.plugins.on_startup(command="build", dirty=False)
    mkdocs.commands.build.build(config)
    # The page for what is not there is shown at any depth: its links begin at the root.
    missing = folder / __version__ / "404.html"
    text = missing.read_text(encoding="utf-8")
    missing.write_text(re.sub(r'(href|src)="/', rf'\1="/{__version__}/', text), encoding="utf-8")
    releases = sorted((path.parent.name for path in folder.glob("*/sitemap.xml")), key=Version, reverse=True)
    listed = [{"version": name, "title": name, "aliases": []} for name in releases]
    (folder / "versions.json").write_text(json.dumps(listed), encoding="utf-8")
    (folder / "index.html").write_text(FRONT.format(__version__), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "site")
