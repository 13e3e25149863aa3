"""What torch's operators take in a few training steps: a table of them, and a trace for Perfetto or Chrome."""

import bisect
import gzip
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # it says so in its documentation

from kennel.atomic import replacing
from kennel.profiler.fuse import Fuse

TRACE = "trace.json.gz"
MOST_EVENTS = 150_000  # of a trace: 3 MB compressed, a second to write
MOST_ROWS = 50  # of the table


@dataclass
class Operator:
    """One operator, over all steps that were looked at."""

    name: str
    calls: int = 0
    cpu: float = 0.0  # seconds, without the operators that it called
    gpu: float = 0.0  # seconds of the kernels that it started
    memory: int = 0  # bytes that it took on the GPU


class OperatorProfiler:
    """Looks at `count` steps of each stage, from step `first` on; of two stages the later one is kept.

    The first of these steps is looked at by itself: it tells how many of the others fit into a trace of bounded size.
    torch's own front end (`torch.profiler`) imports torch's compiler, three seconds of a core, to look at one of its
    settings; this uses the profiler below it, in `torch.autograd.profiler`.
    """

    def __init__(self, first: int, count: int, folder: Path) -> None:
        """`first` is counted from 1, and at least 2; a `count` of 0 looks at nothing. The trace goes to `folder`."""
        self.steps = 0  # that the table is made of
        self.has_trace = False
        self._first, self._count, self._folder = first, count, folder
        self._fuse = Fuse("torch's profiler")
        self._fuse.blown = count == 0
        self._table: dict[str, Operator] = {}
        self._profile: Any = None
        self._done = 0  # steps of the stage
        self._from = self._until = 0  # the steps of the stage after which the present look begins and ends
        self._outside: list[tuple[int, int]] = []  # nanoseconds: what was no step while we looked
        self._marked = 0

    @property
    def is_recording(self) -> bool:
        """Whether steps are slower for being looked at."""
        return self._profile is not None

    @property
    def table(self) -> list[Operator]:
        """The operators that took most, on CPU and GPU together."""
        ranked = sorted(self._table.values(), key=lambda operator: (-operator.cpu - operator.gpu, operator.name))
        return ranked[:MOST_ROWS]

    def mark(self, is_step: bool) -> None:
        """Take note that a part ends here, of a training step or of something else."""
        if self._profile is not None:
            now = time.time_ns()
            if not is_step:
                self._outside.append((self._marked, now))
            self._marked = now

    def begin_stage(self) -> None:
        """Take note that what is trained from now on is something else."""
        self.end()
        self._done = 0

    def end_step(self) -> bool:
        """Take note that a step ends here, and return whether anything was done that took time."""
        self._done += 1
        if self._fuse.blown:
            return False
        with self._fuse:
            if self._profile is not None and self._done == self._until:
                profile, events = self._stop()
                left = self._first - 1 + self._count - self._done
                fitting = min(left, MOST_EVENTS // max(1, events))
                if fitting > 0:
                    self._start(fitting)
                else:
                    self._write_trace(profile)
                return True
            if self._profile is None and self._done == self._first - 1:
                self._table, self.steps = {}, 0
                self._start(1)
                return True
        return False

    def end(self) -> None:
        """Stop looking, wherever we are."""
        if self._profile is not None and not self._fuse.blown:
            with self._fuse:
                profile, _ = self._stop()
                self._write_trace(profile)
        self._profile = None

    def _start(self, steps: int) -> None:
        is_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if not is_gpu:
            os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it complains on stderr that there is no GPU
        # memory on the CPU is left out: torch says on stderr that it does not know of what was taken before
        profile: Any = torch.autograd.profiler.profile(  # type: ignore[no-untyped-call]
            use_device="cuda" if is_gpu else None, profile_memory=is_gpu, use_kineto=True
        )
        profile.__enter__()
        self._profile = profile
        self._from, self._until = self._done, self._done + steps
        self._outside, self._marked = [], time.time_ns()

    def _stop(self) -> tuple[Any, int]:
        """Add what was seen to the table; return it with the number of events that a step had."""
        profile, self._profile = self._profile, None
        profile.__exit__(None, None, None)
        events = profile.kineto_results.events()
        steps = self._done - self._from
        self.steps += steps
        for operator in add_up(events, self._outside):
            known = self._table.setdefault(operator.name, Operator(operator.name))
            known.calls += operator.calls
            known.cpu += operator.cpu
            known.gpu += operator.gpu
            known.memory += operator.memory
        return profile, len(events) // max(1, steps)

    def _write_trace(self, profile: Any) -> None:
        with replacing(self._folder / TRACE) as temporary:
            plain = temporary.with_suffix(".json")
            try:
                profile.export_chrome_trace(str(plain))
                with plain.open("rb") as source, gzip.open(temporary, "wb", compresslevel=6) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            finally:
                plain.unlink(missing_ok=True)
        self.has_trace = True


def add_up(events: Iterable[Any], outside: list[tuple[int, int]]) -> list[Operator]:
    """Return what each operator took, without what began in one of the stretches of time `outside`.

    torch's own sum (`key_averages`) takes three times as long, and more.
    """
    found: dict[str, Operator] = {}
    names: dict[int, Operator] = {}  # by the number that kernels know their operator by
    kernels: list[tuple[int, float]] = []
    open_calls: dict[int, list[tuple[int, Operator]]] = {}  # by thread: what is under way, the innermost last
    starts = [start for start, _ in outside]
    ordered = sorted(events, key=lambda event: (event.start_ns(), -event.duration_ns()))
    for event in ordered:
        start, took = event.start_ns(), event.duration_ns()
        before = bisect.bisect_right(starts, start) - 1
        if before >= 0 and start < outside[before][1]:
            continue
        if event.device_type() != DeviceType.CPU:
            if event.linked_correlation_id() and not event.is_user_annotation():
                kernels.append((event.linked_correlation_id(), took / 1e9))
            if event.name() != "[memory]":
                continue
        stack = open_calls.setdefault(event.start_thread_id(), [])
        while stack and stack[-1][0] <= start:
            stack.pop()
        if event.name() == "[memory]":
            if stack and event.nbytes() > 0:
                stack[-1][1].memory += event.nbytes()
            continue
        # what CUDA's own functions take is counted as what their operator takes
        if event.is_async() or event.linked_correlation_id() or event.start_thread_id() != event.end_thread_id():
            continue
        operator = found.setdefault(event.name(), Operator(event.name()))
        operator.calls += 1
        operator.cpu += took / 1e9
        if stack:
            stack[-1][1].cpu -= took / 1e9
        stack.append((start + took, operator))
        names[event.correlation_id()] = operator
    for number, seconds in kernels:
        if number in names:
            names[number].gpu += seconds
    return list(found.values())
