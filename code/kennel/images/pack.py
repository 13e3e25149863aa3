"""Decode every image of a split once, into one array on disk that all later passes and jobs read."""

import csv
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kennel.atomic import replacing, write_json
from kennel.cache import Cache
from kennel.errors import DataError, ImageError
from kennel.images.index import ImageRecord
from kennel.images.preprocess import Preprocessing

Progress = Callable[[int], None]  # called with how many are done, 0 while others do it; may raise to end the work

_CHUNK = 128  # images decoded between two reports; bounds the memory that decoded images wait in


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be decoded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PackedImages:
    """The decoded images of one split, in the order of their records."""

    key: str  # equal for equal files and equal preprocessing
    pixels: NDArray[np.uint8]  # (N, S, S, 3), memory-mapped
    labels: NDArray[np.int64]  # (N,)
    names: tuple[str, ...]  # N file names, relative to the split's folder
    skipped: tuple[SkippedImage, ...]

    def __len__(self) -> int:
        return len(self.labels)


def pack_images(
    records: Sequence[ImageRecord], preprocessing: Preprocessing, cache: Cache, threads: int, progress: Progress
) -> PackedImages:
    """Return the decoded images of `records`, from the cache if they are there.

    Equal names, sizes and modification times mean equal images. `progress` is called with the count of images done.
    """
    size = preprocessing.crop
    key = {
        "resize": preprocessing.resize,
        "crop": size,
        "files": [(record.name, record.size, record.modified) for record in records],
    }

    def build(folder: Path) -> None:
        skipped: list[tuple[int, str]] = []
        with (folder / "pixels").open("wb") as file, ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(records), _CHUNK):
                chunk = records[start : start + _CHUNK]
                for offset, result in enumerate(pool.map(lambda r: _decode(r, preprocessing), chunk)):
                    if isinstance(result, str):
                        skipped.append((start + offset, result))
                    else:
                        file.write(result.tobytes())
                progress(start + len(chunk))
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
        skipped=tuple(SkippedImage(records[i].name, reason) for i, reason in skipped.items()),
    )


def _decode(record: ImageRecord, preprocessing: Preprocessing) -> NDArray[np.uint8] | str:
    """Return the pixels, or why these bytes are no picture. Raises DataError when there are no bytes: that may pass."""
    try:
        data = record.path.read_bytes()
    except OSError as error:
        raise DataError(f"{record.path} cannot be read: {error.strerror}") from error
    try:
        return preprocessing.pixels(data)
    except ImageError as error:
        return str(error)


def check_skipped(splits: dict[str, PackedImages], max_bad_images: float, report: Path) -> int:
    """Write the skipped images of all splits to the CSV file `report`, and return their number.

    Raises DataError when they are a larger share of all images than `max_bad_images`, or when a split has none left.
    """
    skipped = [(split, image) for split, packed in splits.items() for image in packed.skipped]
    if skipped:
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
