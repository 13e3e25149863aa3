"""Measures the parts of every step, by the device's own clock where the steps run on a GPU."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from kennel.profiler.fuse import Fuse
from kennel.profiler.ledger import STAGE_STARTS, STEP_PARTS, Ledger, Part
from kennel.profiler.operators import OperatorProfiler

_MOST_PENDING = 4096  # moments that the GPU has not come to yet; it is never that far behind


class Event(Protocol):
    """A moment on the device, as CUDA has it."""

    def query(self) -> bool:
        """Return whether the device has come to it."""
        ...

    def elapsed_time(self, end_event: "Event") -> float:
        """Return the milliseconds from this one to another."""
        ...


class _Moment(NamedTuple):
    part: Part | None  # what ends here; None is a step
    clock: float
    event: Event | None
    images: int = 0
    slowed: bool = False


class StepTimer:
    """The training loop's timer: each mark ends a part, and all parts together are all the time there was.

    On a GPU a mark records an event, and nothing waits for it: how long a part took is read when the device has passed
    it, some steps later.
    """

    def __init__(
        self,
        operators: OperatorProfiler,
        clock: Callable[[], float] = time.perf_counter,
        record: Callable[[], Event | None] | None = None,
    ) -> None:
        """`record` returns the device's present moment, or None as long as there is no device but the CPU."""
        self.ledger = Ledger()
        self._fuse = Fuse("measuring the steps")
        self._operators = operators
        self._clock, self._record = clock, record or _cuda_event
        self._last = _Moment(None, clock(), None)
        self._pending: deque[_Moment] = deque()

    def mark(self, part: Part) -> None:
        """Count the time since the mark before to `part`."""
        if self._is_off():
            return
        with self._fuse:
            self._pending.append(_Moment(part, self._clock(), self._record()))
            self._operators.mark(part in STEP_PARTS)
            if part in STAGE_STARTS:
                self._operators.begin_stage()
            if self._pending[0].event is None:
                self._resolve()

    def end_step(self, images: int, slowed: bool = False) -> None:
        """Take note that a training step on so many of this process's images ends here, `slowed` by who looked at it.

        One that torch's profiler looks at is slowed by that.
        """
        if self._is_off():
            return
        with self._fuse:
            self._pending.append(_Moment(None, 0.0, None, images, slowed or self._operators.is_recording))
            self._resolve()
            if self._operators.end_step():
                self.mark("profiling")

    def end(self) -> None:
        """Count what is left to `other`, and wait for the device to have passed all marks."""
        self.mark("other")
        self._operators.end()
        if self._pending and not self._fuse.blown:
            with self._fuse:
                torch.cuda.synchronize()
                self._resolve()

    def _is_off(self) -> bool:
        """Return whether something went wrong here; nobody would tell torch's profiler when to stop looking then."""
        if self._fuse.blown:
            self._operators.end()
        return self._fuse.blown

    def _resolve(self) -> None:
        """Write down all moments that are known by now."""
        while self._pending:
            moment = self._pending[0]
            if moment.event is not None and not moment.event.query() and len(self._pending) < _MOST_PENDING:
                return
            self._pending.popleft()
            if moment.part is None:
                self.ledger.end_step(moment.images, moment.slowed)
            else:
                self.ledger.add(moment.part, _between(self._last, moment))
                self._last = moment


def _between(start: _Moment, end: _Moment) -> float:
    """Return the seconds between two moments, by the device's clock where it has seen both."""
    if start.event is None or end.event is None or not end.event.query():
        return max(0.0, end.clock - start.clock)
    return start.event.elapsed_time(end.event) / 1000


def _cuda_event() -> Event | None:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event  # type: ignore[no-any-return]
