"""The rule for weights that training can hardly start from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import ClassVar

from kennel.debugger.measures import LayerVariance
from kennel.debugger.needs import Need
from kennel.debugger.rules.losses import mean_points
from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Curve, Finding, parameter


@dataclass(frozen=True)
class PoorWeightInitialization:
    """In the first steps, layers differ too much, gradients are too narrow, or the loss does not move (contract D3).

    Three conditions, of which one is enough. Where AWS's formula would fire on any healthy network, ours is the
    default, and `verbatim` takes theirs:

    - the variance of activation inputs changes by more than `threshold` times from layer to layer, as a mean over all
      (verbatim: the largest over the smallest, which is 500 in a new MobileNetV3). Where no inputs were saved, only
      weights of a layer that are all alike are an issue, as its nodes stay alike then (verbatim: the same ratio of
      weights; it is 20 to 30,000 in torchvision's own networks, whose batch norms make up for it);
    - the 95th less the 5th percentile of a weight's gradient is below `distribution_range`: as a share of the median
      layer's, since a gradient's own size depends on the loss and the batch. Biases are left out;
    - none of the last `patience` losses is below the mean of those before (verbatim: below the least of them).
    """

    name: ClassVar[str] = "poor_weight_initialization"
    fires: ClassVar[str] = "in the first `steps`, variances of layers differ, gradients are narrow or the loss stays"
    advice: ClassVar[str] = "start from pretrained weights, or from torchvision's own initialization (weights=none)"
    activation_inputs_regex: str = parameter(".*relu_input", "expression that finds the inputs of activations")
    threshold: float = parameter(
        10.0, "largest ratio of two layers' variances that is no issue", low=1.0, high=INFINITY
    )
    distribution_range: float = parameter(
        0.001, "smallest distance of a gradient's percentiles that is no issue", low=0.0, high=INFINITY
    )
    patience: int = parameter(5, "losses in a row that must not all be bad", low=1, high=2**31)
    steps: int = parameter(10, "steps from the first one that are judged", low=1, high=2**31)
    verbatim: bool = parameter(False, "take AWS's formulas to the letter (not AWS's)")

    def needs(self) -> Iterator[Need]:
        """Yield what is to be known of the first steps."""
        yield Need(regex=self.activation_inputs_regex, statistics=("variance",), mode=Mode.TRAIN, steps=self.steps)
        yield Need(("weights",), measures=(LayerVariance(),), mode=Mode.TRAIN, steps=self.steps)
        yield Need(regex="^gradient(?!.*bias$)", statistics=("p5", "p95"), mode=Mode.TRAIN, steps=self.steps)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps that show it. Raises NothingToJudge when nothing of the first steps was saved."""
        mode = measured.training_mode()
        layers = measured.select(regex=self.activation_inputs_regex, mode=mode)
        weights = measured.select(collections=("weights",), mode=mode)
        gradients = measured.select(collections=("gradients",), mode=mode)
        losses = measured.select(collections=("losses",), mode=mode)
        if not any(step < self.steps for s in (*layers, *weights, *gradients, *losses) for step in s.global_steps):
            raise NothingToJudge(f"no weights, gradients, inputs or losses of the first {self.steps} steps were saved")
        # a gradient has the shape of its weight; that of a bias says nothing
        matrices = [series for series in gradients if not series.name.endswith("bias")]
        yield from sorted(
            [
                *(self._variances(layers, "inputs") if layers else self._weights(weights)),
                *self._ranges(matrices),
                *self._stuck_losses(losses),
            ],
            key=lambda finding: finding.step,
        )

    def _numbers(self, series: list[Series], what: str) -> dict[int, dict[str, float]]:
        """Return for each of the first steps the wanted number of each tensor."""
        found: dict[int, dict[str, float]] = {}
        for one in series:
            for step in (step for step in one.global_steps if step < self.steps):
                number: float | None
                if what == "ranges":
                    number = one.number(step, "p95") - one.number(step, "p5")
                elif what == "weights":
                    number = one.measure(step, LayerVariance())
                else:
                    number = one.number(step, "variance")
                if number is not None and math.isfinite(number):  # of others exploding_tensor tells
                    found.setdefault(step, {})[one.name] = number
        return dict(sorted(found.items()))

    def _variances(self, layers: list[Series], what: str) -> Iterator[Finding]:
        found = self._numbers(layers, what)
        judged = {step: self._judged(_ratio(numbers), len(numbers)) for step, numbers in found.items()}
        curve = Curve(what, "ratio of variances", tuple(judged.items()), (self.threshold,))
        for step, ratio in judged.items():
            if ratio > self.threshold:
                low, high = min(found[step], key=found[step].__getitem__), max(found[step], key=found[step].__getitem__)
                whole = _ratio(found[step])
                evidence = {"ratio": whole, "judged": ratio, "smallest": low, "largest": high, "of": what}
                text = f"variance of {what} is {whole:.4g} times as large in {high} as in {low}"
                if found[step][high] == 0:
                    text = f"{what} of all layers have no variance"
                yield Finding(self.name, step, text, evidence, self.advice, (curve,))

    def _judged(self, ratio: float, layers: int) -> float:
        """Return the part of a ratio over all layers that is one layer's."""
        return ratio if self.verbatim or layers < 2 else ratio ** (1 / (layers - 1))

    def _weights(self, weights: list[Series]) -> Iterator[Finding]:
        if self.verbatim:
            yield from self._variances(weights, "weights")
            return
        for step, numbers in self._numbers(weights, "weights").items():
            alike = [name for name, variance in numbers.items() if variance == 0]
            if alike:
                text = f"all weights of {alike[0]} are alike; so it is for {len(alike)} of {len(numbers)} layers"
                yield Finding(self.name, step, text, {"alike": alike, "of": len(numbers)}, self.advice)

    def _ranges(self, gradients: list[Series]) -> Iterator[Finding]:
        found = self._numbers(gradients, "ranges")
        for step, numbers in found.items():
            narrow, usual = min(numbers, key=numbers.__getitem__), median(numbers.values())
            number = numbers[narrow] if self.verbatim else numbers[narrow] / usual if usual else 0.0
            if number < self.distribution_range:
                share = "" if self.verbatim else ", as a share of the median layer"
                evidence = {"tensor": narrow, "range": numbers[narrow], "median": usual}
                text = f"95th less 5th percentile of {narrow} is {number:.4g}{share}, below {self.distribution_range:g}"
                yield Finding(self.name, step, text, evidence, self.advice)

    def _stuck_losses(self, losses: list[Series]) -> Iterator[Finding]:
        points = [point for point in mean_points(losses) if point.step < self.steps]
        curve = Curve("training", "loss", tuple((point.step, point.value) for point in points))
        for index in range(self.patience, len(points)):
            before = [point.value for point in points[: index - self.patience + 1]]
            last = [point.value for point in points[index - self.patience + 1 : index + 1]]
            mark = min(before) if self.verbatim else fmean(before)
            if not min(last) < mark:
                text = f"no loss of the last {self.patience} is below {mark:.4g}; the last is {last[-1]:.4g}"
                evidence = {"mark": mark, "least": min(last), "last": last[-1]}
                yield Finding(self.name, points[index].step, text, evidence, self.advice, (curve,))


def _ratio(variances: dict[str, float]) -> float:
    low, high = min(variances.values()), max(variances.values())
    return high / low if low > 0 else math.inf
