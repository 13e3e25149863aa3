"""What an epoch is made of: shuffled batches of cached features, or of packed images."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kennel.images.augment import apply_view
from kennel.images.pack import PackedImages
from kennel.images.preprocess import Preprocessing


class Batches(Protocol):
    """A data set that is read in batches of inputs and labels."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels (B,) int64: shuffled and in random views, or as they lie without `generator`."""
        ...


class _Shuffled:
    """Rows in batches, each row in one of several views."""

    def __init__(self, labels: NDArray[np.int64], views: int, batch_size: int, device: torch.device) -> None:
        self._labels = torch.from_numpy(labels)
        self._views = views
        self._batch_size = batch_size
        self._device = device

    def __len__(self) -> int:
        count, rest = divmod(len(self._labels), self._batch_size)
        return max(1, count + (rest > 1))  # a last image alone goes with the batch before it

    def epoch(self, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.epoch`."""
        count = len(self._labels)
        rows = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        views = torch.zeros(count, dtype=torch.int64)
        if generator is not None:
            views = torch.randint(self._views, (count,), generator=generator)
        parts = list(torch.split(rows, self._batch_size))
        if len(parts) > 1 and len(parts[-1]) == 1:  # batch norm cannot train on a single image
            parts[-2:] = [torch.cat(parts[-2:])]
        for part in parts:
            yield self._inputs(part, views[part]).to(self._device), self._labels[part].to(self._device)

    def _inputs(self, rows: Tensor, views: Tensor) -> Tensor:
        raise NotImplementedError


class FeatureBatches(_Shuffled):
    """Batches of cached features, (B, features) float32."""

    def __init__(
        self, features: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], batch_size: int, device: torch.device
    ) -> None:
        """`features` holds one array (N, features) a view, which may be memory-mapped: batches are read from it."""
        super().__init__(labels, len(features), batch_size, device)
        self._features = features

    def _inputs(self, rows: Tensor, views: Tensor) -> Tensor:
        inputs = np.empty((len(rows), self._features[0].shape[1]), np.float32)
        for view, features in enumerate(self._features):
            chosen = (views == view).numpy()
            inputs[chosen] = features[rows.numpy()[chosen]]
        return torch.from_numpy(inputs)


class ImageBatches(_Shuffled):
    """Batches of normalized images, (B, 3, S, S) float32."""

    def __init__(
        self,
        images: PackedImages,
        preprocessing: Preprocessing,
        views: tuple[str, ...],
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__(images.labels, len(views), batch_size, device)
        self._pixels = images.pixels
        self._preprocessing = preprocessing
        self._view_names = views

    def _inputs(self, rows: Tensor, views: Tensor) -> Tensor:
        pixels = self._pixels[rows.numpy()]
        for view, name in enumerate(self._view_names):
            chosen = (views == view).numpy()
            pixels[chosen] = apply_view(name, pixels[chosen])
        return torch.from_numpy(self._preprocessing.normalize(pixels))
