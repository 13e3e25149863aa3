"""Find the images of a data set: which files there are, in which split, of which class."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kennel.errors import DataError
from kennel.images.listing import EXTENSIONS, ImageRecord, SplitFolder, list_class, list_split, readable

SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation", "val"), "test": ("test",)}

_LISTERS = 16  # class folders listed at once: on a mount of S3 each takes long, and no core


@dataclass(frozen=True)
class ImageIndex:
    """The images of each split. Classes are in the order of their folders' names, as in torchvision's ImageFolder."""

    classes: tuple[str, ...]
    train: tuple[ImageRecord, ...]
    valid: tuple[ImageRecord, ...]  # none where there is no such split
    test: tuple[ImageRecord, ...]  # as above
    warnings: tuple[str, ...] = ()  # sentences: what training goes on without


def index_images(channels: Mapping[str, Path]) -> ImageIndex:
    """List the images of all splits.

    `channels` maps SageMaker channel names to folders: either `training`, which holds the folders `train`, `valid` and
    `test`, or one channel a split. Each split holds one folder a class. `valid` and `test` may be missing; `training`
    may itself hold the class folders, and then is the split `train`. Raises DataError for what is missing, empty or in
    the wrong place, and for files that cannot be read.
    """
    places = _split_places(channels)
    folders = {split: list_split(place) for split, place in places.items()}
    is_flat = places["train"] == channels.get("training")
    if is_flat and len(folders["train"].classes) < 2:
        raise _no_train_split(channels)
    classes = _checked_classes(folders)
    records = _list_all(folders, classes)
    if is_flat and not any(record.name.count("/") == 1 for record in records["train"]):
        raise _no_train_split(channels)  # its images are deeper, as in training/dogImages/train/terrier/1.jpg
    for split, folder in folders.items():
        if not records[split]:
            raise DataError(f"{split} ({folder.path}) has no image: files should end in {', '.join(EXTENSIONS)}")
    if empty := _lacking(classes, records["train"]):
        raise DataError(f"classes without a single training image: {_some(empty)}; add images or remove the folders")
    valid, test = (tuple(records.get(split, ())) for split in ("valid", "test"))
    warnings = (*_unused_folders(channels, places), *_warnings(classes, folders, records))
    return ImageIndex(classes, tuple(records["train"]), valid, test, warnings)


def _split_places(channels: Mapping[str, Path]) -> dict[str, Path]:
    """Find the folder of each split, among the channels first, then inside the channel `training`, or that itself."""
    training = channels.get("training")
    places: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        inside = [training / name for name in names] if training is not None else []
        for place in (*(channels[name] for name in names if name in channels), *inside):
            with readable(str(place)):
                if place.is_dir():
                    places.setdefault(split, place)
    if "train" not in places:
        if training is None or not training.is_dir() or any(place.parent == training for place in places.values()):
            raise _no_train_split(channels)
        places = {"train": training, **places}
    return places


def _no_train_split(channels: Mapping[str, Path]) -> DataError:
    if not channels:
        return DataError(
            "there is no data: give a channel `training` with the folders train, valid and test, or one each"
        )
    if "training" not in channels:
        return DataError(f"no `train` split: there is no channel train; the channels are {_some(sorted(channels))}")
    training = channels["training"]
    with readable(str(training)):
        inside = sorted(entry.name for entry in training.iterdir()) if training.is_dir() else []
    return DataError(
        f"no `train` split: the channel `training` ({training}) has neither a folder train nor two or more class "
        f"folders with images; it has {_some(inside)}"
    )


def _checked_classes(folders: Mapping[str, SplitFolder]) -> tuple[str, ...]:
    """Return the classes of train. Raises DataError when those of the splits make no data set."""
    for split, folder in folders.items():
        if not folder.classes:
            raise DataError(
                f"{split} ({folder.path}) has no class folders; it should hold one folder a class, with its images"
            )
    train = folders["train"]
    if set(train.classes) <= {name for names in SPLIT_NAMES.values() for name in names}:
        raise DataError(
            f"train ({train.path}) holds the folders {_some(train.classes)}, which are splits and not classes; "
            "give it as the channel `training`"
        )
    if len(train.classes) < 2:
        raise DataError(f"train has 1 class folder, {train.classes[0]} ({train.path}); a classifier needs two or more")
    for split, folder in folders.items():
        if extra := sorted(set(folder.classes) - set(train.classes)):
            raise DataError(f"{split} has classes that train lacks: {_some(extra)}; add them to train or remove them")
    return train.classes


def _list_all(folders: Mapping[str, SplitFolder], classes: tuple[str, ...]) -> dict[str, list[ImageRecord]]:
    """List the class folders of all splits, several at once; the order is that of splits, classes and names."""
    work = [
        (split, folder.path, name, label)
        for split, folder in folders.items()
        for label, name in enumerate(classes)
        if name in folder.classes
    ]
    records: dict[str, list[ImageRecord]] = {split: [] for split in folders}
    with ThreadPoolExecutor(_LISTERS) as pool:
        for (split, *_), found in zip(work, pool.map(lambda item: list_class(*item[1:]), work), strict=True):
            records[split] += found
    return records


def _unused_folders(channels: Mapping[str, Path], places: Mapping[str, Path]) -> Iterator[str]:
    """Yield a warning where folders beside the splits are none, as a misspelt `vaild` is."""
    training = channels.get("training")
    used = {place.name for place in places.values() if place.parent == training}
    if training is not None and used:
        unused = sorted(set(list_split(training).classes) - used)
        if unused:
            yield f"the channel `training` has folders that are no splits and are left out: {_some(unused)}"


def _warnings(
    classes: tuple[str, ...], folders: Mapping[str, SplitFolder], records: Mapping[str, Sequence[ImageRecord]]
) -> Iterator[str]:
    for split, folder in folders.items():
        if folder.strays:
            yield f"{split}: {len(folder.strays)} images beside the class folders are left out: {_some(folder.strays)}"
        if lacking := _lacking(classes, records[split]):
            yield f"{split} has no image of {len(lacking)} of {len(classes)} classes: {_some(lacking)}"


def _lacking(classes: tuple[str, ...], records: Sequence[ImageRecord]) -> list[str]:
    """Return the names of the classes that have no record."""
    labels = {record.label for record in records}
    return [name for label, name in enumerate(classes) if label not in labels]


def _some(names: Sequence[str]) -> str:
    """Return the first five names in words."""
    if not names:
        return "nothing"
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest
