"""List the folders of a split: each folder once, and each file looked at once, as slow mounts want it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kennel.errors import DataError

# as torchvision's ImageFolder, and GIF
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")

_Above = frozenset[tuple[int, int]]  # device and inode of the folders above, by which a loop of links is known


@dataclass(frozen=True)
class ImageRecord:
    """One image file."""

    path: Path
    name: str  # relative to the split's folder: `003.Border_terrier/1.jpg`
    label: int  # index of its class
    size: int  # bytes
    modified: int  # nanoseconds since 1970


@dataclass(frozen=True)
class SplitFolder:
    """What lies directly in the folder of a split; hidden files and folders are passed over."""

    path: Path
    classes: tuple[str, ...]  # the names of its folders, sorted
    strays: tuple[str, ...]  # the names of the images beside them, sorted


def list_split(folder: Path) -> SplitFolder:
    """List the class folders of a split. Raises DataError for a name that is no text, or a link that leads nowhere."""
    classes, strays = [], []
    for entry in _entries(folder):
        with readable(entry.path):
            if entry.is_dir():
                classes.append(entry.name)
            elif _is_image(entry.name):
                strays.append(entry.name)
            elif entry.is_symlink():
                entry.stat()  # a class folder that is not there would silently be a class less
    return SplitFolder(folder, tuple(classes), tuple(strays))


def list_class(split: Path, name: str, label: int) -> list[ImageRecord]:
    """List the images of the class folder `name` and of the folders below it, in the order of their names.

    Raises DataError for a file that cannot be read, a name that is no text, a folder with the name of an image, or a
    folder that holds itself.
    """
    with readable(str(split / name)):
        status = (split / name).stat()
    return _list_below(split, split / name, label, frozenset({(status.st_dev, status.st_ino)}))


def _list_below(split: Path, folder: Path, label: int, above: _Above) -> list[ImageRecord]:
    records = []
    for entry in _entries(folder):
        path = Path(entry.path)
        with readable(entry.path):
            is_folder = entry.is_dir()
            if not is_folder and not _is_image(entry.name):
                if entry.is_symlink():
                    entry.stat()  # a folder that is not there would silently be some images less
                continue
            status = entry.stat()
        if not is_folder:
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path} has the name of an image and is no file; remove or rename it")
            records.append(
                ImageRecord(path, path.relative_to(split).as_posix(), label, status.st_size, status.st_mtime_ns)
            )
        elif _is_image(entry.name):
            raise DataError(f"{path} has the name of an image and is a folder; rename it, or move its files")
        elif (identity := (status.st_dev, status.st_ino)) in above:
            raise DataError(f"{path} is a link to a folder above it, so its images have no end; remove it")
        else:
            records += _list_below(split, path, label, above | {identity})
    return records


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not hidden, sorted by name."""
    with readable(str(folder)), os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{entry.path!r}: the name is not UTF-8; rename it") from None
    return entries


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn what the system says of a file or folder into a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
