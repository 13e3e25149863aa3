"""The one way from an image to what a network sees: training, evaluation and serving all call it."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kennel.errors import ImageError
from kennel.images.decode import MAX_PIXELS, Picture, decode_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1, as torchvision's weights expect
IMAGENET_STD = (0.229, 0.224, 0.225)
MARGIN = 1.25  # of what a decoder may leave to what is needed: with less, pixels are not Pillow's within a grey level
VERSION = 2  # to be raised when equal files may become other pixels: what was decoded before is then decoded anew


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, cut out the centre, normalize: torchvision's evaluation transform."""

    resize: int  # pixels of the shorter side
    crop: int  # pixels of the square's side
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def for_size(cls, image_size: int) -> "Preprocessing":
        """Return the preprocessing for a square of `image_size`, with torchvision's proportion of 256 to 224."""
        return cls(resize=round(image_size * 256 / 224), crop=image_size)

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """Return the image in a file's bytes as (crop, crop, 3) uint8. Raises ImageError when there is none."""
        picture = decode_image(data, at_least=math.ceil(self.resize * MARGIN))
        width, height = picture.width, picture.height
        # torchvision's own rounding
        if width <= height:
            size = (self.resize, int(self.resize * height / width))
        else:
            size = (int(self.resize * width / height), self.resize)
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(f"the image has {width} x {height} pixels, too long and thin to be resized to {size}")
        left, top = round((size[0] - self.crop) / 2), round((size[1] - self.crop) / 2)
        return _resize_part(picture, size, (left, top, left + self.crop, top + self.crop))

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, S, S, 3) uint8 as (N, 3, S, S) float32, normalized; the memory stays channels-last."""
        scale, shift = _by_row(self)
        normalized = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
        normalized *= scale
        normalized += shift
        return normalized.reshape(pixels.shape).transpose(0, 3, 1, 2)

    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what normalization multiplies a channel's uint8 values by, and then adds: (3,) and (3,)."""
        scale = (1 / (255 * np.asarray(self.std))).astype(np.float32)
        shift = (-np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        return scale, shift


def _resize_part(picture: Picture, size: tuple[int, int], part: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the part (left, top, right, bottom) of what a picture is when it is resized to `size`: nothing else is.

    The last row and column of an image that was decoded smaller may be partly empty: they count for what they hold.
    """
    image = picture.image
    reduced = 2 ** round(math.log2(picture.width / image.width))
    across, down = picture.width / reduced / size[0], picture.height / reduced / size[1]  # pixels of the image
    left, top, right, bottom = part
    box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
    return np.asarray(image.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box))


@cache
def _by_row(preprocessing: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and shift of a whole row of pixels: numpy is six times as slow with three numbers at a time."""
    scale, shift = preprocessing.scale_and_shift()
    return np.tile(scale, preprocessing.crop), np.tile(shift, preprocessing.crop)
