"""What every runtime offers."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """A loaded model. Not for several threads at once: whoever calls it sees to that."""

    name: str  # as logs and reports call it

    @property
    def batch_size(self) -> int:
        """How many images go through it together at most: with more it is not faster."""
        ...

    @property
    def longest_wait(self) -> float:
        """How many seconds a batch may wait for more images; 0 where a larger batch is hardly quicker by the image.

        Known after `warm_up`.
        """
        ...

    @property
    def any_thread(self) -> bool:
        """Whether it may be run now by one thread, now by another; else it is best run by one alone."""
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
        """Return (N, classes) for normalized images (N, 3, S, S); each row sums to 1.

        The images may lie in memory in any order; channels-last, as `Preprocessing.normalize` makes them, is quickest.
        """
        ...
