"""What `data.json` says of a data set: how many images there are of what, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kennel.images.duplicates import Duplicates, Pair
from kennel.images.pack import PackedImages
from kennel.images.preprocess import Preprocessing

_EXAMPLES = 20  # pairs of equal images that are written down


@dataclass(frozen=True)
class HeldOut:
    """The images of train that stand in for a missing valid split."""

    images: int
    of: int  # images of train before
    seed: int


def class_counts(images: PackedImages, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return how many images each class has, (classes,)."""
    counts: NDArray[np.int64] = np.bincount(images.labels, minlength=len(classes))
    return counts


def describe_data(
    classes: Sequence[str],
    splits: Mapping[str, PackedImages],
    held_out: HeldOut | None,
    duplicates: Duplicates,
    preprocessing: Preprocessing,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Return the content of `data.json`."""
    return {
        "classes": list(classes),
        "splits": {
            split: {
                "images": len(images),
                "skipped": len(images.skipped),
                "classes": dict(zip(classes, class_counts(images, classes).tolist(), strict=True)),
            }
            for split, images in splits.items()
        },
        "held_out": None if held_out is None else asdict(held_out),
        "leaks": [
            {"split": split, "other": other, **_pairs(pairs)} for (split, other), pairs in duplicates.leaks.items()
        ],
        "contradictions": [{"split": split, **_pairs(pairs)} for split, pairs in duplicates.contradictions.items()],
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "warnings": list(warnings),
    }


def _pairs(pairs: Sequence[Pair]) -> dict[str, Any]:
    return {"images": len(pairs), "examples": pairs[:_EXAMPLES]}
