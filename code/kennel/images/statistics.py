"""The mean and the deviation of a data set's colours, exact, however the images are divided among processes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 64  # images summed up at once; bounds the memory, not the result

_Sums = tuple[int, int, int]  # one a channel; Python's integers, which never overflow


@dataclass(frozen=True)
class ChannelStatistics:
    """Sums over the pixels of some images. Parts add up to the same whole, to the bit, in whatever order."""

    count: int = 0  # pixels a channel
    total: _Sums = (0, 0, 0)  # of values 0..255
    squares: _Sums = (0, 0, 0)

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> "ChannelStatistics":
        """Sum up (N, S, S, 3) pixels in one pass."""
        statistics = cls()
        for start in range(0, len(pixels), _CHUNK):
            statistics += cls._of_chunk(np.asarray(pixels[start : start + _CHUNK]))
        return statistics

    @classmethod
    def _of_chunk(cls, pixels: NDArray[np.uint8]) -> "ChannelStatistics":
        images = pixels.reshape(len(pixels), -1)  # whole images on top of each other are what numpy adds fastest
        total = images.sum(axis=0, dtype=np.uint32)  # at most 255 * 255 * _CHUNK, below
        squares = np.square(images, dtype=np.uint16).sum(axis=0, dtype=np.uint32)
        return cls(pixels.size // 3, _by_channel(total), _by_channel(squares))

    def __add__(self, other: "ChannelStatistics") -> "ChannelStatistics":
        return ChannelStatistics(
            self.count + other.count, _added(self.total, other.total), _added(self.squares, other.squares)
        )

    @property
    def mean(self) -> tuple[float, float, float]:
        """The mean of each channel, in 0..1."""
        r, g, b = (total / (255 * self.count) for total in self.total)
        return r, g, b

    @property
    def std(self) -> tuple[float, float, float]:
        """The deviation of each channel, in 0..1; 1 for a channel of one value, so that it can be divided by."""
        r, g, b = (self._deviation(*sums) or 1.0 for sums in zip(self.total, self.squares, strict=True))
        return r, g, b

    def _deviation(self, total: int, squares: int) -> float:
        return math.sqrt((self.count * squares - total * total) / (255 * self.count) ** 2)


def _by_channel(sums: NDArray[np.uint32]) -> _Sums:
    """Add up (S * S * 3,) sums of interleaved channels."""
    r, g, b = sums.reshape(-1, 3).sum(axis=0, dtype=np.int64).tolist()
    return r, g, b


def _added(a: _Sums, b: _Sums) -> _Sums:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
