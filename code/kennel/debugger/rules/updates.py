"""The rule for steps that are too large or too small for the weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.debugger.measures import UpdateRatio
from kennel.debugger.needs import Need
from kennel.debugger.rules.by_step import findings_by_step
from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, parameter


@dataclass(frozen=True)
class WeightUpdateRatio:
    """Size of the change of a layer's weights as a share of the weights (contract D3).

    AWS's page names no norm: here it is the Euclidean norm of the change over that of the weights before, plus
    `epsilon`; `norm` offers two others. A change that is too small is an issue where it lasts: in a warm-up, that of
    large weights is lost in rounding for a while, and nothing is wrong (AWS's own rule has no patience). Weights
    without a gradient, where gradients of others were saved, are frozen on purpose and not judged.
    """

    name: ClassVar[str] = "weight_update_ratio"
    fires: ClassVar[str] = "weights change by more than `large_threshold` or less than `small_threshold` of themselves"
    advice: ClassVar[str] = "too large: lower the learning_rate or lengthen the warmup; too small: raise it"
    num_steps: int | None = parameter(None, "steps between the two weights; the step saved before unless given", low=1)
    large_threshold: float = parameter(10.0, "largest share that is no issue", low=0.0, high=INFINITY)
    small_threshold: float = parameter(1e-8, "smallest share that is no issue", low=0.0, high=INFINITY)
    epsilon: float = parameter(1e-9, "is added to the size of the weights", low=0.0, high=INFINITY)
    patience: int = parameter(30, "judged steps in a row that may change too little; 0 is AWS's own", low=0)
    norm: str = parameter("l2", "how a layer becomes one number (not AWS's)", choices=("l2", "mean", "max"))

    def needs(self) -> Iterator[Need]:
        """Yield the share by which weights change."""
        yield Need(("weights",), comparisons=(self._comparison,), mode=Mode.TRAIN)

    @property
    def _comparison(self) -> UpdateRatio:
        return UpdateRatio(self.num_steps, self.epsilon, self.norm)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with such a change. Raises NothingToJudge without weights of two steps."""
        weights = measured.select(collections=("weights",), mode=measured.training_mode())
        if not any(len(series.global_steps) > 1 for series in weights):
            raise NothingToJudge("no weights of two training steps were saved")
        comparison = self._comparison
        yield from findings_by_step(
            self,
            _trained(weights, measured),
            lambda series, step: series.compare(step, comparison),
            wrong=lambda ratio: ratio > self.large_threshold or ratio < self.small_threshold,
            worst=lambda ratio: ratio if ratio > self.large_threshold else -ratio,
            quantity="the change, as a share of the weights,",
            verdict=f"not within {self.small_threshold:g} and {self.large_threshold:g}",
            thresholds=(self.small_threshold, self.large_threshold),
            borne=lambda ratio: self.patience if ratio < self.small_threshold else 0,
        )


def _trained(weights: list[Series], measured: Measurements) -> list[Series]:
    gradients = {series.name.removeprefix("gradient/") for series in measured.select(collections=("gradients",))}
    trained = [series for series in weights if series.name in gradients]
    return trained or weights
