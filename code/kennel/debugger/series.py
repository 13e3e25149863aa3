"""What rules look at: for each tensor and mode a series of measurements, from a trial on disk or taken in process."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kennel.debugger.measures import Array, Comparison, Measure, Statistic, Summary, summarize
from kennel.errors import NothingToJudge


class Mode(StrEnum):
    """What the training was doing; GLOBAL where it did not say."""

    TRAIN = "TRAIN"
    EVAL = "EVAL"
    PREDICT = "PREDICT"
    GLOBAL = "GLOBAL"


class Series(Protocol):
    """One tensor in one mode over the steps of that mode."""

    @property
    def name(self) -> str:
        """The tensor's name, as smdebug gives it."""
        ...

    @property
    def mode(self) -> Mode:
        """The mode that the steps are counted in."""
        ...

    @property
    def global_steps(self) -> Mapping[int, int]:
        """The steps with measurements, rising, and for each the step counted over all modes."""
        ...

    def number(self, step: int, statistic: Statistic) -> float:
        """Return one number. Raises NothingToJudge when it was neither measured nor can be."""
        ...

    def measure(self, step: int, measure: Measure) -> float | None:
        """Return a number of the whole tensor. Raises NothingToJudge as above."""
        ...

    def compare(self, step: int, comparison: Comparison) -> float | None:
        """Return a number of the tensor now and earlier, None without an earlier one; raises as above."""
        ...

    def tensor(self, step: int) -> Array:
        """Return the whole tensor. Raises NothingToJudge as above."""
        ...


@dataclass
class RecordedSeries:
    """Numbers that were taken in a running training; whole tensors only of what is small, such as labels."""

    name: str
    mode: Mode
    global_steps: dict[int, int] = field(default_factory=dict)
    summaries: dict[int, Summary] = field(default_factory=dict)
    measured: dict[tuple[int, Measure | Comparison], float | None] = field(default_factory=dict)
    tensors: dict[int, Array] = field(default_factory=dict)

    def number(self, step: int, statistic: Statistic) -> float:
        """Return one number. Raises NothingToJudge when it was not measured."""
        return _known(self.name, step, statistic, self.summaries.get(step, Summary()))

    def measure(self, step: int, measure: Measure) -> float | None:
        """Return a number that was taken then. Raises NothingToJudge when it was not."""
        return self._of((step, measure))

    def compare(self, step: int, comparison: Comparison) -> float | None:
        """Return a number that was taken then. Raises NothingToJudge when it was not."""
        return self._of((step, comparison))

    def _of(self, key: tuple[int, Measure | Comparison]) -> float | None:
        if key not in self.measured:
            raise NothingToJudge(f"{type(key[1]).__name__} of {self.name} was not measured at step {key[0]}")
        return self.measured[key]

    def tensor(self, step: int) -> Array:
        """Return the whole tensor. Raises NothingToJudge when it was not kept."""
        if step not in self.tensors:
            raise NothingToJudge(f"{self.name} was measured, but not kept, at step {step}")
        return self.tensors[step]

    def thin(self, first: int = 0) -> None:
        """Forget every second step of the older half, but none of the `first` ones."""
        steps = list(self.global_steps)
        self._forget(set(steps[first + 1 : (len(steps) + 1) // 2 : 2]))

    def forget_before(self, step: int) -> None:
        """Forget all steps before one."""
        self._forget({known for known in self.global_steps if known < step})

    def _forget(self, steps: set[int]) -> None:
        if not steps:
            return
        for by_step in (self.global_steps, self.summaries, self.tensors):
            for step in steps & by_step.keys():
                del by_step[step]
        self.measured = {key: number for key, number in self.measured.items() if key[0] not in steps}


class StoredSeries:
    """Tensors that lie somewhere, whole or as smdebug's reductions of them; numbers are taken when asked."""

    def __init__(
        self,
        name: str,
        mode: Mode,
        global_steps: Mapping[int, int],
        load: Callable[[int], Array | None],
        reductions: Callable[[int], Summary],
    ) -> None:
        """`load` and `reductions` take a step of the mode; `load` answers None where only reductions were saved."""
        self.name, self.mode, self.global_steps = name, mode, global_steps
        self._load, self._reductions = load, reductions
        self._steps = sorted(global_steps)
        self._summaries: dict[int, Summary] = {}
        self._last: tuple[int, Array] | None = None  # the next question is mostly about the same step, or the next

    def number(self, step: int, statistic: Statistic) -> float:
        """Return one number. Raises NothingToJudge when neither the tensor nor a fitting reduction was saved."""
        if step not in self._summaries:
            tensor = self._read(step)
            self._summaries[step] = self._reductions(step) if tensor is None else summarize(tensor)
        return _known(self.name, step, statistic, self._summaries[step])

    def measure(self, step: int, measure: Measure) -> float | None:
        """Return a number of the whole tensor. Raises NothingToJudge when only reductions were saved."""
        return measure(self.tensor(step))

    def compare(self, step: int, comparison: Comparison) -> float | None:
        """Return a number of the tensor now and earlier, None if there is no earlier. Raises as `measure` does."""
        back = comparison.num_steps or 1
        index = bisect_right(self._steps, step - back)
        if not index:
            return None
        return comparison.compare(self.tensor(self._steps[index - 1]), self.tensor(step))

    def tensor(self, step: int) -> Array:
        """Return the whole tensor. Raises NothingToJudge when only reductions were saved."""
        tensor = self._read(step)
        if tensor is None:
            raise NothingToJudge(f"only reductions of {self.name} were saved, and this rule needs the whole tensor")
        return tensor

    def _read(self, step: int) -> Array | None:
        if self._last and self._last[0] == step:
            return self._last[1]
        tensor = self._load(step)
        if tensor is not None:
            self._last = (step, tensor)
        return tensor


def _known(name: str, step: int, statistic: Statistic, summary: Summary) -> float:
    value: float | None = getattr(summary, statistic)
    if value is None:
        raise NothingToJudge(f"neither {name} nor its {statistic} was saved at step {step}")
    return value


@dataclass(frozen=True)
class Collection:
    """A named set of tensors: those listed, and those whose name an expression finds (contract D2.3)."""

    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Return whether a tensor belongs to it."""
        return name in self.names or any(re.search(pattern, name) for pattern in self.patterns)


DEFAULT_COLLECTIONS: Mapping[str, Collection] = {  # smdebug's for PyTorch (contract D2.3)
    "weights": Collection(patterns=("^(?!gradient).*weight",)),
    "biases": Collection(patterns=("^(?!gradient).*bias",)),
    "gradients": Collection(patterns=("^gradient",)),
    "losses": Collection(patterns=("[Ll]oss_(?!input).*output",)),
}


@dataclass(frozen=True)
class Measurements:
    """All that is known of one training."""

    series: Sequence[Series]
    collections: Mapping[str, Collection] = field(default_factory=lambda: DEFAULT_COLLECTIONS)
    moments: Sequence[tuple[int, float]] = ()  # global step, and when it was measured in Unix seconds; rising
    ended: bool = True  # whether the training said that it ended
    now: float = 0.0  # Unix seconds at which the rules look
    others: Mapping[str, "Measurements"] = field(default_factory=dict)  # trainings to compare with, by name

    def modes(self) -> set[Mode]:
        """Return the modes that anything was measured in."""
        return {series.mode for series in self.series}

    def training_mode(self) -> Mode:
        """Return TRAIN, or GLOBAL for a training that never told its modes."""
        return Mode.TRAIN if Mode.TRAIN in self.modes() else Mode.GLOBAL

    def select(
        self, *, collections: Iterable[str] = (), regex: str | None = None, mode: Mode | None = None
    ) -> list[Series]:
        """Return the series of any of the collections, or found by the expression; all where neither is given."""
        wanted = [self.collections.get(name, Collection()) for name in collections]
        if regex:
            wanted.append(Collection(patterns=(regex,)))
        return [
            series
            for series in self.series
            if (mode is None or series.mode == mode)
            and (not wanted or any(collection.holds(series.name) for collection in wanted))
        ]
