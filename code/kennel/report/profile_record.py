"""Where the time of a job went, as its profiler has written it down: read and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kennel.report.values import number, numbers, text

PROFILE = "profiler.json"


@dataclass(frozen=True)
class SlowStep:
    """One of the slowest steps."""

    step: int  # counted from 1, within its stage
    at: float  # seconds since the job began
    seconds: float
    parts: Mapping[str, float]  # seconds


@dataclass(frozen=True)
class Bin:
    """The steps that took between `low` and `high` seconds."""

    low: float
    high: float
    steps: int


@dataclass(frozen=True)
class Stage:
    """The steps that train the head, or the network."""

    name: str
    steps: int
    parts: Mapping[str, float]  # seconds of all steps
    mean: float  # seconds of a step; this and what follows is without the first steps and those that were looked into
    median: float
    deviation: float
    bins: Sequence[Bin]
    slowest: Sequence[SlowStep]

    @property
    def seconds(self) -> float:
        """What all steps took."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Operator:
    """What one of torch's operators took in the steps that were looked into."""

    name: str
    calls: int
    cpu: float  # seconds, without the operators that it called
    gpu: float  # seconds
    memory: int  # bytes on the GPU


@dataclass(frozen=True)
class Profile:
    """Where the time of a job went."""

    seconds: float
    parts: Mapping[str, float]  # seconds
    width: float  # seconds of a stretch of the timeline
    timeline: Mapping[str, Sequence[float]]  # seconds of each part in each stretch
    stages: Sequence[Stage]
    gpus: Sequence[str]  # their names
    at: Sequence[float]  # seconds, of each point of the series
    series: Mapping[str, Sequence[float]]  # per cent: cpu, io_wait, memory, and each GPU's
    operators: Sequence[Operator]  # those that took most first
    looked_into: tuple[int, str]  # steps, and the name of their stage
    trace: str  # the name of the file, or ""


def parse_profile(value: Mapping[str, Any]) -> Profile:
    """Return the profile that stands in `profiler.json`. Raises KeyError, TypeError or ValueError for anything else."""
    samples, operators = value["samples"], value["operators"]
    timeline = {text(part): tuple(map(number, row)) for part, row in value["timeline"]["parts"].items()}
    series = {text(name): tuple(map(number, row)) for name, row in samples["series"].items()}
    at = tuple(map(number, samples["at"]))
    if len({len(row) for row in timeline.values()}) > 1 or {len(row) for row in series.values()} - {len(at)}:
        raise ValueError("the series of profiler.json have different lengths")
    return Profile(
        seconds=number(value["seconds"]),
        parts=numbers(value["parts"]),
        width=number(value["timeline"]["width"]),
        timeline=timeline,
        stages=tuple(map(_stage, value["stages"])),
        gpus=tuple(map(text, value["gpus"])),
        at=at,
        series=series,
        operators=tuple(map(_operator, operators["table"])),
        looked_into=(int(operators["steps"]), text(operators["stage"] or "")),
        trace=text(operators["trace"] or ""),
    )


def _stage(value: Mapping[str, Any]) -> Stage:
    return Stage(
        name=text(value["name"]),
        steps=int(value["steps"]),
        parts=numbers(value["parts"]),
        mean=number(value["mean"]),
        median=number(value["median"]),
        deviation=number(value["deviation"]),
        bins=tuple(Bin(number(low), number(high), int(steps)) for low, high, steps in value["bins"]),
        slowest=tuple(
            SlowStep(int(slow["step"]), number(slow["at"]), number(slow["seconds"]), numbers(slow["parts"]))
            for slow in value["slowest"]
        ),
    )


def _operator(value: Mapping[str, Any]) -> Operator:
    return Operator(
        name=text(value["name"]),
        calls=int(value["calls"]),
        cpu=number(value["cpu"]),
        gpu=number(value["gpu"]),
        memory=int(value["memory"]),
    )
