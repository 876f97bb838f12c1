"""Cut the site's font of formulas out of an OpenType font of mathematics: python tools/site/math_font.py FONT.otf

Browsers draw MathML with a font that has a table of mathematics, and many machines have none. docs/assets/math.woff is
TeX Gyre Termes Math (Debian's fonts-texgyre-math; GUST Font License, docs/assets/math-font-license.txt), cut to what
formulas of the site are made of.
"""

import re
import sys
from pathlib import Path

from fontTools import subset

FONT = Path(__file__).parents[2] / "docs" / "assets" / "math.woff"
# Signs, letters, Greek, arrows, operators; slanted letters, which single ones become; double-struck ones.
RANGES = (
    (0x20, 0x7E), (0xA0, 0xD7), (0x391, 0x3D6), (0x2010, 0x2026), (0x2032, 0x2034), (0x2061, 0x2064), (0x210E, 0x2113),
    (0x2190, 0x2194), (0x21A6, 0x21A6), (0x21D0, 0x21D4), (0x2200, 0x2265), (0x2282, 0x2287), (0x22C5, 0x22C5),
    (0x22EE, 0x22EF), (0x2308, 0x230B), (0x23DE, 0x23DF), (0x27E8, 0x27E9), (0x1D434, 0x1D467), (0x1D538, 0x1D56B),
    (0x1D6E2, 0x1D71B),
)  # fmt: skip


def drawn(formula: str) -> set[int]:
    """The characters that a browser takes for a formula in MathML: a letter alone is slanted unless it is upright."""
    needed = {ord(c) for c in re.sub(r"<[^>]*>|&#?\w+;|\s", "", formula)}
    needed |= {int(code, 16) for code in re.findall(r"&#x([0-9A-Fa-f]+);", formula)}
    for attributes, letter in re.findall(r"<mi([^>]*)>(\w|&#x[0-9A-Fa-f]+;)</mi>", formula):
        code = int(letter[3:-1], 16) if letter.startswith("&") else ord(letter)
        if "normal" not in attributes:
            needed |= slanted(code)
    return needed


def slanted(code: int) -> set[int]:
    """The slanted form of a Latin or Greek letter; h has its own place in Unicode."""
    for first, last, start in (
        (0x41, 0x5A, 0x1D434),
        (0x61, 0x7A, 0x1D44E),
        (0x391, 0x3A9, 0x1D6E2),
        (0x3B1, 0x3C9, 0x1D6FC),
    ):
        if first <= code <= last:
            return {0x210E} if code == 0x68 else {start + code - first}
    return set()


def main(source: Path) -> None:
    """Write the font anew."""
    options = subset.Options(
        flavor="woff", layout_features=["ssty", "dtls", "flac", "kern"], name_IDs=["*"], notdef_outline=True
    )
    font = subset.load_font(str(source), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
    cut.subset(font)
    # Its licence asks for another name of what was changed.
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16):
            record.string = "CodeboundMath"
    subset.save_font(font, str(FONT), options)
    print(f"{FONT}: {FONT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
