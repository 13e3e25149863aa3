"""How many pixels are being decoded at once."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Lets threads decode as long as their pictures' pixels do not exceed a limit together; others wait their turn."""

    def __init__(self, limit: int) -> None:
        """`limit` is in pixels; a picture of more is decoded alone."""
        self._limit = limit
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def spend(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for a picture, and hold it for the block; who came first is first."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._has_room(pixels))
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()

    def _has_room(self, pixels: int) -> bool:
        return self._used == 0 or self._used + pixels <= self._limit
