"""The photos whose class a person has said, as a folder to train from: one folder a class."""

import hashlib
import io
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from PIL import Image

from kennel.atomic import replacing
from kennel.errors import KennelError

# as the server reads them; endings as training finds them
_ENDINGS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tiff",
    "PPM": ".ppm",
}
_DIGITS = 20  # of the checksum that a file is named for


class CollectionError(KennelError):
    """A photo cannot be collected."""


class Collection:
    """A folder of photos by class. A photo is in it once, under the class that was said last."""

    def __init__(self, folder: Path, labels: Iterable[str]) -> None:
        """`labels` are the classes there may be; the folder is made with its first photo."""
        self.folder = folder
        self._labels = frozenset(labels)
        self._lock = threading.Lock()

    def add(self, data: bytes, label: str) -> Path:
        """Keep an image file's bytes under a class, and return the file.

        Raises CollectionError for a class that the model does not have, one that cannot be a folder's name, or bytes
        that are no image.
        """
        if label not in self._labels:
            raise CollectionError(f"the model has no class {label!r}")
        if label.startswith(".") or any(sign in label for sign in "/\\\0"):
            raise CollectionError(f"the class {label!r} cannot be the name of a folder")
        ending = _ending(data)
        name = hashlib.sha256(data).hexdigest()[:_DIGITS]
        file = self.folder / label / f"{name}{ending}"
        with self._lock:
            with replacing(file) as temporary:
                temporary.write_bytes(data)
            for other in self.folder.glob(f"*/{name}{ending}"):
                if other != file:
                    other.unlink()
                    with suppress(OSError):  # it holds others; without any, training would miss a class
                        other.parent.rmdir()
        return file


def _ending(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data), formats=list(_ENDINGS)) as image:
            # a phone's JPEG with a second picture in it is an MPO to Pillow
            return _ENDINGS["JPEG" if image.format == "MPO" else str(image.format)]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CollectionError("the bytes are not an image of a known format") from error
