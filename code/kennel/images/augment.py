"""The views of an image that training sees."""

from torch import Tensor


def augmented_views(augment: str) -> tuple[str, ...]:
    """Return the names of the views that the hyperparameter `augment` asks for; the first is the image itself."""
    return ("original",) if augment == "none" else ("original", "mirrored")


def test_views(test_time_augment: str) -> tuple[str, ...]:
    """Return the names of the views whose probabilities a test and a server average."""
    return ("original", "mirrored") if test_time_augment == "flip" else ("original",)


def apply_view(view: str, images: Tensor) -> Tensor:
    """Return `images` (N, 3, S, S) as seen in `view`."""
    return images.flip(3) if view == "mirrored" else images
