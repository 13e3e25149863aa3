"""What several rules want of losses, and the rule for one that does not fall."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import Curve, Finding, names, parameter


@dataclass(frozen=True)
class Point:
    """A loss."""

    step: int  # of its mode
    at: int  # step over all modes
    value: float


def points_of(series: Series) -> list[Point]:
    """Return the losses of one tensor; one with a number a sample counts with its mean."""
    return [Point(step, at, series.number(step, "mean")) for step, at in series.global_steps.items()]


def mean_points(series: Iterable[Series]) -> list[Point]:
    """Return one loss a step, the mean over several tensors."""
    by_step: dict[tuple[int, int], list[float]] = {}
    for point in (point for one in series for point in points_of(one)):
        by_step.setdefault((point.at, point.step), []).append(point.value)
    return [Point(step, at, fmean(values)) for (at, step), values in sorted(by_step.items())]


def passes(points: Iterable[Point]) -> list[list[Point]]:
    """Return the losses of each evaluation: steps of a mode that no step of another mode parts."""
    found: list[list[Point]] = []
    for point in points:
        # the distance of the two counts grows only while another mode has steps
        if found and found[-1][-1].at - found[-1][-1].step == point.at - point.step:
            found[-1].append(point)
        else:
            found.append([point])
    return found


@dataclass(frozen=True)
class LossNotDecreasing:
    """A loss is not `diff_percent` lower than `num_steps` before, or `increase_threshold_percent` higher (contract D3).

    Judged every `num_steps`, in AWS's order of modes when `mode` is not given: EVAL, TRAIN, GLOBAL, the first with
    enough losses. Losses of EVAL are averaged over each evaluation, as nothing is learned within one. The loss of a
    single batch is mostly noise: with `smooth`, the mean of the losses saved within `num_steps` steps is compared, not
    one loss with another. Where losses are saved more seldom, both are the same.
    """

    name: ClassVar[str] = "loss_not_decreasing"
    fires: ClassVar[str] = (
        "a loss falls by less than `diff_percent`, or rises by more than `increase_threshold_percent`, in `num_steps`"
    )
    advice: ClassVar[str] = (
        "at the start of a training: another learning_rate, ten times lower or higher, and look at the labels; at its "
        "end: fewer epochs, or early_stopping_patience"
    )
    collection_names: str | None = parameter(None, "collections to look at, with commas between")
    tensor_regex: str | None = parameter(None, "expression that finds the losses")
    use_losses_collection: bool = parameter(True, "look at the collection `losses`, where neither is given")
    num_steps: int = parameter(10, "steps between two losses that are compared", low=1, high=2**31)
    diff_percent: float = parameter(0.1, "per cent that a loss should fall", low=0.0, high=100.0)
    increase_threshold_percent: float = parameter(5.0, "per cent that a loss may rise", low=0.0, high=float("inf"))
    mode: str | None = parameter(
        None,
        "mode whose losses are judged; the first that has enough unless given",
        choices=("EVAL", "TRAIN", "GLOBAL"),
    )
    smooth: bool = parameter(True, "compare means over num_steps instead of single losses (not AWS's)")

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps at which a loss did not fall. Raises NothingToJudge without losses that far apart."""
        collections = names(self.collection_names)
        if not collections and not self.tensor_regex and self.use_losses_collection:
            collections = ["losses"]
        if not collections and not self.tensor_regex:
            raise NothingToJudge("it wants collection_names, tensor_regex or use_losses_collection=True")
        found = measured.select(collections=collections, regex=self.tensor_regex)
        for mode in (Mode(self.mode),) if self.mode else (Mode.EVAL, Mode.TRAIN, Mode.GLOBAL):
            compared = [c for name in sorted({s.name for s in found}) for c in self._compared(name, mode, found)]
            if compared:
                yield from self._findings(sorted(compared, key=lambda one: one[0].step))
                return
        raise NothingToJudge(f"no losses of two training steps that are {self.num_steps} apart were saved")

    def _compared(self, name: str, mode: Mode, found: list[Series]) -> list[tuple[Point, Point, str, Curve]]:
        """Return each judged loss with the one that it is compared with, the tensor's name and its curve."""
        if mode is Mode.GLOBAL:  # a step of any mode is a step over all
            points = [Point(p.at, p.at, p.value) for s in found if s.name == name for p in points_of(s)]
        else:
            points = [point for s in found if s.name == name and s.mode == mode for point in points_of(s)]
        points.sort(key=lambda point: point.at)
        if mode is Mode.EVAL:
            points = [Point(p[-1].step, p[-1].at, fmean(point.value for point in p)) for p in passes(points)]
        curve = Curve(f"{name} ({mode})", "loss", tuple((point.step, point.value) for point in points))
        compared: list[tuple[Point, Point, str, Curve]] = []
        steps = [point.step for point in points]
        last: int | None = None
        for point in points:
            if last is not None and point.step - last < self.num_steps:
                continue
            last = point.step
            earlier = bisect_right(steps, point.step - self.num_steps) - 1
            if earlier >= 0:
                now = bisect_right(steps, point.step) - 1
                compared.append(
                    (self._smoothed(points, steps, now), self._smoothed(points, steps, earlier), name, curve)
                )
        return compared

    def _smoothed(self, points: list[Point], steps: list[int], index: int) -> Point:
        """Return a loss, or the mean of those within `num_steps` up to it."""
        point = points[index]
        if not self.smooth:
            return point
        near = points[bisect_right(steps, point.step - self.num_steps) : index + 1]
        return Point(point.step, point.at, fmean(one.value for one in near))

    def _findings(self, compared: list[tuple[Point, Point, str, Curve]]) -> Iterator[Finding]:
        for now, before, name, curve in compared:
            fall = 100 * (before.value - now.value) / abs(before.value) if before.value else 0.0
            if math.isnan(now.value):
                verb = "is no number any more,"
            elif fall >= self.diff_percent:  # AWS's second condition, a rise by more than so much, is within the first
                continue
            elif fall < -self.increase_threshold_percent:
                verb = f"rose by {-fall:.3g} %, over {self.increase_threshold_percent:g} %,"
            elif fall < 0:
                verb = f"rose by {-fall:.3g} %,"
            else:
                verb = f"fell by {fall:.3g} % only,"
            yield Finding(
                self.name,
                now.step,
                f"{name} {verb} from {before.value:.4g} at step {before.step} to {now.value:.4g}",
                {"tensor": name, "before": before.value, "now": now.value, "fall_percent": fall, "since": before.step},
                self.advice,
                (curve,),
            )
