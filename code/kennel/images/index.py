"""Find the images of a data set: which files there are, in which split, of which class."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kennel.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision's ImageFolder
SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation", "val"), "test": ("test",)}


@dataclass(frozen=True)
class ImageRecord:
    """One image file."""

    path: Path
    name: str  # relative to the split's folder: `003.Border_terrier/1.jpg`
    label: int  # index of its class
    size: int  # bytes
    modified: int  # nanoseconds since 1970


@dataclass(frozen=True)
class ImageIndex:
    """The images of each split. Classes are in the order of their folders' names, as in torchvision's ImageFolder."""

    classes: tuple[str, ...]
    train: tuple[ImageRecord, ...]
    valid: tuple[ImageRecord, ...]
    test: tuple[ImageRecord, ...]


def index_images(channels: Mapping[str, Path]) -> ImageIndex:
    """List the images of all splits.

    `channels` maps SageMaker channel names to folders: either `training`, which holds the folders `train`, `valid` and
    `test`, or one channel a split. Each split holds one folder a class. Raises DataError for whatever is missing,
    empty or in the wrong place.
    """
    folders = _split_folders(channels)
    classes = _class_names(folders["train"], "train")
    if len(classes) < 2:
        raise DataError(f"train has {len(classes)} class folder ({folders['train']}); a classifier needs two or more")
    for split in ("valid", "test"):
        extra = sorted(set(_class_names(folders[split], split)) - set(classes))
        if extra:
            raise DataError(f"{split} has classes that train lacks: {_some(extra)}; add them to train or remove them")
    records = {split: _list_split(split, folder, classes) for split, folder in folders.items()}
    empty = sorted(set(range(len(classes))) - {record.label for record in records["train"]})
    if empty:
        raise DataError(f"classes without a single training image: {_some([classes[i] for i in empty])}")
    return ImageIndex(classes, records["train"], records["valid"], records["test"])


def _split_folders(channels: Mapping[str, Path]) -> dict[str, Path]:
    """Find the folder of each split, among the channels first, then inside the channel `training`."""
    training = channels.get("training")
    folders: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        places = [channels[name] for name in names if name in channels]
        if training is not None:
            places += [training / name for name in names]
        found = [place for place in places if place.is_dir()]
        if not found:
            raise DataError(_missing_split(split, names, channels))
        folders[split] = found[0]
    return folders


def _missing_split(split: str, names: tuple[str, ...], channels: Mapping[str, Path]) -> str:
    wanted = " or ".join(names)
    if not channels:
        return "there is no data: give a channel `training` with the folders train, valid and test, or one channel each"
    if "training" in channels:
        training = channels["training"]
        inside = sorted(entry.name for entry in training.iterdir()) if training.is_dir() else []
        return f"no `{split}` split: the channel `training` ({training}) has no folder {wanted}; it has {_some(inside)}"
    return f"no `{split}` split: there is no channel {wanted}; the channels are {_some(sorted(channels))}"


def _class_names(folder: Path, split: str) -> tuple[str, ...]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{split} ({folder}) has no class folders; it should hold one folder a class, with its images")
    return tuple(names)


def _list_split(split: str, folder: Path, classes: tuple[str, ...]) -> tuple[ImageRecord, ...]:
    records: list[ImageRecord] = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            records += _list_class(folder, folder / name, label)
    if not records:
        raise DataError(f"{split} ({folder}) has no image: files should end in {', '.join(EXTENSIONS)}")
    return tuple(records)


def _list_class(root: Path, folder: Path, label: int) -> list[ImageRecord]:
    """List a class folder and the folders below it, each read once, sorted by name."""
    records = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_dir():
            records += _list_class(root, path, label)
        elif path.suffix.lower() in EXTENSIONS:
            status = _stat(entry)
            name = path.relative_to(root).as_posix()
            records.append(ImageRecord(path, name, label, status.st_size, status.st_mtime_ns))
    return records


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        entry.path.encode()
        return entry.stat()
    except UnicodeEncodeError:
        raise DataError(f"{entry.path!r}: the name is not UTF-8; rename the file") from None
    except OSError as error:
        raise DataError(f"{entry.path} cannot be read: {error.strerror}") from error


def _some(names: list[str]) -> str:
    """Return the first five names in words."""
    if not names:
        return "nothing"
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest
