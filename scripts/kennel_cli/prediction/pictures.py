"""From whatever holds a picture to the bytes of an image file."""

import io
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageOps

from kennel.atomic import replacing
from kennel.errors import DataError

Picture: TypeAlias = "str | PathLike[str] | bytes | bytearray | memoryview | Image.Image | Any"  # Any: a numpy array

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_DEEP = ("I", "F", "I;16B")
_MOST_PIXELS = 2_000_000  # that are sent without loss: as PNG they may take 6 MB, and an endpoint does not take much


def picture_bytes(picture: Picture) -> bytes:
    """Return an image file's bytes: those of a path or given ones as they are, pixels as a new file.

    Pixels are sent as PNG, from 2 megapixels on as JPEG of quality 95. Raises DataError when there is no such file, or
    for what holds no picture.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | PathLike):
        if not Path(picture).is_file():
            raise DataError(f"there is no picture {picture}")
        return Path(picture).read_bytes()
    return _encode(picture if isinstance(picture, Image.Image) else _from_array(picture))


def picture_name(picture: Picture) -> str:
    """Return what messages call a picture: its path; "" for one that is no file."""
    return str(picture) if isinstance(picture, str | PathLike) else ""


def save_picture(image: Image.Image, file: Path) -> None:
    """Save a picture in the format that the file's ending names. Raises DataError for one that names none."""
    kind = Image.registered_extensions().get(file.suffix.lower())
    if kind not in Image.SAVE:
        raise DataError(f"{file} does not end in the name of a format; call it .png, .jpg or .webp")
    with replacing(file) as temporary:
        image.save(temporary, kind)


def _from_array(array: Any) -> Image.Image:
    described = getattr(array, "__array_interface__", None)
    if described is None:
        raise DataError(
            f"{type(array).__name__} is no picture; give a path, a file's bytes, a PIL image or a numpy array"
        )
    shape, kind = described["shape"], described["typestr"]
    if len(shape) != 3 or shape[2] != 3 or not shape[0] or not shape[1] or kind != "|u1":
        is_bytes = "uint8" if kind == "|u1" else kind.lstrip("<>|=")
        raise DataError(
            f"the array is {'×'.join(map(str, shape)) or 'a single number'} of {is_bytes}; "
            "it should be height×width×3 of uint8, in the order red, green, blue"
        )
    return Image.fromarray(array)


def _encode(image: Image.Image) -> bytes:
    """Return the file of an image as it should be seen: Pillow leaves it to others to turn what its EXIF data says."""
    upright = ImageOps.exif_transpose(image)
    file = io.BytesIO()
    if upright.mode in _DEEP:
        upright.save(file, "TIFF")  # PNG would cut bits off, and does not know the last
    elif upright.width * upright.height > _MOST_PIXELS and not upright.has_transparency_data and upright.mode != "I;16":
        upright.convert("RGB").save(file, "JPEG", quality=95, subsampling=0)
    else:
        (upright if upright.mode in _PNG_MODES else upright.convert("RGB")).save(file, "PNG", compress_level=1)
    return file.getvalue()
