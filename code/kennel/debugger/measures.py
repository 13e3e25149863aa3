"""What can be measured on one tensor at one step: numbers that every tensor gets, and those that one rule asks for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Statistic = Literal[
    "count", "mean", "mean_abs", "variance", "min", "max", "p5", "p95", "zeros", "nans", "infinities", "norm"
]
PERCENTILE_SAMPLE = 20_000  # values that percentiles are taken from; sorting a layer of 25 million takes seconds

_NODE_SAMPLES = 30  # of a node before it is called inactive


@dataclass(frozen=True, slots=True)
class Summary:
    """One tensor at one step in a few numbers, of its finite values only; None is what was not measured."""

    count: float | None = None  # of all values
    mean: float | None = None
    mean_abs: float | None = None
    variance: float | None = None
    min: float | None = None
    max: float | None = None
    p5: float | None = None
    p95: float | None = None
    zeros: float | None = None  # share of all values, 0 to 1
    nans: float | None = None  # how many
    infinities: float | None = None  # how many, of either sign
    norm: float | None = None  # Euclidean


# tensors of an exploded training overflow, and the numbers say so
_overflowing = np.errstate(all="ignore")


@_overflowing
def summarize(tensor: Array) -> Summary:
    """Return the numbers of a tensor; means and percentiles of one without a finite value are NaN."""
    values = np.asarray(tensor, dtype=np.float64).ravel()
    nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    zeros = float((values == 0).mean()) if values.size else 0.0
    finite = values[np.isfinite(values)] if nans or infinities else values
    if not finite.size:
        nothing = float("nan")
        return Summary(
            values.size, nothing, nothing, nothing, nothing, nothing, nothing, nothing, zeros, nans, infinities, nothing
        )
    p5, p95 = np.percentile(finite[:: -(-finite.size // PERCENTILE_SAMPLE)], [5, 95])
    return Summary(
        count=values.size,
        mean=float(finite.mean()),
        mean_abs=float(np.abs(finite).mean()),
        variance=float(finite.var()),
        min=float(finite.min()),
        max=float(finite.max()),
        p5=float(p5),
        p95=float(p95),
        zeros=zeros,
        nans=nans,
        infinities=infinities,
        norm=float(np.linalg.norm(finite)),
    )


class Measure(Protocol):
    """A number that one rule wants of a whole tensor.

    It is hashable, so that a hook in a running training can be told beforehand what will be asked for, measure it
    where the tensor is, and keep the number alone.
    """

    def __call__(self, tensor: Array) -> float | None:
        """Return the number, or None where it has no meaning for such a tensor."""
        ...


class Comparison(Protocol):
    """A number that one rule wants of a tensor and what the same tensor was before; hashable as a Measure is."""

    @property
    def num_steps(self) -> int | None:
        """How many steps back at least; None for the step that was saved before."""
        ...

    def compare(self, earlier: Array, tensor: Array) -> float:
        """Return the number."""
        ...


@dataclass(frozen=True)
class InactiveNodes:
    """Per cent of a layer's nodes that lie within (`low`, `high`) for fewer than `below` per cent of the samples.

    A node is an entry of the second axis: a unit, or of a convolution a channel with all its positions, which share
    one filter. Of fewer than 30 samples, healthy nodes are silent by chance.
    """

    low: float
    high: float
    below: float

    def __call__(self, tensor: Array) -> float | None:
        """Return 0 to 100, or None for a tensor without an axis of nodes, or of too few samples."""
        if not self.can_judge(tensor.shape):
            return None
        active = (tensor > self.low) & (tensor < self.high)
        activity = 100 * active.mean(axis=tuple(axis for axis in range(tensor.ndim) if axis != 1))
        return float(100 * (activity < self.below).mean())

    def can_judge(self, shape: Sequence[int]) -> bool:
        """Return whether a tensor of this shape has nodes, and enough samples of each."""
        return len(shape) > 1 and shape[1] > 0 and math.prod(shape) // shape[1] >= _NODE_SAMPLES


@dataclass(frozen=True)
class LayerVariance:
    """Variance of a layer's weights."""

    @_overflowing
    def __call__(self, tensor: Array) -> float | None:
        """Return the variance, or None for what no layer multiplies with: a scale of batch norm, a bias."""
        return None if tensor.ndim < 2 else float(tensor.astype(np.float64).var())


@dataclass(frozen=True)
class ChannelMean:
    """Mean of the channel whose mean is farthest from zero."""

    axis: int
    samples: int  # images that are looked at

    @_overflowing
    def __call__(self, tensor: Array) -> float | None:
        """Return the mean with its sign, or None for a tensor without that axis."""
        if tensor.ndim <= self.axis or not tensor.size:
            return None
        others = tuple(axis for axis in range(tensor.ndim) if axis != self.axis)
        means = np.atleast_1d(tensor[: self.samples].astype(np.float64).mean(axis=others))
        return float(means[np.abs(means).argmax()])


@dataclass(frozen=True)
class UpdateRatio:
    """Size of the change of weights as a share of the weights.

    `norm` says how a layer becomes one number, which AWS's page does not: `l2` divides Euclidean norms, `mean` means
    of absolute values, `max` takes the largest share of any single weight.
    """

    num_steps: int | None
    epsilon: float  # keeps weights of zero from dividing by zero
    norm: str = "l2"

    @_overflowing
    def compare(self, earlier: Array, tensor: Array) -> float:
        """Return the share."""
        old = earlier.astype(np.float64)
        change = np.abs(tensor.astype(np.float64) - old)
        if self.norm == "max":
            return float((change / (np.abs(old) + self.epsilon)).max())
        if self.norm == "mean":
            return float(change.mean() / (np.abs(old).mean() + self.epsilon))
        return float(np.linalg.norm(change) / (np.linalg.norm(old) + self.epsilon))


@dataclass(frozen=True)
class Unchanged:
    """1 where numpy.allclose finds a tensor equal to the one that was saved before, else 0."""

    rtol: float
    atol: float
    equal_nan: bool
    num_steps: None = None

    @_overflowing
    def compare(self, earlier: Array, tensor: Array) -> float:
        """Return 1 or 0."""
        if earlier.shape != tensor.shape:
            return 0.0
        return float(np.allclose(tensor, earlier, rtol=self.rtol, atol=self.atol, equal_nan=self.equal_nan))
