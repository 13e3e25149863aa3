"""The numbers of `kennel.debugger.measures`, taken where a tensor lies; nothing here waits for the device."""

import math
from collections.abc import Collection
from functools import singledispatch

import torch
from torch import Tensor

from kennel.debugger.measures import (
    PERCENTILE_SAMPLE,
    ChannelMean,
    InactiveNodes,
    LayerVariance,
    Statistic,
    Unchanged,
    UpdateRatio,
)

ACTIVATION_SAMPLE = 2**18  # values of an activation that are looked at; MobileNetV2 has 10 million for each image


def thinned(activation: Tensor) -> Tensor:
    """Return every so many rows and columns of all images, where an activation is large."""
    if activation.ndim != 4 or activation.numel() <= ACTIVATION_SAMPLE:
        return activation
    stride = math.ceil(math.sqrt(activation.numel() / ACTIVATION_SAMPLE))
    return activation[:, :, ::stride, ::stride].contiguous()  # the original is read once


def summarize_on_device(tensor: Tensor, wanted: Collection[Statistic]) -> dict[Statistic, Tensor]:
    """Return the wanted numbers as `summarize` defines them, scalars of float64 on the device."""
    values = tensor.detach()
    if not values.is_floating_point() or values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    count = torch.full((), values.numel(), dtype=torch.float64, device=values.device)
    nans, infinities = values.isnan().sum(), values.isinf().sum()
    found: dict[Statistic, Tensor] = {"count": count, "nans": nans, "infinities": infinities}
    if "zeros" in wanted:
        found["zeros"] = (values == 0).sum() / count
    if {"p5", "p95"} & {*wanted}:
        found["p5"], found["p95"] = _percentiles(values)
    if {"mean", "mean_abs", "variance", "min", "max", "norm"} & {*wanted}:
        found |= _moments(values, count - nans - infinities, wanted)
    return {name: found[name].double() for name in wanted}


def _moments(values: Tensor, finite: Tensor, wanted: Collection[Statistic]) -> dict[Statistic, Tensor]:
    """Return the numbers of the values that are `finite`, so many of them."""
    known = values.nan_to_num(0.0, 0.0, 0.0)
    found: dict[Statistic, Tensor] = {}
    some = torch.where(finite > 0, 0.0, math.nan)  # NaN where there is no finite value
    if "mean_abs" in wanted:
        found["mean_abs"] = torch.linalg.vector_norm(known, 1, dtype=torch.float64) / finite
    if "norm" in wanted:
        found["norm"] = torch.linalg.vector_norm(known, dtype=torch.float64) + some
    if {"mean", "variance"} & {*wanted}:
        mean = known.sum(dtype=torch.float64) / finite
        found["mean"] = mean
        if "variance" in wanted:
            spread = torch.where(values.isfinite(), known - mean.to(known.dtype), 0.0)
            found["variance"] = torch.linalg.vector_norm(spread, dtype=torch.float64) ** 2 / finite
    if {"min", "max"} & {*wanted}:
        found["min"] = values.nan_to_num(math.inf, math.inf, math.inf).amin() + some
        found["max"] = values.nan_to_num(-math.inf, -math.inf, -math.inf).amax() + some
    return found


def _percentiles(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 5th and the 95th percentile of as many values as `summarize` takes."""
    sample = values.flatten()[:: -(-values.numel() // PERCENTILE_SAMPLE)].double()
    sample = torch.where(sample.isfinite(), sample, math.nan)
    places = 0.05 + 0.9 * torch.arange(2, dtype=torch.float64, device=sample.device)
    low, high = torch.nanquantile(sample, places)
    return low, high


@singledispatch
def measure_on_device(measure: object, tensor: Tensor) -> Tensor | None:
    """Return what a Measure says of a tensor, a scalar on the device, or None where it has no meaning."""
    # our own fault, of a rule whose measure has no such function yet: `test_on_device.py` holds them against numpy's
    raise NotImplementedError(f"{type(measure).__name__} cannot be taken while a training runs")


@measure_on_device.register
def _(measure: InactiveNodes, tensor: Tensor) -> Tensor | None:
    if not measure.can_judge(tensor.shape):
        return None
    active = (tensor > measure.low) & (tensor < measure.high)
    others = [axis for axis in range(tensor.ndim) if axis != 1]
    activity = 100 * active.sum(others).double() / (tensor.numel() // tensor.shape[1])
    return 100 * (activity < measure.below).double().mean()


@measure_on_device.register
def _(measure: LayerVariance, tensor: Tensor) -> Tensor | None:
    return None if tensor.ndim < 2 else tensor.double().var(correction=0)


@measure_on_device.register
def _(measure: ChannelMean, tensor: Tensor) -> Tensor | None:
    if tensor.ndim <= measure.axis or not tensor.numel():
        return None
    others = [axis for axis in range(tensor.ndim) if axis != measure.axis]
    means = tensor[: measure.samples].mean(others, dtype=torch.float64).reshape(-1)
    return means[means.abs().argmax()]


@singledispatch
def compare_on_device(comparison: object, earlier: Tensor, tensor: Tensor) -> Tensor:
    """Return what a Comparison says of a tensor and what it was before, a scalar on the device."""
    raise NotImplementedError(f"{type(comparison).__name__} cannot be taken while a training runs")


@compare_on_device.register
def _(comparison: UpdateRatio, earlier: Tensor, tensor: Tensor) -> Tensor:
    change = tensor - earlier
    if comparison.norm == "max":
        return torch.amax(change.abs() / (earlier.abs() + comparison.epsilon)).double()
    order = 1 if comparison.norm == "mean" else 2
    new, old = (torch.linalg.vector_norm(one, order, dtype=torch.float64) for one in (change, earlier))
    # a mean of absolute values is their sum over their count
    ratio: Tensor = new / (old + comparison.epsilon * (tensor.numel() if order == 1 else 1))
    return ratio


@compare_on_device.register
def _(comparison: Unchanged, earlier: Tensor, tensor: Tensor) -> Tensor:
    close = torch.isclose(tensor, earlier, comparison.rtol, comparison.atol, comparison.equal_nan)
    return close.all().double()
