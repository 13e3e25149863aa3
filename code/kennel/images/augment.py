"""The views of an image that training sees."""

import numpy as np
from numpy.typing import NDArray


def augmented_views(augment: str) -> tuple[str, ...]:
    """Return the names of the views that the hyperparameter `augment` asks for; the first is the image itself."""
    return ("original",) if augment == "none" else ("original", "mirrored")


def test_views(test_time_augment: str) -> tuple[str, ...]:
    """Return the names of the views whose probabilities a test and a server average."""
    return ("original", "mirrored") if test_time_augment == "flip" else ("original",)


def apply_view(view: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `pixels` (N, S, S, 3) as seen in `view`, without copying them."""
    return pixels[:, :, ::-1] if view == "mirrored" else pixels
