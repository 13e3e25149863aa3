"""Every kind of picture that people keep, made here as a real file, and what becomes of its colours."""

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageChops

from kennel.errors import ImageError
from kennel.images.budget import PixelBudget
from kennel.images.decode import decode_image

ORANGE = (230, 120, 30)
ORIENTATION = 0x0112  # the tag of EXIF


def to_bytes(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colour_of(data):
    """Return the colour in the middle of a picture."""
    image = decode_image(data, at_least=1).image
    assert image.mode == "RGB"
    return image.getpixel((image.width // 2, image.height // 2))


def near(colour, expected, tolerance=4):
    return all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True))


def orange(mode="RGB", size=(16, 16)):
    return Image.new("RGB", size, ORANGE).convert(mode)


def without_adobe_marker(jpeg):
    """Cut the segment APP14 out of a JPEG."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4]) :]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PPM", {}),
    ],
)
def test_every_format_keeps_its_colour(kind, options):
    assert near(colour_of(to_bytes(orange(), kind, **options)), ORANGE)


@pytest.mark.parametrize(("mode", "kind"), [("P", "PNG"), ("P", "GIF"), ("P", "BMP"), ("P", "TIFF"), ("RGBA", "WEBP")])
def test_palettes_and_opaque_alpha_keep_their_colour(mode, kind):
    picture = orange().quantize(8) if mode == "P" else orange(mode)
    assert near(colour_of(to_bytes(picture, kind)), ORANGE)


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("L", "JPEG"), ("L", "TIFF"), ("LA", "PNG"), ("1", "PNG")])
def test_grey_becomes_three_equal_channels(mode, kind):
    white = Image.new("L", (8, 8), 255).convert(mode)
    assert near(colour_of(to_bytes(white, kind)), (255, 255, 255), tolerance=1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_half_transparent_red_is_pink(kind):
    data = to_bytes(
        Image.new("RGBA", (16, 16), (255, 0, 0, 128)), kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert near(colour_of(data), (255, 127, 127), tolerance=2)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palettes_transparent_colour_is_white(kind):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    assert colour_of(to_bytes(picture, kind, transparency=1)) == (255, 255, 255)


def test_of_an_animation_the_first_picture_is_taken():
    second = Image.new("RGB", (16, 16), (0, 0, 255))
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        data = to_bytes(orange(), kind, save_all=True, append_images=[second], **options)
        assert near(colour_of(data), ORANGE), kind


def test_cmyk_is_the_same_colour_whether_its_ink_is_inverted_as_adobes_or_plain():
    cmyk = Image.new("CMYK", (16, 16), (0, 200, 255, 20))
    expected = cmyk.convert("RGB").getpixel((0, 0))
    adobe = to_bytes(cmyk, "JPEG", quality=95)
    assert b"Adobe" in adobe
    plain = without_adobe_marker(to_bytes(ImageChops.invert(cmyk), "JPEG", quality=95))
    assert b"Adobe" not in plain
    for data in (adobe, plain, to_bytes(cmyk, "TIFF")):
        assert near(colour_of(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_keep_their_shades(kind):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    shades = np.asarray(decode_image(to_bytes(Image.fromarray(ramp), kind), at_least=1).image)
    assert shades[..., 1].flatten().tolist() == list(range(256))


@pytest.mark.parametrize("white", [255, 65535, 2**31 - 1])
def test_whole_numbers_of_32_bits_run_from_black_to_white(white):
    ramp = np.linspace(0, white, 256).astype(np.int32).reshape(16, 16)
    shades = np.asarray(decode_image(to_bytes(Image.fromarray(ramp), "TIFF"), at_least=1).image)[..., 0].flatten()
    assert np.abs(shades.astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e6])
def test_fractions_run_from_black_to_white_and_what_is_no_number_is_black(white):
    ramp = np.linspace(0, white, 256).astype(np.float32).reshape(16, 16)
    ramp[0, :3] = np.nan, -5.0, np.inf
    shades = np.asarray(decode_image(to_bytes(Image.fromarray(ramp), "TIFF"), at_least=1).image)[..., 0].flatten()
    assert np.abs(shades.astype(int) - np.arange(256))[3:].max() <= 1
    assert shades[:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_photo_taken_with_a_turned_camera_is_upright(kind):
    stored = Image.new("RGB", (40, 20), (0, 0, 255))
    stored.paste(ORANGE, (0, 0, 20, 20))  # the left half; turned to the right it is the upper one
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90 degrees to the right
    upright = decode_image(to_bytes(stored, kind, exif=exif), at_least=20).image
    assert upright.size == (20, 40)
    assert near(upright.getpixel((10, 5)), ORANGE, tolerance=8)
    assert near(upright.getpixel((10, 35)), (0, 0, 255), tolerance=8)


def test_an_empty_file_is_said_to_be_empty():
    with pytest.raises(ImageError, match="the file is empty"):
        decode_image(b"", at_least=1)


@pytest.mark.parametrize("size", [(1, 90_000_000), (90_000_000, 1)])
def test_a_picture_with_a_side_that_fills_the_memory_is_refused_by_its_header(size):
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header + zlib.crc32(b"IHDR" + header).to_bytes(4)
    data = b"\x89PNG\r\n\x1a\n" + len(header).to_bytes(4) + chunk + bytes(3) + b"\x01IDATx"
    with pytest.raises(ImageError, match="250,000 is the limit for a side"):
        decode_image(data, at_least=1)


@pytest.mark.parametrize("kind", ["AVIF", "DDS", "EPS", "TGA"])
def test_what_nobody_keeps_photos_in_is_no_known_format(kind):
    with pytest.raises(ImageError, match="not an image of a known format"):
        decode_image(to_bytes(orange(), kind), at_least=1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_whose_exif_is_cut_short_is_refused_in_a_sentence(kind):
    with pytest.raises(ImageError, match="the image cannot be decoded: "):
        decode_image(to_bytes(orange(), kind, exif=b"Exif\0\0II*\0"), at_least=1)


def test_large_pictures_are_decoded_one_after_the_other_and_small_ones_beside_them():
    budget, inside, most = PixelBudget(100), [], []

    def decode(pixels):
        with budget.spend(pixels):
            inside.append(pixels)
            most.append(sum(inside))
            time.sleep(0.05)
            inside.remove(pixels)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(decode, [90, 40, 10, 300] * 8))
    assert len(most) == 32
    assert set(most) <= {10, 40, 50, 90, 100, 300}  # the largest was alone
    assert 50 in most  # others were not
