"""Turn the bytes of an image file into RGB pixels."""

import io
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from kennel.errors import ImageError
from kennel.images.budget import PixelBudget
from kennel.machine import available_cores

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # Pillow's readers of others run programs, or break
MAX_PIXELS = 100_000_000  # a few bytes can claim to be a picture that fills the memory
MAX_SIDE = 250_000  # each row takes memory, however short it is

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before anything is decoded

# a pixel takes 16 bytes on its way, with transparency; more at once would be no quicker: a large photo a core
_decoding = PixelBudget(max(32_000_000, available_cores() * 12_000_000))

_MAY_BE_TURNED = (b"Exif\0\0", b"tiff:Orientation")  # what a JPEG holds that says which side is up


@dataclass(frozen=True)
class Picture:
    """A decoded picture, which may be smaller than the file says."""

    image: Image.Image  # upright, RGB
    width: int  # pixels in the file, upright: decoded at 1/4, the image is a fourth of it, rounded up
    height: int


def decode_image(data: bytes, at_least: int) -> Picture:
    """Return the picture upright, in RGB, with transparency laid over white; of an animation, the first picture.

    A JPEG much larger than needed is decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps
    `at_least` pixels. Raises ImageError when the bytes are no image, are cut short, or hold over 100 megapixels.
    """
    if not data:
        raise ImageError("the file is empty")
    if (plain := _plain_jpeg(data, at_least)) is not None:
        return plain
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if max(width, height) > MAX_SIDE:
                raise ImageError(f"the image has {width} x {height} pixels; {MAX_SIDE:,} is the limit for a side")
            if width * height > MAX_PIXELS:
                raise ImageError(f"the image has {width} x {height} pixels; {MAX_PIXELS:,} in all is the limit")
            image.draft(None, (at_least, at_least))
            plain_cmyk = image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info
            lying = image.size
            with _decoding.spend(image.width * image.height):
                ImageOps.exif_transpose(image, in_place=True)  # a copy would be as large
                if image.size != lying:  # it lay on its side
                    width, height = height, width
                # Pillow takes every CMYK JPEG for one of Adobe's, which hold ink inverted; their marker tells
                return Picture(_to_rgb(ImageChops.invert(image) if plain_cmyk else image), width, height)
    except UnidentifiedImageError:
        raise ImageError("the bytes are not an image of a known format") from None
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise all sorts of errors on damaged files
        raise ImageError(f"the image cannot be decoded: {str(error) or type(error).__name__}") from error


def _plain_jpeg(data: bytes, at_least: int) -> Picture | None:
    """Return the picture of the usual JPEG, in colour and the right way up; None for all others.

    libjpeg-turbo makes the same pixels for Pillow, which takes longer over it. None is the answer to whatever is
    unusual or damaged too: Pillow has the last word, and a sentence for each fault.
    """
    if not data.startswith(b"\xff\xd8") or any(mark in data for mark in _MAY_BE_TURNED):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours != "YCbCr" or width * height > MAX_PIXELS:
            return None
        part = next((part for part in (8, 4, 2) if min(width, height) // part >= at_least), 1)
        # without least sizes the picture is not made smaller; rounded up as libjpeg does
        least = {"min_height": -(-height // part), "min_width": -(-width // part)} if part > 1 else {}
        with _decoding.spend(width * height // part**2):
            return Picture(Image.fromarray(simplejpeg.decode_jpeg(data, **least)), width, height)
    except ValueError:
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow itself would cut 16 bits off at 255
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_shades(np.asarray(image, np.float32))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    background = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(background, layer).convert("RGB")


def _shades(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return grey values of 32 bits as uint8.

    Such files do not say which value is white: it is the first of 1 (of fractions only), 255, 65535 and the largest
    value itself that no value exceeds. What is negative or no number is black.
    """
    values = np.maximum(np.nan_to_num(values, posinf=0.0), 0.0)
    peak = float(values.max())
    scales = (255.0, 65535.0, peak) if (values == values.round()).all() else (1.0, 255.0, 65535.0, peak)
    white = next(scale for scale in scales if peak <= scale)
    return (values * (255 / white)).round().astype(np.uint8)
