"""What a load test sends: the user's files, or a picture that is made up."""

import io
import math
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from kennel.errors import DataError
from kennel_cli.prediction.answers import IMAGE

MOST = 500  # files of a folder that are sent, in turn; more would only fill the memory
SIZE = (500, 375)  # of the made-up picture: what photos on the web often have
KINDS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".npy": "application/x-npy",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
}
_QUALITY = 47  # of the made-up picture: 35 KB


@dataclass(frozen=True)
class Body:
    """The body of a request."""

    data: bytes
    content_type: str


def read_bodies(path: Path | None, content_type: str | None = None) -> tuple[Body, ...]:
    """Return the bodies in a file, or in a folder and those below it; without a `path`, one made-up JPEG.

    Of a large folder 500 files are taken, evenly. A file's ending says its type, unless `content_type` does. Raises
    DataError when there is nothing to send.
    """
    if path is None:
        return (Body(photo(), content_type or "image/jpeg"),)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        if content_type is None:
            files = [file for file in files if file.suffix.lower() in KINDS]
        files = files[:: math.ceil(len(files) / MOST) or 1]
    else:
        raise DataError(f"there is no picture or folder {path}")
    if not files:
        raise DataError(f"there is nothing to send in {path}; it should hold files that end in {', '.join(KINDS)}")
    return tuple(Body(file.read_bytes(), content_type or KINDS.get(file.suffix.lower(), IMAGE)) for file in files)


def photo() -> bytes:
    """Return a JPEG of 500x375 and some 35 KB, always the same: noise as rough as a photo is on every scale."""
    draw = random.Random(0)

    def noise(finest: int) -> Image.Image:
        """Return grey noise that is as strong at a period of 250 pixels as at half of it, and so on to `finest`."""
        mixed = Image.new("L", SIZE, 128)
        for octave in range(1, finest):
            cells = (2**octave, 2**octave * 3 // 4)
            layer = Image.frombytes("L", cells, draw.randbytes(cells[0] * cells[1]))
            mixed = Image.blend(mixed, layer.resize(SIZE, Image.Resampling.BICUBIC), 1 / (octave + 1))
        return ImageOps.autocontrast(mixed, cutoff=1)

    picture = Image.merge("YCbCr", (noise(9), noise(4), noise(4)))  # light has more detail than colour
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
