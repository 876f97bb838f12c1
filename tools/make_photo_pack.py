"""Make `src/codebound/data/photos/` from the packages that the photographs come in.

Run it once, in an environment with scikit-learn 1.9.1 and pillow, after fetching the other two sources:

    pip download --no-deps --dest /tmp/pack scikit-image==0.26.0
    unzip -d /tmp/pack/skimage /tmp/pack/scikit_image-0.26.0-*.whl
    apt-get download lomiri-wallpapers-16.04          # Debian bookworm, version 20.04.0-2
    dpkg-deb -x lomiri-wallpapers-16.04_*.deb /tmp/pack/lomiri
    python tools/make_photo_pack.py --skimage /tmp/pack/skimage --lomiri /tmp/pack/lomiri

Every photograph is converted to sRGB and its metadata dropped. Training ones become JPEG (quality 92, 4:4:4,
at most 1024 px), held-out ones PNG (at most 512 px); both are only ever reduced, with a Lanczos filter.
`index.json` and `ATTRIBUTION.md` are written from the same table, so they cannot disagree with the files.
"""

import argparse
import hashlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageCms

PACK = Path(__file__).resolve().parents[1] / "src" / "codebound" / "data" / "photos"
LONG_SIDE = {"train": 1024, "held_out": 512}
SIZE_LIMIT = 8_000_000  # bytes, whole folder
LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "Public domain": "stated in the source package; see the notes below",
}
PACKAGES = {
    "skimage": "scikit-image 0.26.0 (Python package)",
    "sklearn": "scikit-learn 1.9.1 (Python package)",
    "lomiri": "lomiri-wallpapers-16.04 20.04.0-2 (Debian package)",
}
FOLDERS = {
    "skimage": "skimage/data",
    "sklearn": "datasets/images",
    "lomiri": "usr/share/backgrounds",
}


@dataclass(frozen=True)
class Source:
    """One photograph: its name here, where it comes from and on what terms."""

    name: str
    package: str
    file: str
    title: str
    author: str
    licence: str
    split: str = "train"


SOURCES = (
    Source("astronaut", "skimage", "astronaut.png", "Eileen Collins", "NASA", "Public domain"),
    Source("coffee", "skimage", "coffee.png", "Coffee cup", "Rachel Michetti", "CC0-1.0"),
    Source(
        "chelsea", "skimage", "chelsea.png", "Chelsea the cat", "Stefan van der Walt", "CC0-1.0", "held_out"
    ),
    Source("rocket", "skimage", "rocket.jpg", "Launch of DSCOVR on Falcon 9", "SpaceX", "Public domain"),
    Source(
        "hubble",
        "skimage",
        "hubble_deep_field.jpg",
        "Hubble eXtreme Deep Field",
        "NASA, HubbleSite",
        "Public domain",
    ),
    Source(
        "retina", "skimage", "retina.jpg", "Human retina (fundus, left eye)", "Mikael Häggström", "CC0-1.0"
    ),
    Source("china", "sklearn", "china.jpg", "china.jpg", "danielbuechele", "CC-BY-2.0", "held_out"),
    Source("flower", "sklearn", "flower.jpg", "flower.jpg", "vultilion (see the notes below)", "CC-BY-2.0"),
    Source(
        "aitzgorri",
        "lomiri",
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        "aitzgorri",
        "Aitzol Berasategi",
        "CC-BY-4.0",
    ),
    Source(
        "friends",
        "lomiri",
        "friends_by_Aitzol_Berasategi.jpg",
        "friends",
        "Aitzol Berasategi",
        "CC-BY-4.0",
        "held_out",
    ),
    Source("life", "lomiri", "life_by_Aitzol_Berasategi.jpg", "life", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(
        "picosdeeuropa",
        "lomiri",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "picosdeeuropa",
        "Aitzol Berasategi",
        "CC-BY-4.0",
    ),
    Source("sunset", "lomiri", "sunset_by_Aitzol_Berasategi.jpg", "sunset", "Aitzol Berasategi", "CC-BY-4.0"),
    Source(
        "picture_0b",
        "lomiri",
        "Picture_0B_by_freespace.jpg",
        "Picture 0B",
        'Trevor "Freespace"',
        "CC-BY-4.0",
        "held_out",
    ),
    Source(
        "picture_1a", "lomiri", "Picture_1A_by_freespace.jpg", "Picture 1A", 'Trevor "Freespace"', "CC-BY-4.0"
    ),
    Source("wine", "lomiri", "Wine_by_Jakkub_Mede.jpg", "Wine", "Jakub Mede", "CC-BY-4.0"),
    Source(
        "seeding", "lomiri", "seeding_by_Clements_Engelhardt.jpg", "seeding", "Clemens Engelhardt", "CC0-1.0"
    ),
)

HEADER = """\
# Photographs in this folder

Photographs by other people, each redistributed on its own terms; the package's own licence does not cover
them. The licences were read in the source packages: the docstrings of `skimage/data/_fetchers.py`,
`sklearn/datasets/images/README.txt` and `/usr/share/doc/lomiri-wallpapers-16.04/copyright`.
`tools/make_photo_pack.py` wrote this file and made the pictures. No author endorses this package. The
photographs come without warranties of any kind; the Creative Commons licences below disclaim them in full.

"""

NOTES = """
## Notes

- astronaut: scikit-image says "No known copyright restrictions, released into the public domain" (NASA
  Great Images, https://flic.kr/p/r9qvLn).
- rocket: released into the public domain by SpaceX
  (https://www.flickr.com/photos/spacexphotos/16511594820/in/photostream/).
- hubble: scikit-image says "may be freely used in the public domain"
  (http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/).
- retina: Häggström, "Medical gallery of Mikael Häggström 2014", WikiJournal of Medicine
  1 (2), doi:10.15347/wjm/2014.008;
  https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg
- china: https://www.flickr.com/photos/danielbuechele/6061409035/sizes/z/in/photostream/ (some rights
  reserved by danielbuechele).
- flower: https://www.flickr.com/photos/vultilion/6056698931/sizes/z/in/photostream/. scikit-learn's
  README names danielbuechele in the attribution line but links to vultilion's account; both are named here.
- The wallpapers' copyright years are 2018; their source is
  https://gitlab.com/ubports/development/core/lomiri-wallpapers

## Left out on purpose

scikit-image's motorcycle (no licence line) and immunohistochemistry ("no known copyright restrictions",
which grants nothing); the wallpapers under CC-BY-SA, and umang, which is a drawing.
"""


def main() -> None:
    """Read the sources, write the pack, and refuse to leave one that is too large."""
    args = _arguments()
    roots = {"skimage": args.skimage, "lomiri": args.lomiri, "sklearn": args.sklearn or _sklearn()}
    args.out.mkdir(parents=True, exist_ok=True)
    index, rows = [], []
    for source in SOURCES:
        data, change = convert(roots[source.package] / FOLDERS[source.package] / source.file, source.split)
        file = source.name + (".jpg" if source.split == "train" else ".png")
        (args.out / file).write_bytes(data)
        index.append(
            {
                "name": source.name,
                "file": file,
                "split": source.split,
                "licence": source.licence,
                "author": source.author,
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
        rows.append((file, source, change))
    (args.out / "index.json").write_text(
        json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (args.out / "ATTRIBUTION.md").write_text(attribution(rows), encoding="utf-8")
    total = sum(path.stat().st_size for path in args.out.iterdir())
    sys.stdout.write(f"{len(index)} photographs, {total} bytes in {args.out}\n")
    if total > SIZE_LIMIT:
        sys.exit(f"the pack is over its limit of {SIZE_LIMIT} bytes")


def convert(path: Path, split: str) -> tuple[bytes, str]:
    """The encoded photograph and, in words, what was changed."""
    with Image.open(path) as opened:
        original, (image, from_profile) = opened.size, _to_srgb(opened)
    scale = LONG_SIDE[split] / max(original)
    if scale < 1:
        image = image.resize([round(side * scale) for side in original], Image.Resampling.LANCZOS)
    changes = (
        [f"reduced from {original[0]}×{original[1]} to {image.width}×{image.height}"] if scale < 1 else []
    )
    changes += [f"converted from {from_profile} to sRGB"] if from_profile else []
    changes += ["re-encoded as JPEG q92" if split == "train" else "stored as PNG", "metadata dropped"]
    buffer = io.BytesIO()
    if split == "train":
        image.save(buffer, "JPEG", quality=92, subsampling=0, optimize=True)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), ", ".join(changes)


def attribution(rows: list[tuple[str, Source, str]]) -> str:
    """The text of ATTRIBUTION.md."""
    lines = [
        "| file | split | title | author | source file and package | licence | changes |",
        "|" + "---|" * 7,
    ]
    lines += [
        f"| `{file}` | {s.split} | {s.title} | {s.author} "
        f"| `{s.file}`, {PACKAGES[s.package]} | {s.licence} | {change} |"
        for file, s, change in rows
    ]
    licences = [f"- {name}: {where}" for name, where in LICENCES.items()]
    return HEADER + "\n".join([*lines, "", *licences]) + "\n" + NOTES


def _to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    profile = image.info.get("icc_profile")
    if not profile:
        return _bare(image.convert("RGB")), ""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    name = ImageCms.getProfileName(source).strip()
    if "sRGB" in name:
        return _bare(image.convert("RGB")), ""
    converted = ImageCms.profileToProfile(image.convert("RGB"), source, ImageCms.createProfile("sRGB"))
    assert converted is not None
    return _bare(converted), name


def _bare(image: Image.Image) -> Image.Image:
    """The pixels alone: no EXIF, no colour profile."""
    image = image.copy()
    image.info.clear()
    return image


def _sklearn() -> Path:
    import sklearn

    return Path(sklearn.__file__).parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skimage", type=Path, required=True, help="unpacked scikit-image wheel")
    parser.add_argument("--lomiri", type=Path, required=True, help="unpacked lomiri-wallpapers-16.04")
    parser.add_argument(
        "--sklearn", type=Path, help="folder of the sklearn package (default: the one installed)"
    )
    parser.add_argument("--out", type=Path, default=PACK)
    return parser.parse_args()


if __name__ == "__main__":
    main()
