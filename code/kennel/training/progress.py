"""How a job tells where it is, and how it learns that it should stop."""

import logging
import threading
import time
from collections.abc import Callable

from kennel.errors import Stopped

INTERVAL = 2.0  # seconds between two progress lines of one step

log = logging.getLogger(__name__)


class StopSignal:
    """Set once, from a signal handler or another thread, when the job should end."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.by = "SIGTERM"  # who has asked first

    def set(self, by: str = "SIGTERM") -> None:
        """Ask the job to stop."""
        if not self._event.is_set():
            self.by = by
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the job was asked to stop."""
        return self._event.is_set()


def reporter(step: str, split: str, total: int, stop: StopSignal) -> Callable[[int], None]:
    """Return a function to call with the number of images done.

    It logs `progress step=…; split=…; done=…; total=…;` at most every two seconds and at the end, and raises Stopped
    as soon as `stop` is set.
    """
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if 0 < done >= total or now - last >= INTERVAL:
            last = now
            log.info("progress step=%s; split=%s; done=%d; total=%d;", step, split, done, total)
        if stop.is_set():
            raise Stopped(f"while working on {step} of {split}: {done} of {total} images done")

    return report
