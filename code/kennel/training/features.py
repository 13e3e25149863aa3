"""Run a frozen backbone over packed images once; every epoch, trial and later job reads what it made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kennel.cache import Cache
from kennel.engines.torch_engine import BATCH, FrozenBackbone
from kennel.images.augment import apply_view
from kennel.images.pack import PackedImages
from kennel.images.preprocess import Preprocessing


def extract_features(
    backbone: FrozenBackbone,
    images: PackedImages,
    preprocessing: Preprocessing,
    view: str,
    cache: Cache,
    report: Callable[[int], None],
) -> NDArray[np.float32]:
    """Return the features of all images in one view, (N, features) float32 memory-mapped, from the cache if there.

    `report` is called with the number of images seen, and may raise to end the work.
    """
    key = {
        "backbone": backbone.fingerprint,
        "precision": str(backbone.precision),
        "images": images.key,
        "view": view,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }

    def build(folder: Path) -> None:
        parts = []
        for start in range(0, len(images), BATCH):
            pixels = apply_view(view, images.pixels[start : start + BATCH])
            parts.append(backbone.features(preprocessing.normalize(pixels)).cpu())
            report(min(start + BATCH, len(images)))
        np.save(folder / "features.npy", torch.cat(parts).numpy())

    folder = cache.folder("features", key, build, waiting=lambda: report(0))
    features: NDArray[np.float32] = np.load(folder / "features.npy", mmap_mode="r")
    return features
