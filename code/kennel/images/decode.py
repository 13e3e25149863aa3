"""Turn the bytes of an image file into RGB pixels."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kennel.errors import ImageError

MAX_PIXELS = 100_000_000  # a few bytes can claim to be a picture that fills the memory

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before anything is decoded


def decode_image(data: bytes, at_least: int) -> Image.Image:
    """Return the picture upright, in RGB, with transparency laid over white.

    A JPEG much larger than needed is decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps
    `at_least` pixels. Raises ImageError when the bytes are no image, are cut short, or hold over 100 megapixels.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"the image has {width} x {height} pixels; {MAX_PIXELS:,} in all is the limit")
            image.draft(None, (at_least, at_least))
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ImageError("the bytes are not an image of a known format") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's readers raise on damaged files
        raise ImageError(f"the image cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow itself would cut 16 bits off at 255
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    background = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(background, layer).convert("RGB")
