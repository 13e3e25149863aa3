"""Requests that wait together go through the model together; one that is alone does not wait for a thread."""

import logging
import math
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kennel.engines.engine import Engine
from kennel.serving.errors import Gone, Late

log = logging.getLogger(__name__)


@dataclass
class Call:
    """Who waits for some images, and what these have met; the latter is to be read when they are answered."""

    deadline: float = math.inf  # on the monotonic clock; later nobody waits
    client: socket.socket | None = None  # where the answer goes, if it is known
    forward: float = 0.0  # seconds that the model worked on batches with these images
    batch_size: int = 0  # images in the largest of these batches


@dataclass(frozen=True)
class _Item:
    image: NDArray[np.float32]
    call: Call
    answer: "Future[NDArray[np.float32]]" = field(default_factory=Future)


class Patience:
    """How long a batch waits for more images: where the engine gains by it, and only while others are to be expected.

    As many as in the last batch are expected, which is one when a single client asks. Who waits longer than half of
    what a batch takes loses more than there is to gain.
    """

    def __init__(self) -> None:
        self._expected = 1
        self._seconds = 0.0  # of a batch, smoothed

    def seconds(self, images: int, longest: float) -> float:
        """Return how long `images` that are there may wait; never more than `longest`."""
        return min(longest, self._seconds / 2) if images < self._expected else 0.0

    def saw(self, images: int, seconds: float) -> None:
        """Learn from a batch."""
        self._expected = images
        self._seconds += (seconds - self._seconds) * (0.2 if self._seconds else 1)


class Batcher:
    """A queue of images in front of an engine, and a thread that takes them from it.

    It takes what waits, up to the engine's batch size, and waits for more only as `Patience` says. A request that finds
    nobody before it runs the model itself, if the engine lets it: handing over would cost it time. Images whose caller
    no longer waits are dropped before they cost anything. A batch that fails is run again image by image, so that only
    the culprit fails.
    The queue is bounded by whoever admits requests: each waits for its images.
    """

    def __init__(self, engine: Engine, saw_batch: Callable[[int, int], None]) -> None:
        """`saw_batch` hears how many images each batch has, and how many are left in the queue."""
        self._engine = engine
        self._saw_batch = saw_batch
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()  # None ends it
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()  # held by whoever runs the engine
        self._patience = Patience()

    def start(self) -> None:
        """Warm the engine up, and begin; in a server, after the fork. Raises what the engine raises.

        One thread does all of an engine's work: torch keeps the number of its threads for each that asks it to compute.
        """
        warm: Future[None] = Future()
        thread = threading.Thread(target=self._run, args=(warm,), name="batcher", daemon=True)
        thread.start()
        warm.result()
        self._thread = thread

    def stop(self) -> None:
        """End the thread when it has answered what waits; nothing may be asked of it any more."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def is_alive(self) -> bool:
        """Return whether the thread runs: without it no request is ever answered."""
        return self._thread is not None and self._thread.is_alive()

    def predict(self, images: Sequence[NDArray[np.float32]], call: Call) -> list[NDArray[np.float32]]:
        """Return the probabilities (classes,) of each normalized image (3, S, S), when the model has seen it.

        Raises Late or Gone when the model has not, because nobody waits for it.
        """
        items = [_Item(image, call) for image in images]
        if self._engine.any_thread and self._queue.empty() and self._turn.acquire(blocking=False):
            try:
                self._run_batch(items)
            finally:
                self._turn.release()
        else:
            for item in items:
                self._queue.put(item)
        return [item.answer.result() for item in items]

    def _run(self, warm: "Future[None]") -> None:
        try:
            self._engine.warm_up()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who has started the thread
            warm.set_exception(error)
            return
        warm.set_result(None)
        while (first := self._queue.get()) is not None:
            items = [first]
            with self._turn:
                self._gather(items)
                self._run_batch(items)

    def _gather(self, items: list[_Item]) -> None:
        """Take more of the queue, and wait for them if it is worth it."""
        began = time.monotonic()
        while len(items) < self._engine.batch_size:
            wait = self._patience.seconds(len(items), self._engine.longest_wait) - (time.monotonic() - began)
            try:
                item = self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
            except queue.Empty:
                return
            if item is None:
                self._queue.put(None)
                return
            items.append(item)

    def _run_batch(self, items: list[_Item]) -> None:
        if items := _drop_unwanted(items):
            self._saw_batch(len(items), self._queue.qsize())
            self._answer(items)

    def _answer(self, items: list[_Item]) -> None:
        began = time.perf_counter()
        try:
            images = [item.image for item in items]
            rows = self._engine.probabilities(np.stack(images) if len(images) > 1 else images[0][None])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the requests that caused it
            if len(items) == 1:
                items[0].answer.set_exception(error)
                return
            log.warning("a batch of %d failed (%s); running it again image by image", len(items), error)
            for item in items:
                self._answer([item])
            return
        seconds = time.perf_counter() - began
        self._patience.saw(len(items), seconds)
        for call in {id(item.call): item.call for item in items}.values():
            call.forward += seconds
            call.batch_size = max(call.batch_size, len(items))
        for item, row in zip(items, rows, strict=True):
            item.answer.set_result(row)


def _drop_unwanted(items: list[_Item]) -> list[_Item]:
    """Return the items that somebody waits for; the others are told so."""
    now, gone = time.monotonic(), hung_up(item.call.client for item in items)
    wanted = []
    for item in items:
        if item.call.client in gone:
            item.answer.set_exception(Gone("the client closed its connection before its turn came"))
        elif now > item.call.deadline:
            item.answer.set_exception(Late("the answer is not ready in the time that a caller waits for it"))
        else:
            wanted.append(item)
    return wanted


def hung_up(clients: Iterable[socket.socket | None]) -> set[socket.socket | None]:
    """Return which of the sockets were closed at their other end.

    One system call asks for all of them: after each, this thread has to wait for its turn among the others.
    """
    by_number = {client.fileno(): client for client in clients if client is not None and client.fileno() >= 0}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLRDHUP)
    return {by_number[number] for number, _ in poll.poll(0)} if by_number else set()
