"""The images of a job: found, decoded once, and described in the log."""

import logging

import numpy as np
from numpy.typing import NDArray

from kennel.cache import Cache
from kennel.hyperparameters import Hyperparameters
from kennel.images.index import index_images
from kennel.images.pack import PackedImages, check_skipped, pack_images
from kennel.images.preprocess import Preprocessing
from kennel.machine import available_cores
from kennel.training.distributed import Processes
from kennel.training.job import Job
from kennel.training.progress import StopSignal, reporter

log = logging.getLogger(__name__)


class DataSet:
    """The images of all splits; each size is decoded once."""

    def __init__(self, job: Job, cache: Cache, stop: StopSignal, processes: Processes) -> None:
        """Look at the folders. Raises DataError when they hold no data set."""
        self._job = job
        self._cache = cache
        self._stop = stop
        self._processes = processes
        self._index = index_images(job.channels)
        self._images: dict[int, dict[str, PackedImages]] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of labels."""
        return self._index.classes

    def preprocessing(self, hp: Hyperparameters) -> Preprocessing:
        """Return how images become what the network sees."""
        return Preprocessing.for_size(hp.image_size)

    def class_weights(self, hp: Hyperparameters) -> NDArray[np.float32] | None:
        """Return what each class counts in the loss; None when they count alike."""
        return None

    def images(self, hp: Hyperparameters) -> dict[str, PackedImages]:
        """Return the decoded images of each split: `train`, `valid` and `test`."""
        if hp.image_size not in self._images:
            preprocessing = Preprocessing.for_size(hp.image_size)
            threads = hp.num_workers or available_cores()
            images = {}
            splits = {"train": self._index.train, "valid": self._index.valid, "test": self._index.test}
            for split, records in splits.items():
                report = reporter("decode", split, len(records), self._stop)
                images[split] = pack_images(records, preprocessing, self._cache, threads, report)
            skipped = check_skipped(images, hp.max_bad_images, self._job.output_dir / "skipped_images.csv")
            counts = "; ".join(f"{split}={len(packed)}" for split, packed in images.items())
            log.info("images classes=%d; %s; skipped=%d;", len(self._index.classes), counts, skipped)
            self._images[hp.image_size] = images
        return self._images[hp.image_size]
