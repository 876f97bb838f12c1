"""Pictures as cameras, phones and scanners write them, and as damage leaves them."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from codebound import codec
from codebound.codec import CodecError
from codebound.codec.picture_input import read_picture
from codebound.data.colour import colour
from codebound.data.image_sources import PictureRequest, open_images
from codebound.data.images import photographs, read_image
from codebound.data.picture_reading import image_names, opened_image, upright_pixels
from codebound.errors import InputError

# Primaries of Display P3 as an ICC profile: sRGB's tone curve, other colorants (D50-adapted, ICC.1:2010, s15Fixed16).
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(photographs("held_out")[0].pixels[:40, :60])


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def profile(name: str, gamma: float = 2.2, colorants: tuple = P3) -> bytes:
    """A small matrix profile: a name, three colorants, one gamma."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    text = name.encode() + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)}
    for sign, xyz in zip((b"r", b"g", b"b"), colorants, strict=True):
        tags[sign + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*xyz)
        tags[sign + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    table, data = b"", b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head + bytes(128 - len(head)) + body


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_profiles_are_converted_to_srgb_and_named(photo: Image.Image, form: str) -> None:
    icc = profile("Made for a test")
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    data = saved(photo, form, icc_profile=icc, **options)
    plain = Image.open(io.BytesIO(data)).convert("RGB")
    wanted = ImageCms.profileToProfile(
        plain, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    found = read_picture(data)
    assert np.array_equal(found.pixels, np.array(wanted))
    assert np.abs(found.pixels.astype(int) - np.array(plain)).max() > 10
    assert found.profile == "Made for a test"
    assert np.array_equal(read_image(io.BytesIO(data), "p").pixels, found.pixels)


def test_srgb_by_any_name_changes_nothing_and_a_broken_profile_neither(photo: Image.Image) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (srgb, b"no profile", srgb[:200]):
        found = read_picture(saved(photo, "PNG", icc_profile=icc))
        assert np.array_equal(found.pixels, np.array(photo))
        assert found.profile == ""


def test_a_profile_under_transparency_and_on_grey(photo: Image.Image) -> None:
    icc = profile("P", gamma=1.8)
    rgba = photo.convert("RGBA")
    rgba.putalpha(Image.new("L", photo.size, 255))
    plain = read_picture(saved(photo, "PNG", icc_profile=icc))
    found = read_picture(saved(rgba, "PNG", icc_profile=icc))
    assert np.array_equal(found.pixels, plain.pixels)
    assert not found.transparent
    grey = read_picture(saved(photo.convert("L"), "PNG", icc_profile=profile("G", 1.0)))
    assert grey.grey
    assert grey.profile == "G"
    linear = np.array(photo.convert("L")) / 255
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(grey.pixels[..., 0] - 255 * encoded).max() < 3


def test_the_profile_s_name_is_in_the_file(photo: Image.Image) -> None:
    data = codec.compress(saved(photo, "PNG", icc_profile=profile("Made for a test")), quality=1)
    assert codec.inspect(codec.compress(photo, quality=1)).profile == ""
    assert codec.inspect(data).profile == "Made for a test"
    assert codec.decompress(data).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("white", 255), ("black", 0), ("#808080", 128)],
)
def test_what_is_transparent_shows_the_background(name: str, shown: int) -> None:
    hidden = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)  # noise that no one sees
    hidden[..., 3] = 0
    hidden[:4, :, 3] = 255
    rgba = Image.fromarray(hidden)
    for image in (rgba, rgba.convert("RGBa"), rgba.convert("LA"), rgba.convert("LA").convert("La")):
        found = read_picture(image, background=colour(name))
        assert found.transparent
        assert (found.pixels[4:] == shown).all()
    found = read_picture(saved(rgba, "PNG"), background=colour(name))
    assert np.array_equal(found.pixels[:4], hidden[:4, :, :3])


def test_a_half_transparent_pixel_is_mixed_in_coded_values() -> None:
    rgba = Image.fromarray(np.full((2, 2, 4), (200, 100, 0, 51), dtype=np.uint8))
    assert read_picture(rgba).pixels[0, 0].tolist() == [244, 224, 204]  # 0.2 of it, 0.8 of white


def test_a_palette_with_a_transparent_entry(photo: Image.Image) -> None:
    palette = photo.convert("P")
    for transparency in (palette.getpixel((0, 0)), bytes([0] * 256)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read_picture(saved(palette, "PNG", transparency=transparency))
        assert found.transparent
        assert found.pixels[0, 0].tolist() == [255, 255, 255]


def test_a_phone_s_picture_is_the_first_of_two(photo: Image.Image) -> None:
    thumb = photo.resize((6, 4))
    data = saved(photo, "MPO", save_all=True, append_images=[thumb])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 2
        first = np.array(opened)
    assert np.array_equal(read_picture(data).pixels, first)


def test_reduced_copies_of_a_page_are_no_frames(photo: Image.Image) -> None:
    small = photo.resize((30, 20))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pyramid = saved(photo, "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(read_picture(pyramid).pixels, np.array(photo))
    with pytest.raises(CodecError, match="2 frames"):
        read_picture(saved(photo, "TIFF", save_all=True, append_images=[photo]))


def test_16_bits_in_every_container() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    wanted = np.round(ramp / 257).astype(np.uint8)
    pgm = b"P5\n8 8\n65535\n" + ramp.astype(">u2").tobytes()
    wide = Image.fromarray(ramp.astype(np.int32))
    deep = Image.fromarray(ramp)
    for source in (pgm, saved(deep, "PNG"), saved(deep, "TIFF"), saved(wide, "TIFF"), wide, deep):
        found = read_picture(source)
        assert found.grey
        assert np.array_equal(found.pixels[..., 0], wanted)
    with pytest.raises(CodecError, match="70000"):
        read_picture(Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)))
    with pytest.raises(CodecError, match="'F'"):
        read_picture(Image.fromarray(np.ones((2, 2), dtype=np.float32)))


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "CMYK", "LAB", "P", "PA", "RGBa"])
def test_pillow_images_of_any_mode(photo: Image.Image, mode: str) -> None:
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB")
    else:
        image = photo.convert("RGBA").convert(mode) if mode in ("RGBa", "PA") else photo.convert(mode)
    found = read_picture(image)
    most = {"P": 100, "PA": 100, "LAB": 12, "HSV": 8}.get(mode, 4)
    assert np.abs(found.pixels.astype(int) - np.array(photo)).max() <= most


def test_equal_channels_are_grey(photo: Image.Image) -> None:
    grey = photo.convert("L")
    for source in (grey.convert("RGB"), saved(grey.convert("RGB"), "PNG"), np.array(grey.convert("RGB"))):
        assert read_picture(source).grey
    assert not read_picture(photo).grey
    as_colour = codec.compress(grey.convert("RGB"), quality=1)
    assert as_colour == codec.compress(grey, quality=1)
    assert codec.decompress(as_colour).shape == (40, 60)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(photo: Image.Image, form: str, orientation: int) -> None:
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # of Image.Transpose
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    plain = Image.open(io.BytesIO(saved(photo, form, **({"lossless": True} if form == "WEBP" else {}))))
    wanted = plain if orientation == 1 else plain.transpose(turns[orientation])
    assert np.array_equal(read_picture(data).pixels, np.array(wanted.convert("RGB")))


def test_bad_exif_is_no_reason_to_refuse(photo: Image.Image) -> None:
    data = saved(photo, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(data).pixels.shape == (40, 60, 3)


def damaged(photo: Image.Image) -> dict[str, bytes]:
    """Files at which Pillow raises RuntimeError, TypeError, KeyError, IndexError, struct.error and the like."""
    avif, tiff, gif = saved(photo, "AVIF"), saved(photo, "TIFF"), saved(photo.convert("P"), "GIF")
    at = avif.index(b"mdat") + 8
    return {
        "a.avif": avif[:at] + b"\xff" * 40 + avif[at + 40 :],
        "b.tif": tiff.replace(struct.pack("<HHI", 258, 3, 3), struct.pack("<HHI", 258, 2, 3)),
        "c.gif": gif[:30],
        "d.png": b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 0, 0, 0) + b"\xff" * 100,
        "e.jpg": saved(photo, "JPEG")[:300],
    }


def test_whatever_pillow_raises_is_one_refusal(photo: Image.Image, tmp_path: Path) -> None:
    for name, data in damaged(photo).items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CodecError, match=name):
            read_picture(tmp_path / name)


@pytest.mark.parametrize(
    "error", [RuntimeError, TypeError, KeyError, IndexError, NotImplementedError, struct.error]
)
def test_any_error_of_pillow_is_a_refusal_in_training_too(
    photo: Image.Image, tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        different = photo.rotate(90 * number, expand=True)  # copies would all be held out
        different.save(tmp_path / f"{number}.png")
        (tmp_path / f"odd{number}.bmp").write_bytes(saved(different, "BMP"))

    def load(image: Image.Image) -> None:
        raise error("odd")

    monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load", load)
    for memory in (2**30, 0):
        with pytest.warns(UserWarning, match=r"odd\d\.bmp"):
            open_images(f"folder:{tmp_path}", PictureRequest(16, 3, 2, memory, 0)).batch(0, 0, 64)


def test_bounds(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "p.png")
    with pytest.raises(CodecError, match="too large: 60×40 pixels; max_pixels=2399"):
        read_picture(tmp_path / "p.png", max_pixels=2399)
    assert read_picture(tmp_path / "p.png", max_pixels=2400).pixels.shape == (40, 60, 3)
    before = Image.MAX_IMAGE_PIXELS
    header = saved(Image.new("1", (12_000, 10_000)), "PNG")  # beyond Pillow's own bound, and no warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened_image(io.BytesIO(header), "scan") as image:
            assert image.size == (12_000, 10_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_what_is_passed_over_is_listed(photo: Image.Image, tmp_path: Path) -> None:
    for name in ("a.AVIF", "b.jfif", "c.ppm", "d.jp2", "deep/e.png", "._a.jpg", ".hidden/f.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(
            saved(photo, {"a": "AVIF", "b": "JPEG", "c": "PPM", "d": "JPEG2000"}.get(name[0], "PNG"))
        )
    (tmp_path / "notes.txt").touch()
    (tmp_path / "gone.png").symlink_to("nowhere")
    listing = image_names(tmp_path)
    assert listing.names == ["a.AVIF", "b.jfif", "c.ppm", "d.jp2", "deep/e.png"]
    assert listing.passed_over == ["gone.png", "notes.txt"]
    with pytest.warns(UserWarning, match=r"passed over: gone\.png, notes\.txt"):
        open_images(f"folder:{tmp_path}", PictureRequest(crop=16, held_out=2))


def test_a_large_folder_is_listed_in_seconds(tmp_path: Path) -> None:
    for number in range(5_000):
        (tmp_path / f"{number}.png").touch()
    assert len(image_names(tmp_path).names) == 5_000


def test_errors_of_the_caller_are_not_the_picture_s(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "p.png")

    def mistaken() -> None:
        with opened_image(tmp_path / "p.png", "p.png") as image:
            upright_pixels(image, "p.png")
            raise KeyError("a mistake of the program")

    with pytest.raises(KeyError):
        mistaken()
    with pytest.raises(InputError, match="no colour"):
        colour("no colour")
