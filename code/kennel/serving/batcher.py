"""One thread runs the model; requests that wait together go through it together."""

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from kennel.engines.engine import Engine

log = logging.getLogger(__name__)

_Item = tuple[NDArray[np.float32], "Future[NDArray[np.float32]]"]


class Batcher:
    """A queue of images in front of an engine.

    It takes what waits, up to `batch_size` images, and never waits for more. A batch that fails is run again image by
    image, so that only the culprit fails. The queue is bounded by whoever admits requests: each waits for its images.
    """

    def __init__(self, engine: Engine, batch_size: int) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; in a server, after the fork."""
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs: without it no request is ever answered."""
        return self._thread is not None and self._thread.is_alive()

    def predict(self, images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the probabilities (classes,) of each normalized image (3, S, S), when the model has seen it."""
        futures = []
        for image in images:
            future: Future[NDArray[np.float32]] = Future()
            self._queue.put((image, future))
            futures.append(future)
        return [future.result() for future in futures]

    def _run(self) -> None:
        while True:
            items = [self._queue.get()]
            while len(items) < self._batch_size:
                try:
                    items.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._answer(items)

    def _answer(self, items: list[_Item]) -> None:
        try:
            rows = self._engine.probabilities(np.stack([image for image, _ in items]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the requests that caused it
            if len(items) == 1:
                items[0][1].set_exception(error)
                return
            log.warning("a batch of %d failed (%s); running it again image by image", len(items), error)
            for item in items:
                self._answer([item])
            return
        for (_, future), row in zip(items, rows, strict=True):
            future.set_result(row)
