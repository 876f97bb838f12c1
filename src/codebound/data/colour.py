"""Pixels as files have them to 8-bit sRGB: modes, depths, colour profiles, transparency."""

from __future__ import annotations

import functools
import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageColor

from codebound.errors import InputError

WHITE = (255, 255, 255)
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # what a profile calls the mode it is for
_SIDE = 17  # of the lattice of colours by which a transform is judged


class Colours(NamedTuple):
    """A picture as 8-bit sRGB.

    Attributes:
        image: of mode RGB.
        profile: the name of the colour profile that it was converted from; "" if it had none, or sRGB itself.
        transparent: whether a background shows through.
    """

    image: Image.Image
    profile: str
    transparent: bool


class _Transform(NamedTuple):
    """A colour profile's name, and the way from its colours to sRGB; None where they are sRGB already."""

    name: str
    apply: ImageCms.ImageCmsTransform | None


def colour(text: str) -> tuple[int, int, int]:
    """An sRGB colour by its CSS name, or as #rrggbb.

    Raises:
        InputError: neither.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise InputError(f"background is {text!r}; a name such as white, or #rrggbb, is accepted") from None
    return red, green, blue


def to_srgb(image: Image.Image, name: str, background: tuple[int, int, int] = WHITE) -> Colours:
    """A picture of any mode but float ones, through its embedded profile, on a background where it is transparent.

    16-bit grey is scaled to 8 bits. A profile that can't be read, or is for another kind of colours, is passed over.

    Raises:
        InputError: float pixels, or whole numbers beyond 16 bits.
    """
    # Colours and transparency apart: a profile is for colours alone.
    base, alpha = _opaque(image, name)
    base, profile = _from_profile(base, image.info.get("icc_profile"))
    base = base if base.mode == "RGB" else base.convert("RGB")

    # What shows through is the background, mixed as browsers do it, in coded values.
    if alpha is None or alpha.getextrema() == (255, 255):
        return Colours(base, profile, False)
    return Colours(Image.composite(base, Image.new("RGB", base.size, background), alpha), profile, True)


def _opaque(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """The picture in mode L, RGB or CMYK, and its transparency if it has any."""
    # Transparency has many forms; all of them can become RGBA. La and RGBa have it multiplied in.
    if image.has_transparency_data:
        straight = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        grey = image.mode in ("1", "L", "LA", "La")
        return straight.getchannel("R") if grey else straight.convert("RGB"), straight.getchannel("A")

    # Grey of more than 8 bits. Mode I is what 16-bit PGM and some TIFF files come as.
    if image.mode.startswith("I"):
        deep = np.asarray(image.convert("I") if image.mode == "I;16L" else image)
        if int(deep.min()) < 0 or int(deep.max()) > 65535:
            raise InputError(
                f"image {name}: pixels {deep.min()} … {deep.max()}; 8-bit colour and up to 16-bit grey are accepted"
            )
        return Image.fromarray(np.round(deep / np.float64(257)).astype(np.uint8)), None
    if image.mode == "F":
        raise InputError(f"image {name}: pixel mode 'F'; 8-bit colour and up to 16-bit grey are accepted")

    # Lab has no straight way to RGB in Pillow; all others have one.
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it would be, in place
        return converted, None
    if image.mode in _SPACES:
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _from_profile(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """The picture in sRGB, and the name of the profile that it was in, where that was another."""
    transform = None if not icc else _transform(icc, image.mode)
    if transform is None or transform.apply is None:
        return image, ""
    grey = image.mode == "L"
    converted = transform.apply.apply(image.convert(transform.apply.input_mode))
    return converted.getchannel("G") if grey else converted, transform.name


@functools.lru_cache(maxsize=16)
def _transform(icc: bytes, mode: str) -> _Transform | None:
    """What a profile does to pictures of a mode; None where it can't be read or is for others."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]  a compiled class
        mode = "RGB" if (mode, space) == ("L", "RGB") else mode  # grey pictures may have a profile for colour
        if space != _SPACES[mode]:
            return None
        name = ImageCms.getProfileDescription(profile).strip()
        apply = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        changes = mode == "CMYK" or _changes(apply, mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return _Transform(" ".join(name.split()) or "unnamed profile", apply if changes else None)


def _changes(apply: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform does more than round: sRGB has many names, so its colours are looked at."""
    steps = np.linspace(0, 255, _SIDE).round().astype(np.uint8)
    lattice = (
        steps[None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), -1).reshape(_SIDE, -1, 3)
    )
    before = Image.fromarray(lattice)
    after = np.asarray(apply.apply(before)).astype(np.int64)
    return bool(np.abs(after - np.asarray(before.convert("RGB"))).max() > 1)
