"""Run a frozen backbone over packed images once; every epoch, trial and later job reads what it made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kennel.cache import Cache
from kennel.engines.torch_engine import FrozenBackbone
from kennel.errors import Stopped
from kennel.images.augment import apply_view
from kennel.images.pack import PackedImages
from kennel.images.preprocess import Preprocessing
from kennel.training.batches import ImageBatches
from kennel.training.distributed import ALONE, Processes

FILE = "features.npy"


def extract_features(
    backbone: FrozenBackbone,
    images: PackedImages,
    preprocessing: Preprocessing,
    view: str,
    cache: Cache,
    report: Callable[[int], None],
    processes: Processes = ALONE,
) -> NDArray[np.float32]:
    """Return the features of all images in one view, (N, features) float32 memory-mapped, from the cache if there.

    Several processes share the images out among them. `report` is called with the number of images seen, and may raise
    Stopped to end the work, which it then does in all of them.
    """
    key = {
        "backbone": backbone.fingerprint,
        "precision": str(backbone.precision),
        "images": images.key,
        "view": view,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }

    if processes.count == 1:

        def build(folder: Path) -> None:
            _save(folder, _run(backbone, images, preprocessing, view, range(len(images)), report))

        folder = cache.folder("features", key, build, waiting=lambda: report(0))
    else:
        if processes.any(not cache.path("features", key).is_dir()):  # on some host, so that all have to help
            joined = _run_share(backbone, images, preprocessing, view, report, processes)
            cache.folder("features", key, lambda folder: _save(folder, joined))
        folder = cache.path("features", key)
    features: NDArray[np.float32] = np.load(folder / FILE, mmap_mode="r")
    return features


def _run(
    backbone: FrozenBackbone,
    images: PackedImages,
    preprocessing: Preprocessing,
    view: str,
    rows: range,
    report: Callable[[int], None],
) -> torch.Tensor:
    """Run the rows through the backbone; the next ones are read, and normalized on the device, meanwhile."""
    some = replace(images, pixels=images.pixels[rows.start : rows.stop], labels=images.labels[rows.start : rows.stop])
    features, done = torch.empty(0), 0
    for batch in ImageBatches(some, preprocessing, "none", backbone.batch_size, backbone.device).epoch(None):
        part = backbone.run(apply_view(view, batch.inputs)).cpu()
        if not done:
            features = part.new_empty((len(rows), part.shape[1]))
        features[done : done + len(part)] = part
        done += len(part)
        report(done)
    return features


def _run_share(
    backbone: FrozenBackbone,
    images: PackedImages,
    preprocessing: Preprocessing,
    view: str,
    report: Callable[[int], None],
    processes: Processes,
) -> torch.Tensor:
    """Run this process's share of the images, and return the features of all."""
    edges = [len(images) * rank // processes.count for rank in (processes.rank, processes.rank + 1)]
    share, stopped = torch.empty(0), None
    try:
        share = _run(backbone, images, preprocessing, view, range(*edges), report)
    except Stopped as stop:
        stopped = stop
    if processes.any(stopped is not None):  # nobody waits for what will not come
        raise stopped or Stopped(f"while another process worked on the features ({view})")
    return processes.join_rows(share)


def _save(folder: Path, features: torch.Tensor) -> None:
    np.save(folder / FILE, features.numpy())
