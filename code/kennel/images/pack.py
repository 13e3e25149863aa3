"""Decode every image of a split once, into one array on disk that all later passes and jobs read."""

import csv
import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kennel.atomic import replacing, write_json
from kennel.cache import Cache
from kennel.errors import DataError, ImageError
from kennel.images.listing import ImageRecord
from kennel.images.preprocess import VERSION, Preprocessing

Progress = Callable[[int], None]  # called with how many are done, 0 while others do it; may raise to end the work

HASH_BYTES = 16  # of BLAKE2b: two different files with one hash will not be met

_READERS = 16  # files read at once: on a mount of S3 each takes long, and no core
_WAITING = 64  # images that are read or decoded ahead of the one that is written; bounds their memory


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be decoded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PackedImages:
    """The decoded images of one split, in the order of their records."""

    key: str  # equal for files of equal names, sizes and times, and equal preprocessing
    pixels: NDArray[np.uint8]  # (N, S, S, 3), memory-mapped
    labels: NDArray[np.int64]  # (N,)
    names: tuple[str, ...]  # N file names, relative to the split's folder
    hashes: NDArray[np.uint8]  # (N, HASH_BYTES) of the files' bytes
    skipped: tuple[SkippedImage, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def content(self) -> str:
        """Equal for equal files with equal labels in the same order, whenever and wherever they were written."""
        return hashlib.sha256(self.hashes.tobytes() + self.labels.tobytes()).hexdigest()


def pack_images(
    records: Sequence[ImageRecord], preprocessing: Preprocessing, cache: Cache, threads: int, progress: Progress
) -> PackedImages:
    """Return the decoded images of `records`, from the cache if they are there; else each file is read once.

    Equal names, sizes and modification times mean equal images. `threads` decode; `progress` is called with the count
    of images done. Of several processes that ask at the same moment one decodes. Raises DataError for a file that
    cannot be read.
    """
    size = preprocessing.crop
    key = {
        "version": VERSION,
        "resize": preprocessing.resize,
        "crop": size,
        "files": [(record.name, record.size, record.modified) for record in records],
    }

    def build(folder: Path) -> None:
        skipped: list[tuple[int, str]] = []
        with (
            closing(_decode_all(records, preprocessing, threads)) as images,  # an exception ends its threads
            (folder / "pixels").open("wb") as pixels,
            (folder / "hashes").open("wb") as hashes,
        ):
            for number, image in enumerate(images):
                if isinstance(image, str):
                    skipped.append((number, image))
                else:
                    pixels.write(image.pixels.tobytes())
                    hashes.write(image.hash)
                progress(number + 1)
        write_json(folder / "skipped.json", skipped)

    folder = cache.folder("packed", key, build, waiting=lambda: progress(0))
    skipped = dict(json.loads((folder / "skipped.json").read_text()))
    kept = [record for i, record in enumerate(records) if i not in skipped]
    shape = (len(kept), size, size, 3)
    pixels = np.memmap(folder / "pixels", np.uint8, "r", shape=shape) if kept else np.zeros(shape, np.uint8)
    return PackedImages(
        key=folder.name,
        pixels=pixels,
        labels=np.array([record.label for record in kept], np.int64),
        names=tuple(record.name for record in kept),
        hashes=np.fromfile(folder / "hashes", np.uint8).reshape(len(kept), HASH_BYTES),
        skipped=tuple(SkippedImage(records[i].name, reason) for i, reason in skipped.items()),
    )


@dataclass(frozen=True)
class _Decoded:
    pixels: NDArray[np.uint8]  # (S, S, 3)
    hash: bytes


def _decode_all(
    records: Sequence[ImageRecord], preprocessing: Preprocessing, threads: int
) -> Generator[_Decoded | str, None, None]:
    """Yield each image in order, or why its bytes are no picture; files are read ahead while others are decoded."""
    waiting: deque[Future[_Decoded | str]] = deque()
    with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(threads) as decoders:
        try:
            for record in records:
                data = readers.submit(_read, record.path)
                waiting.append(decoders.submit(_decode, data, preprocessing))
                if len(waiting) == _WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error, or the end of the job: what nobody waits for is not begun
            readers.shutdown(wait=False, cancel_futures=True)
            decoders.shutdown(wait=False, cancel_futures=True)


def _read(path: Path) -> bytes:
    """Return a file's bytes. Raises DataError when there are none, which may pass: it is not remembered as bad."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _decode(file: Future[bytes], preprocessing: Preprocessing) -> _Decoded | str:
    data = file.result()
    try:
        return _Decoded(preprocessing.pixels(data), hashlib.blake2b(data, digest_size=HASH_BYTES).digest())
    except ImageError as error:
        return str(error)


def check_skipped(splits: dict[str, PackedImages], max_bad_images: float, report: Path | None) -> int:
    """Write the skipped images of all splits to the CSV file `report`, where one is given, and return their number.

    Raises DataError when they are a larger share of all images than `max_bad_images`, or when a split has none left.
    """
    skipped = [(split, image) for split, packed in splits.items() for image in packed.skipped]
    if skipped and report:
        with replacing(report) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("split", "image", "reason"))
            writer.writerows((split, image.name, image.reason) for split, image in skipped)
    total = len(skipped) + sum(len(packed) for packed in splits.values())
    if len(skipped) > max_bad_images * total:
        first = "\n  ".join(f"{split}/{image.name}: {image.reason}" for split, image in skipped[:5])
        raise DataError(
            f"{len(skipped)} of {total} images are unreadable, more than max_bad_images={max_bad_images:g} allows; "
            f"the first are\n  {first}"
        )
    for split, packed in splits.items():
        if not len(packed):
            raise DataError(f"{split}: all {len(packed.skipped)} images are unreadable")
    return len(skipped)
