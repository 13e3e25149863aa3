"""Rules for any tensor that the user names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from kennel.debugger.measures import Unchanged
from kennel.debugger.needs import Need
from kennel.debugger.rules.by_step import findings_by_step
from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, names, parameter

_COLLECTIONS = "collections to look at, with commas between; this or tensor_regex is needed"
_REGEX = "expression that finds the tensors to look at; this or collection_names is needed"


def _need(collection_names: str | None, tensor_regex: str | None, **asked: Any) -> Iterator[Need]:
    if collection_names or tensor_regex:
        yield Need(tuple(names(collection_names)), tensor_regex, mode=Mode.TRAIN, **asked)


def _named(measured: Measurements, collection_names: str | None, tensor_regex: str | None) -> list[Series]:
    if not collection_names and not tensor_regex:
        raise NothingToJudge("it wants collection_names or tensor_regex")
    found = measured.select(collections=names(collection_names), regex=tensor_regex)
    if not found:
        raise NothingToJudge(f"no tensor of {collection_names or tensor_regex} was saved")
    return found


@dataclass(frozen=True)
class AllZero:
    """The share of zeros in a tensor is at least `threshold` per cent (contract D3)."""

    name: ClassVar[str] = "all_zero"
    fires: ClassVar[str] = "at least `threshold` per cent of a tensor are zeros"
    advice: ClassVar[str] = "see whether the layer is reached at all, and whether its weights start at zero"
    collection_names: str | None = parameter(None, _COLLECTIONS)
    tensor_regex: str | None = parameter(None, _REGEX)
    threshold: float = parameter(100.0, "per cent of zeros that are an issue", low=0.0, high=100.0)

    def needs(self) -> Iterator[Need]:
        """Yield the share of zeros in the tensors that are named."""
        yield from _need(self.collection_names, self.tensor_regex, statistics=("zeros",))

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with a tensor of zeros. Raises NothingToJudge when no tensors are named, or none is there."""
        yield from findings_by_step(
            self,
            _named(measured, self.collection_names, self.tensor_regex),
            lambda series, step: 100 * series.number(step, "zeros"),
            wrong=lambda percent: percent >= self.threshold,
            worst=lambda percent: percent,
            quantity="the percentage of zeros",
            verdict=f"{self.threshold:g} or more",
            thresholds=(self.threshold,),
        )


@dataclass(frozen=True)
class TensorVariance:
    """The variance of a tensor is above `max_threshold` or below `min_threshold` (contract D3)."""

    name: ClassVar[str] = "tensor_variance"
    fires: ClassVar[str] = "the variance of a tensor is above `max_threshold` or below `min_threshold`"
    advice: ClassVar[str] = "normalize what goes into the layer, or start its weights from another spread"
    collection_names: str | None = parameter(None, _COLLECTIONS)
    tensor_regex: str | None = parameter(None, _REGEX)
    max_threshold: float | None = parameter(None, "largest variance that is no issue", low=0.0, high=INFINITY)
    min_threshold: float | None = parameter(None, "smallest variance that is no issue", low=0.0, high=INFINITY)

    def needs(self) -> Iterator[Need]:
        """Yield the variance of the tensors that are named."""
        yield from _need(self.collection_names, self.tensor_regex, statistics=("variance",))

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with such a variance. Raises NothingToJudge without tensors or thresholds."""
        checked = _named(measured, self.collection_names, self.tensor_regex)
        if self.max_threshold is None and self.min_threshold is None:
            raise NothingToJudge("it wants max_threshold or min_threshold")
        low = -INFINITY if self.min_threshold is None else self.min_threshold
        high = INFINITY if self.max_threshold is None else self.max_threshold
        yield from findings_by_step(
            self,
            checked,
            lambda series, step: series.number(step, "variance"),
            wrong=lambda variance: variance < low or variance > high,
            worst=lambda variance: max(low - variance, variance - high),
            quantity="the variance",
            verdict=f"not within {max(low, 0.0):g} and {high:g}",
            thresholds=tuple(bound for bound in (self.min_threshold, self.max_threshold) if bound is not None),
        )


@dataclass(frozen=True)
class UnchangedTensor:
    """A tensor stays as it is over `num_steps` steps that were saved (contract D3).

    numpy.allclose compares each of them with the one before; AWS's page does not say which pairs it compares. Steps of
    evaluation are passed over: no weight changes within one.
    """

    name: ClassVar[str] = "unchanged_tensor"
    fires: ClassVar[str] = "numpy.allclose finds a tensor equal over the last `num_steps` saved steps"
    advice: ClassVar[str] = "raise the learning_rate, or see whether the tensor gets a gradient at all"
    collection_names: str | None = parameter(None, _COLLECTIONS)
    tensor_regex: str | None = parameter(None, _REGEX)
    num_steps: int = parameter(3, "saved steps that are compared", low=2, high=2**31)
    rtol: float = parameter(1e-5, "relative tolerance", low=0.0, high=INFINITY)
    atol: float = parameter(1e-8, "absolute tolerance", low=0.0, high=INFINITY)
    equal_nan: bool = parameter(False, "take NaN for equal to NaN")

    def needs(self) -> Iterator[Need]:
        """Yield whether the tensors that are named have changed."""
        yield from _need(self.collection_names, self.tensor_regex, comparisons=(self._comparison,))

    @property
    def _comparison(self) -> Unchanged:
        return Unchanged(self.rtol, self.atol, self.equal_nan)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps up to which nothing changed. Raises NothingToJudge as AllZero does."""
        comparison = self._comparison
        alike: dict[tuple[str, str], int] = {}

        def steps_alike(series: Series, step: int) -> float | None:
            same = series.compare(step, comparison)
            key = (series.name, series.mode)
            alike[key] = alike.get(key, 1) + 1 if same else 1
            return None if same is None else alike[key]

        named = _named(measured, self.collection_names, self.tensor_regex)
        yield from findings_by_step(
            self,
            [series for series in named if series.mode == measured.training_mode()],
            steps_alike,
            wrong=lambda count: count >= self.num_steps,
            worst=lambda count: count,
            quantity="the number of saved steps without a change",
            verdict=f"{self.num_steps} or more",
            thresholds=(float(self.num_steps),),
        )
