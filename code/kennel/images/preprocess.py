"""The one way from an image to what a network sees: training, evaluation and serving all call it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kennel.errors import ImageError
from kennel.images.decode import MAX_PIXELS, decode_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1, as torchvision's weights expect
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        image = decode_image(data, at_least=self.resize)
        width, height = image.size
        # torchvision's own rounding
        if width <= height:
            size = (self.resize, int(self.resize * height / width))
        else:
            size = (int(self.resize * width / height), self.resize)
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(f"the image has {width} x {height} pixels, too long and thin to be resized to {size}")
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = round((size[0] - self.crop) / 2), round((size[1] - self.crop) / 2)
        return np.asarray(image.crop((left, top, left + self.crop, top + self.crop)))

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, S, S, 3) uint8 as (N, 3, S, S) float32, normalized; the memory stays channels-last."""
        scale, shift = self.scale_and_shift()
        normalized: NDArray[np.float32] = pixels.astype(np.float32) * scale + shift
        return normalized.transpose(0, 3, 1, 2)

    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what normalization multiplies a channel's uint8 values by, and then adds: (3,) and (3,)."""
        scale = (1 / (255 * np.asarray(self.std))).astype(np.float32)
        shift = (-np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        return scale, shift
