"""Adds up where the time of a training went: by part, over time, and step by step, in bounded room."""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal[  # those of `kennel.training.watching`, which the profiler does not know, and two of its own
    "start-up",
    "decoding",
    "features",
    "data",
    "to_device",
    "forward",
    "backward",
    "optimizer",
    "debugging",
    "evaluation",
    "checkpoint",
    "test",
    "export",
    "profiling",  # what starting and reading torch's profiler took
    "other",  # what comes after the last part that was told
]
STEP_PARTS = frozenset({"data", "to_device", "forward", "backward", "optimizer"})  # what a training step is made of
STAGE_STARTS = frozenset({"start-up", "features"})  # what precedes the steps of a stage, and lies in none
MOST_BUCKETS = 200  # of the timeline: as many as can be told apart in a chart
FINEST = 0.1  # seconds of a bucket in the shortest job
RATIO = 1.05  # of the two ends of a bin of the histogram
WARM_UP = 3  # steps of a stage that are slower than the rest: libraries choose their kernels in them

_MOST_SLOW = 30  # steps that are remembered one by one


@dataclass(frozen=True)
class SlowStep:
    """One of the slowest steps."""

    step: int  # counted from 1, within its stage
    at: float  # seconds since profiling began, at its end
    seconds: float
    parts: Mapping[str, float]  # seconds


@dataclass(frozen=True)
class Stage:
    """The steps that train one thing: the head on features, or the network on images."""

    name: str  # `head` or `network`
    began: float  # seconds since profiling began
    ended: float
    steps: int
    images: int  # that this process has seen in them
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds of all steps
    judged: int = 0  # steps but the first and those that were slower for being watched; what follows is of these
    mean: float = 0.0  # seconds
    deviation: float = 0.0  # seconds
    bins: Mapping[int, int] = field(default_factory=dict)  # steps of RATIO ** bin seconds, up to RATIO times as long
    slowest: tuple[SlowStep, ...] = ()  # the slowest first

    @property
    def seconds(self) -> float:
        """What all steps took."""
        return sum(self.parts.values())

    def share(self, part: str) -> float:
        """Return the part's share of the steps' time."""
        return self.parts.get(part, 0.0) / self.seconds if self.seconds else 0.0

    @property
    def median(self) -> float:
        """What the middle one of the judged steps took, in seconds."""
        seen = 0
        for number, count in sorted(self.bins.items()):
            seen += count
            if 2 * seen >= self.judged:
                return float(RATIO ** (number + 0.5))
        return 0.0

    def slower_than(self, seconds: float) -> tuple[int, float]:
        """Return how many of the judged steps took longer, and the seconds that they took beyond the middle one."""
        within = [slow.seconds for slow in self.slowest if slow.seconds > seconds]
        if len(within) < _MOST_SLOW:  # they are all known
            return len(within), sum(within) - len(within) * self.median
        bins = [(number, count) for number, count in self.bins.items() if RATIO**number > seconds]
        cost = sum(count * (RATIO ** (number + 0.5) - self.median) for number, count in bins)
        return max(_MOST_SLOW, sum(count for _, count in bins)), float(cost)


@dataclass
class Timeline:
    """Seconds by part in equal stretches of time, which grow twice as long whenever there are too many of them."""

    width: float = FINEST  # seconds of a bucket
    buckets: list[dict[str, float]] = field(default_factory=list)

    def add(self, part: str, start: float, end: float) -> None:
        """Spread a part from `start` to `end` over the buckets."""
        while end > self.width * MOST_BUCKETS:
            self._halve()
        first, last = int(start / self.width), int(end / self.width)
        while len(self.buckets) <= last:
            self.buckets.append({})
        for number in range(first, last + 1):
            seconds = min(end, (number + 1) * self.width) - max(start, number * self.width)
            if seconds > 0:
                bucket = self.buckets[number]
                bucket[part] = bucket.get(part, 0.0) + seconds

    def _halve(self) -> None:
        self.width *= 2
        merged: list[dict[str, float]] = []
        for number in range(0, len(self.buckets), 2):
            bucket = dict(self.buckets[number])
            for part, seconds in (self.buckets[number + 1] if number + 1 < len(self.buckets) else {}).items():
                bucket[part] = bucket.get(part, 0.0) + seconds
            merged.append(bucket)
        self.buckets = merged


class _Steps:
    """A stage that is under way."""

    def __init__(self, name: str, began: float) -> None:
        self._name, self._began = name, began
        self._ended = began
        self.steps = self._images = self._judged = 0
        self._parts: dict[str, float] = {}
        self._mean = self._squares = 0.0
        self._bins: dict[int, int] = {}
        self._slowest: list[tuple[float, int, SlowStep]] = []  # a heap: the quickest of them first

    def add(self, at: float, parts: Mapping[str, float], images: int, slowed: bool) -> None:
        self.steps += 1
        self._ended = at
        self._images += images
        for part, seconds in parts.items():
            self._parts[part] = self._parts.get(part, 0.0) + seconds
        if self.steps <= WARM_UP or slowed:
            return
        took = sum(parts.values())
        self._judged += 1
        off = took - self._mean  # Welford: exact, in one pass
        self._mean += off / self._judged
        self._squares += off * (took - self._mean)
        number = math.floor(math.log(max(took, 1e-9), RATIO))
        self._bins[number] = self._bins.get(number, 0) + 1
        if len(self._slowest) < _MOST_SLOW or took > self._slowest[0][0]:
            entry = (took, self.steps, SlowStep(self.steps, at, took, dict(parts)))
            if len(self._slowest) < _MOST_SLOW:
                heapq.heappush(self._slowest, entry)
            else:
                heapq.heapreplace(self._slowest, entry)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            began=self._began,
            ended=self._ended,
            steps=self.steps,
            images=self._images,
            parts=dict(self._parts),
            judged=self._judged,
            mean=self._mean,
            deviation=math.sqrt(self._squares / self._judged) if self._judged else 0.0,
            bins=dict(self._bins),
            slowest=tuple(slow for *_, slow in sorted(self._slowest, reverse=True)),
        )


class Ledger:
    """All that is remembered of the time of a training; it knows no clock."""

    def __init__(self) -> None:
        self.elapsed = 0.0  # seconds: all that was added
        self.parts: dict[str, float] = {}
        self.timeline = Timeline()
        self.first_step: float | None = None  # seconds until the first step was done
        self._step: dict[str, float] = {}
        self._stages: list[_Steps] = []
        self._is_over = True  # the stage before; the next step begins another one
        self._has_features = False

    def add(self, part: Part, seconds: float) -> None:
        """Count so many more seconds to a part."""
        self.timeline.add(part, self.elapsed, self.elapsed + seconds)
        self.elapsed += seconds
        self.parts[part] = self.parts.get(part, 0.0) + seconds
        if part in STEP_PARTS:
            self._step[part] = self._step.get(part, 0.0) + seconds
        elif part in STAGE_STARTS:
            self._is_over = True
            self._has_features |= part == "features"

    def end_step(self, images: int, slowed: bool = False) -> None:
        """Take note that the parts since the step before were a step, `slowed` by those who watch it or not."""
        if self.first_step is None:
            self.first_step = self.elapsed
        if self._is_over:
            # features are made for a head; what is trained without new ones is the network
            name = "head" if self._has_features else "network"
            self._stages.append(_Steps(name, self.elapsed - sum(self._step.values())))
            self._is_over = self._has_features = False
        self._stages[-1].add(self.elapsed, self._step, images, slowed)
        self._step = {}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What was trained, in the order of time."""
        return tuple(steps.stage() for steps in self._stages)
