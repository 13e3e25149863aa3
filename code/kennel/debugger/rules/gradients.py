"""Rules for numbers that grow too small or too large."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.debugger.needs import Need
from kennel.debugger.rules.by_step import findings_by_step
from kennel.debugger.series import Measurements, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, names, parameter


@dataclass(frozen=True)
class VanishingGradient:
    """mean(abs(gradient)) < threshold, per gradient tensor (contract D3).

    Biases are left out unless `biases` is set: a batch norm after them subtracts whatever they add, so that their
    gradient is zero in a healthy network, 17 times in MobileNetV2.
    """

    name: ClassVar[str] = "vanishing_gradient"
    fires: ClassVar[str] = "the mean of a gradient's absolute values is below `threshold`"
    advice: ClassVar[str] = (
        "train fewer blocks (unfreeze), take another activation than sigmoid or tanh, or weights that are not zero"
    )
    threshold: float = parameter(1e-7, "smallest mean of absolute values that is no issue", low=0.0, high=INFINITY)
    biases: bool = parameter(False, "judge gradients of biases too, as AWS does (not AWS's)")

    def needs(self) -> Iterator[Need]:
        """Yield the size of gradients."""
        yield Need(regex="^gradient" if self.biases else "^gradient(?!.*bias$)", statistics=("mean_abs",))

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with a vanished gradient. Raises NothingToJudge without gradients."""
        gradients = [
            series
            for series in measured.select(collections=("gradients",))
            if self.biases or not series.name.endswith("bias")
        ]
        if not gradients:
            raise NothingToJudge("no gradients were saved")
        yield from findings_by_step(
            self,
            gradients,
            lambda series, step: series.number(step, "mean_abs"),
            wrong=lambda value: value < self.threshold,
            worst=lambda value: -value,
            quantity="the mean absolute value",
            verdict=f"below {self.threshold:g}",
            thresholds=(self.threshold,),
        )


@dataclass(frozen=True)
class ExplodingTensor:
    """Any NaN or infinity in the tensors that are looked at (contract D3)."""

    name: ClassVar[str] = "exploding_tensor"
    fires: ClassVar[str] = "a tensor holds NaN or infinity"
    advice: ClassVar[str] = "lower the learning_rate, lengthen the warmup, or set precision to bfloat16 or float32"
    collection_names: str | None = parameter(None, "collections to look at, with commas between; all unless given")
    tensor_regex: str | None = parameter(None, "expression that finds the tensors to look at; all unless given")
    only_nan: bool = parameter(False, "look for NaN only, not for infinity")

    def needs(self) -> Iterator[Need]:
        """Yield the counts of what is no number."""
        looked_at = tuple(names(self.collection_names))
        yield Need(looked_at, self.tensor_regex, statistics=("nans",) if self.only_nan else ("nans", "infinities"))

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with an exploded tensor. Raises NothingToJudge without tensors."""
        checked = measured.select(collections=names(self.collection_names), regex=self.tensor_regex)
        if not checked:
            raise NothingToJudge("none of the tensors that were asked for was saved")
        yield from findings_by_step(
            self,
            checked,
            self._not_numbers,
            wrong=lambda count: count > 0,
            worst=lambda count: count,
            quantity=f"the count of NaN{'' if self.only_nan else ' and infinities'}",
            verdict="where there should be numbers",
            thresholds=(0.0,),
        )

    def _not_numbers(self, series: Series, step: int) -> float:
        return series.number(step, "nans") + (0 if self.only_nan else series.number(step, "infinities"))
