"""The images of a job: found, decoded once, looked through for mistakes, and described in the log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kennel.atomic import write_json
from kennel.cache import Cache
from kennel.errors import DataError
from kennel.hyperparameters import Hyperparameters
from kennel.images.duplicates import Duplicates, find_duplicates
from kennel.images.holdout import hold_out
from kennel.images.index import index_images
from kennel.images.listing import ImageRecord
from kennel.images.pack import PackedImages, check_skipped, pack_images
from kennel.images.preprocess import Preprocessing
from kennel.images.statistics import ChannelStatistics
from kennel.images.summary import HeldOut, class_counts, describe_data
from kennel.machine import share_of_cores
from kennel.training.distributed import Processes
from kennel.training.job import Job
from kennel.training.progress import StopSignal, reporter

IMBALANCE = 10  # times as many images in the largest class as in the smallest: more is said in a warning

Adapt = Callable[[Hyperparameters, Preprocessing], Preprocessing]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # one is equal to itself alone: arrays are not to be compared
class _Loaded:
    """The decoded images, and what was found in them."""

    splits: dict[str, PackedImages]
    held_out: HeldOut | None
    duplicates: Duplicates
    warnings: tuple[str, ...]


class DataSet:
    """The images of all splits; each size is decoded once."""

    def __init__(
        self, job: Job, cache: Cache, stop: StopSignal, processes: Processes, adapt: Adapt = lambda hp, own: own
    ) -> None:
        """Look at the folders; `adapt` returns what an earlier model makes of this data set's preprocessing.

        Raises DataError when they hold no data set.
        """
        self._job = job
        self._cache = cache
        self._stop = stop
        self._processes = processes
        self._adapt = adapt
        self._index = index_images(job.channels)
        missing = () if self._index.test else ("there is no test split: the model will be saved untested",)
        self._warnings = (*self._index.warnings, *missing)
        for warning in self._warnings:
            log.warning(warning)
        self._loaded: dict[tuple[int, int | None], _Loaded] = {}
        self._statistics: dict[str, ChannelStatistics] = {}
        self._described: tuple[_Loaded, Preprocessing] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of labels."""
        return self._index.classes

    def preprocessing(self, hp: Hyperparameters) -> Preprocessing:
        """Return how images become what the network sees; the data set's own statistics need its images decoded."""
        plain = Preprocessing.for_size(hp.image_size)
        if not hp.dataset_statistics:
            return self._adapt(hp, plain)
        statistics = self._channel_statistics(self._load(hp).splits["train"])
        return self._adapt(hp, replace(plain, mean=statistics.mean, std=statistics.std))

    def images(self, hp: Hyperparameters) -> dict[str, PackedImages]:
        """Return the decoded images of each split: `train`, `valid` and, where there is one, `test`.

        Without a split `valid`, a part of `train` is held out by the seed. Raises DataError when too many images are
        unreadable, or all of a class.
        """
        loaded = self._load(hp)
        self._describe(loaded, self.preprocessing(hp))
        return loaded.splits

    def class_weights(self, hp: Hyperparameters) -> NDArray[np.float32] | None:
        """Return what an image of each class weighs in the loss, (classes,), on average 1 an image; None is 1 for all.

        `balanced` is scikit-learn's: all images, by the number of classes times the images of the class.
        """
        if hp.class_weights == "none":
            return None
        counts = class_counts(self._load(hp).splits["train"], self.classes)
        weights: NDArray[np.float32] = (counts.sum() / (len(counts) * counts)).astype(np.float32)
        return weights

    def _load(self, hp: Hyperparameters) -> _Loaded:
        key = (hp.image_size, None if self._index.valid else hp.seed)
        if key not in self._loaded:
            self._loaded[key] = self._decode(hp)
        return self._loaded[key]

    def _decode(self, hp: Hyperparameters) -> _Loaded:
        records, held_out = self._records(hp.seed)
        preprocessing = Preprocessing.for_size(hp.image_size)
        threads = hp.num_workers or share_of_cores(self._processes.local_count)
        splits = {}
        for split, files in records.items():
            report = reporter("decode", split, len(files), self._stop)
            splits[split] = pack_images(files, preprocessing, self._cache, threads, report)
        report_file = self._job.output_dir / "skipped_images.csv" if self._processes.is_main else None
        skipped = check_skipped(splits, hp.max_bad_images, report_file)
        counts = "; ".join(f"{split}={len(packed)}" for split, packed in splits.items())
        log.info("images classes=%d; %s; skipped=%d;", len(self.classes), counts, skipped)
        folders = {split: "train" if held_out and split == "valid" else split for split in splits}
        duplicates = find_duplicates(splits, folders)
        warnings = (*duplicates.sentences(), *self._balance(splits["train"]))
        for warning in warnings:
            log.warning(warning)
        return _Loaded(splits, held_out, duplicates, warnings)

    def _records(self, seed: int) -> tuple[dict[str, tuple[ImageRecord, ...]], HeldOut | None]:
        """Return the files of each split there is, and what was held out of train for a missing valid split."""
        index = self._index
        train, valid, held_out = index.train, index.valid, None
        if not valid:
            train, valid = hold_out(index.train, seed)
            if not valid:
                raise DataError(
                    "there is no valid split, and every class of train has a single image: none can be held out"
                )
            held_out = HeldOut(images=len(valid), of=len(index.train), seed=seed)
            log.info("there is no valid split: held_out=%d; of=%d; seed=%d;", len(valid), len(index.train), seed)
        records = {"train": train, "valid": valid, "test": index.test}
        return {split: files for split, files in records.items() if files}, held_out

    def _balance(self, train: PackedImages) -> list[str]:
        """Log the smallest and the largest class; return a warning where they are far apart."""
        counts = class_counts(train, self.classes)
        few, many = int(counts.argmin()), int(counts.argmax())
        if not counts[few]:
            raise DataError(f"train: all images of the class {self.classes[few]} are unreadable")
        smallest, largest = self.classes[few], self.classes[many]
        log.info("balance smallest=%d; class=%s; largest=%d; class=%s;", counts[few], smallest, counts[many], largest)
        if counts[many] <= IMBALANCE * counts[few]:
            return []
        return [
            f"imbalance: {largest} has {counts[many]} training images and {smallest} has {counts[few]}; "
            "class_weights=balanced lets them count alike"
        ]

    def _channel_statistics(self, train: PackedImages) -> ChannelStatistics:
        if train.key not in self._statistics:
            statistics = ChannelStatistics.of(train.pixels)
            mean, std = (",".join(f"{value:.4f}" for value in values) for values in (statistics.mean, statistics.std))
            log.info("statistics mean=%s; std=%s;", mean, std)
            self._statistics[train.key] = statistics
        return self._statistics[train.key]

    def _describe(self, loaded: _Loaded, preprocessing: Preprocessing) -> None:
        """Write `data.json`, for the images that were asked for last."""
        if self._processes.is_main and self._described != (loaded, preprocessing):
            warnings = (*self._warnings, *loaded.warnings)
            data = describe_data(
                self.classes, loaded.splits, loaded.held_out, loaded.duplicates, preprocessing, warnings
            )
            write_json(self._job.output_dir / "data.json", data)
            self._described = loaded, preprocessing
