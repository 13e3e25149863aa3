"""What an epoch is made of: shuffled batches of cached features, or of packed images."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kennel.images.augment_batch import augment_batch, draw_changes
from kennel.images.pack import PackedImages
from kennel.images.preprocess import Preprocessing
from kennel.training.distributed import ALONE, Processes
from kennel.training.watching import UNWATCHED, Timer

AHEAD = 2  # batches that are read while another is in work


@dataclass(frozen=True)
class Batch:
    """What one step trains on: this process's share of it."""

    inputs: Tensor  # (B, ...) on the device
    labels: Tensor  # (B,) int64 on the device
    own: int  # the first so many rows count; a process with no share runs a stand-in that does not
    everyone: Tensor  # (G,) int64 on the device, the labels of the whole batch, over all processes


class Batches(Protocol):
    """A data set that is read in batches."""

    rows: int  # how many there are, over all processes

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(
        self, generator: torch.Generator | None, skip: int = 0, timer: Timer = UNWATCHED.timer
    ) -> Iterator[Batch]:
        """Yield the batches after the first `skip`: shuffled and in random views, or as they lie without `generator`.

        Equal states of `generator` give equal batches. `timer` learns what it took to wait for a batch, and to bring
        it to the device as the network wants it.
        """
        ...


class _Shuffled:
    """Rows in batches, each batch shared out among processes and read while the one before it is in work."""

    def __init__(
        self, labels: NDArray[np.int64], batch_size: int, device: torch.device, processes: Processes = ALONE
    ) -> None:
        self.rows = len(labels)
        self._labels = torch.from_numpy(labels)
        self._batch_size = batch_size
        self._device = device
        self._processes = processes
        self._least = 2 * processes.count  # batch norm cannot train on one image; fewer go with the batch before

    def __len__(self) -> int:
        count, rest = divmod(len(self._labels), self._batch_size)
        return max(1, count + (rest >= self._least))

    def epoch(
        self, generator: torch.Generator | None, skip: int = 0, timer: Timer = UNWATCHED.timer
    ) -> Iterator[Batch]:
        """See `Batches.epoch`."""
        work = self._plan(generator)[skip:]
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            reads = [pool.submit(self._read, *part) for part in work[:AHEAD]]
            for following, (rows, seed) in enumerate(work, start=AHEAD):
                read = reads.pop(0).result()
                if following < len(work):
                    reads.append(pool.submit(self._read, *work[following]))
                timer.mark("data")
                inputs, labels, everyone = (tensor.to(self._device, non_blocking=True) for tensor in read)
                inputs = self._finish(inputs, rows, seed)
                timer.mark("to_device")
                yield Batch(inputs, labels, self._share(rows)[1], everyone)

    def _plan(self, generator: torch.Generator | None) -> list[tuple[Tensor, int | None]]:
        """Return the rows of each batch, and a seed for what is random about it."""
        rows = torch.arange(len(self._labels))
        if generator is None:
            return [(part, None) for part in torch.split(rows, self._batch_size)]
        parts = list(torch.split(rows[torch.randperm(len(rows), generator=generator)], self._batch_size))
        if len(parts) > 1 and len(parts[-1]) < self._least:
            parts[-2:] = [torch.cat(parts[-2:])]
        drawn = torch.randint(2**62, (len(parts),), generator=generator).tolist()
        return list(zip(parts, drawn, strict=True))

    def _share(self, rows: Tensor) -> tuple[slice, int]:
        """Return which of `rows` are this process's share, and how many of them count."""
        mine = slice(self._processes.rank, None, self._processes.count)
        own = len(rows[mine])
        return (mine, own) if own else (slice(1), 0)

    def _read(self, rows: Tensor, seed: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Read inputs and labels of this process's share, and all labels of the batch, into memory."""
        mine = rows[self._share(rows)[0]]
        read = self._inputs(mine, seed), self._labels[mine], self._labels[rows]
        if self._device.type == "cuda":  # from pinned memory, a copy to the device does not wait
            return read[0].pin_memory(), read[1].pin_memory(), read[2].pin_memory()
        return read

    def _inputs(self, rows: Tensor, seed: int | None) -> Tensor:
        """Read the rows into memory; without a `seed`, nothing is random."""
        raise NotImplementedError

    def _finish(self, inputs: Tensor, rows: Tensor, seed: int | None) -> Tensor:
        """Turn what was read of `rows`, on the device now, into what the network takes."""
        return inputs


class FeatureBatches(_Shuffled):
    """Batches of cached features, (B, features) float32."""

    def __init__(
        self, features: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], batch_size: int, device: torch.device
    ) -> None:
        """`features` holds one array (N, features) a view, which may be memory-mapped: batches are read from it."""
        super().__init__(labels, batch_size, device)
        self._features = features

    def _inputs(self, rows: Tensor, seed: int | None) -> Tensor:
        if seed is None:
            return torch.from_numpy(self._features[0][rows.numpy()])
        views = torch.randint(len(self._features), (len(rows),), generator=torch.Generator().manual_seed(seed))
        inputs = np.empty((len(rows), self._features[0].shape[1]), np.float32)
        for view, features in enumerate(self._features):
            chosen = (views == view).numpy()
            inputs[chosen] = features[rows.numpy()[chosen]]
        return torch.from_numpy(inputs)


class ImageBatches(_Shuffled):
    """Batches of normalized images, (B, 3, S, S) float32 in channels-last memory, augmented on the device."""

    def __init__(
        self,
        images: PackedImages,
        preprocessing: Preprocessing,
        augment: str,
        batch_size: int,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(images.labels, batch_size, device, processes)
        self._pixels = images.pixels
        self._augment = augment
        scale, shift = preprocessing.scale_and_shift()
        self._scale, self._shift = (torch.from_numpy(v).view(3, 1, 1).to(device) for v in (scale, shift))

    def _inputs(self, rows: Tensor, seed: int | None) -> Tensor:
        return torch.from_numpy(self._pixels[rows.numpy()])

    def _finish(self, inputs: Tensor, rows: Tensor, seed: int | None) -> Tensor:
        if seed is not None:  # drawn for the whole batch, so that an image's changes do not depend on who shares it
            generator = torch.Generator().manual_seed(seed)
            changes = draw_changes(self._augment, len(rows), inputs.shape[1], generator)
            inputs = augment_batch(inputs, changes.rows(self._share(rows)[0]))
        return inputs.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
