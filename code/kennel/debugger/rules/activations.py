"""Rules for layers whose nodes say nothing any more."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.debugger.measures import InactiveNodes
from kennel.debugger.needs import Need
from kennel.debugger.rules.by_step import findings_by_step
from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, names, parameter

_INACTIVITY = "a node is inactive when it is active for fewer per cent of the samples"
_LAYER = "per cent of a layer's nodes that may be inactive"


def _refuse_small_batches(found: list[Series], value: Callable[[Series, int], float | None]) -> None:
    if all(value(series, step) is None for series in found for step in series.global_steps):
        raise NothingToJudge("batches are too small to tell inactive nodes from others; 30 images would do")


@dataclass(frozen=True)
class DeadRelu:
    """The share of ReLUs in a layer that are hardly ever above zero is over `threshold_layer` per cent (contract D3).

    Of a convolution a channel counts as one node, over all its positions.
    """

    name: ClassVar[str] = "dead_relu"
    fires: ClassVar[str] = "more than `threshold_layer` per cent of a layer's ReLUs are above zero too seldom"
    advice: ClassVar[str] = "lower the learning_rate, lengthen the warmup, or take a leaky activation"
    tensor_regex: str = parameter(".*relu_output", "expression that finds the outputs of ReLUs")
    threshold_inactivity: float = parameter(1.0, _INACTIVITY, low=0.0, high=100.0)
    threshold_layer: float = parameter(50.0, _LAYER, low=0.0, high=100.0)

    def needs(self) -> Iterator[Need]:
        """Yield the share of dead nodes of each output."""
        yield Need(regex=self.tensor_regex, measures=(self._measure,), mode=Mode.TRAIN)

    @property
    def _measure(self) -> InactiveNodes:
        return InactiveNodes(0.0, INFINITY, self.threshold_inactivity)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with a dead layer. Raises NothingToJudge without outputs of ReLUs."""
        outputs = measured.select(regex=self.tensor_regex)
        if not outputs:
            raise NothingToJudge(f"no relu outputs were saved (no tensor is called {self.tensor_regex})")
        _refuse_small_batches(outputs, lambda series, step: series.measure(step, self._measure))
        yield from findings_by_step(
            self,
            outputs,
            lambda series, step: series.measure(step, self._measure),
            wrong=lambda percent: percent > self.threshold_layer,
            worst=lambda percent: percent,
            quantity="the percentage of dead ReLUs",
            verdict=f"above {self.threshold_layer:g}",
            thresholds=(self.threshold_layer,),
        )


@dataclass(frozen=True)
class SaturatedActivation:
    """Too many nodes of a layer get inputs at which tanh or sigmoid is flat (contract D3).

    A node is saturated when its input lies between the two thresholds for fewer than `threshold_inactivity` per cent of
    the samples. A tensor whose name has neither `tanh` nor `sigmoid` in it is judged by the bounds of tanh.
    """

    name: ClassVar[str] = "saturated_activation"
    fires: ClassVar[str] = "more than `threshold_layer` per cent of a layer's tanh or sigmoid nodes are saturated"
    advice: ClassVar[str] = "normalize what goes into the layer, start from smaller weights, or take ReLU"
    collection_names: str | None = parameter(None, "collections to look at, with commas between")
    tensor_regex: str = parameter(".*tanh_input|.*sigmoid_input", "expression that finds the inputs of activations")
    threshold_tanh_min: float = parameter(-9.4999, "below it tanh is flat", low=-INFINITY, high=INFINITY)
    threshold_tanh_max: float = parameter(9.4999, "above it tanh is flat", low=-INFINITY, high=INFINITY)
    threshold_sigmoid_min: float = parameter(-23.0, "below it sigmoid is flat", low=-INFINITY, high=INFINITY)
    threshold_sigmoid_max: float = parameter(16.99999, "above it sigmoid is flat", low=-INFINITY, high=INFINITY)
    threshold_inactivity: float = parameter(1.0, _INACTIVITY, low=0.0, high=100.0)
    threshold_layer: float = parameter(50.0, _LAYER, low=0.0, high=100.0)

    def needs(self) -> Iterator[Need]:
        """Yield the share of saturated nodes of each input, by the bounds of either activation."""
        measures = self._measure("tanh"), self._measure("sigmoid")
        yield Need(tuple(names(self.collection_names)), self.tensor_regex, measures=measures, mode=Mode.TRAIN)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with a saturated layer. Raises NothingToJudge without inputs of activations."""
        inputs = measured.select(collections=names(self.collection_names), regex=self.tensor_regex)
        if not inputs:
            raise NothingToJudge(f"no tanh or sigmoid inputs were saved (no tensor is called {self.tensor_regex})")
        _refuse_small_batches(inputs, self._saturated)
        yield from findings_by_step(
            self,
            inputs,
            self._saturated,
            wrong=lambda percent: percent > self.threshold_layer,
            worst=lambda percent: percent,
            quantity="the percentage of saturated nodes",
            verdict=f"above {self.threshold_layer:g}",
            thresholds=(self.threshold_layer,),
        )

    def _saturated(self, series: Series, step: int) -> float | None:
        return series.measure(step, self._measure(series.name))

    def _measure(self, name: str) -> InactiveNodes:
        low, high = self.threshold_tanh_min, self.threshold_tanh_max
        if "sigmoid" in name.lower():
            low, high = self.threshold_sigmoid_min, self.threshold_sigmoid_max
        return InactiveNodes(low, high, self.threshold_inactivity)
