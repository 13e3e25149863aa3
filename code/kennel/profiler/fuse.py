"""Keeps a part of the profiler that fails from harming the training (principle 6)."""

import logging
from types import TracebackType

log = logging.getLogger(__name__)


class Fuse:
    """Guards one part of the profiler: the first thing that goes wrong in it is one warning, and then it is off.

    A block that is guarded asks `blown` first; it is entered for every step of a training, so it has to be quick.
    """

    def __init__(self, what: str) -> None:
        """Make a fuse; `what` names the part in the warning."""
        self.blown = False
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.blown = True
        log.warning("%s failed and is off from now on; the training is not touched by that", self._what, exc_info=error)
        return True
