"""What every runtime offers."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """A loaded model. Not for several threads at once: the batcher calls it from one."""

    name: str  # as logs and reports call it

    @property
    def batch_size(self) -> int:
        """How many images go through it together at most: with more it is not faster."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, for the log; known after `warm_up`."""
        ...

    def warm_up(self) -> None:
        """Move the model to its device and run it once, so that the first request is as fast as the others.

        Called after a server has forked: nothing before it may start threads or touch a GPU.
        """
        ...

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, classes) for normalized images (N, 3, S, S); each row sums to 1."""
        ...
