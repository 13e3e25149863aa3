"""A network's forward pass recorded once for each usual batch size, and replayed: a GPU need not be told each kernel.

The image has no compiler, so that `torch.compile` is none of the ways to get there.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)  # images; others are padded up to the next
_FIRST_RUNS = 3  # before it is recorded: libraries choose their kernels, and take their memory

Network = Callable[[Tensor], Tensor]


class Recorder(Protocol):
    """Records what a network does with the images in a buffer."""

    def __call__(self, network: Network, buffer: Tensor) -> tuple[Callable[[], None], Tensor]:
        """Return what does the same once more, and where its output lies after that."""
        ...


class CudaRecorder:
    """Records with CUDA graphs that share their memory: only one of them runs at a time, and its output is copied."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, network: Network, buffer: Tensor) -> tuple[Callable[[], None], Tensor]:
        """See `Recorder`."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_FIRST_RUNS):
                network(buffer)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = network(buffer)
        return graph.replay, output


class RecordedNetwork:
    """A network with a recording for each batch size. Not for several threads at once."""

    @torch.inference_mode()
    def __init__(self, network: Network, image_size: int, device: torch.device, record: Recorder) -> None:
        """Record; the largest size comes first, so that the others find room in its memory.

        `network` makes a tensor (N, …) of normalized images (N, 3, S, S) float32 on `device`. Raises RuntimeError when
        it cannot be recorded, for example because it looks at its numbers.
        """
        self._recordings = {}
        for size in reversed(SIZES):
            shape = (size, 3, image_size, image_size)
            buffer = torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)
            self._recordings[size] = (buffer, *record(network, buffer))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the network's output for images (N, 3, S, S) on any device; N is at most the largest size."""
        count = len(images)
        size = next(size for size in SIZES if size >= count)
        buffer, replay, output = self._recordings[size]
        buffer[:count].copy_(images)  # what is left in the others does them no harm: batch norms are in evaluation mode
        replay()
        return output[:count].clone()  # the next call overwrites it
