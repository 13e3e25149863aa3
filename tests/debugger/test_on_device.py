"""Numbers that are taken where a tensor lies are those that are taken of a tensor on disk."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from kennel.debugger import on_device
from kennel.debugger.measures import ChannelMean, InactiveNodes, LayerVariance, Unchanged, UpdateRatio, summarize
from kennel.debugger.needs import Need
from kennel.debugger.on_device import compare_on_device, measure_on_device, summarize_on_device, thinned
from kennel.debugger.recorder import Recorder
from kennel.debugger.series import Mode

STATISTICS = tuple(field.name for field in dataclasses.fields(summarize(np.zeros(1))))
NORMAL = torch.randn(8, 6, 5, 5, generator=torch.Generator().manual_seed(0))
TENSORS = {
    "of a convolution": NORMAL,
    "in another order": NORMAL.to(memory_format=torch.channels_last),
    "of a layer": NORMAL[:, :, 0, 0],
    "with some that are no numbers": NORMAL.masked_fill(NORMAL > 1, math.nan).masked_fill(NORMAL < -2, -math.inf),
    "without a number": torch.full((40, 3), math.nan),
    "of zeros": torch.zeros(40, 4),
    "large": torch.randn(300, 200, generator=torch.Generator().manual_seed(1)) * 1e6,
    "scalar": torch.tensor(0.5),
    "of half precision": NORMAL.half(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_statistics_are_those_of_numpy(name):
    expected = dataclasses.asdict(summarize(TENSORS[name].float().numpy()))
    found = {key: float(value) for key, value in summarize_on_device(TENSORS[name], STATISTICS).items()}
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("measure", [InactiveNodes(0.0, math.inf, 60.0), LayerVariance(), ChannelMean(1, 4)])
@pytest.mark.parametrize("name", [name for name in TENSORS if name != "of half precision"])
def test_measures_are_those_of_numpy(name, measure):
    expected, found = measure(TENSORS[name].numpy()), measure_on_device(measure, TENSORS[name])
    assert (found is None) == (expected is None)
    if found is not None:
        assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    "comparison",
    [*(UpdateRatio(None, 1e-9, norm) for norm in ("l2", "mean", "max")), Unchanged(1e-5, 1e-8, equal_nan=False)],
)
@pytest.mark.parametrize("change", [0.0, 1e-9, 0.1])
def test_comparisons_are_those_of_numpy(comparison, change):
    expected = comparison.compare(NORMAL.numpy(), (NORMAL + change).numpy())
    assert float(compare_on_device(comparison, NORMAL, NORMAL + change)) == pytest.approx(expected, rel=1e-5)


def test_of_a_large_activation_all_images_and_channels_are_looked_at(monkeypatch):
    monkeypatch.setattr(on_device, "ACTIVATION_SAMPLE", 100)
    assert thinned(NORMAL).shape == (8, 6, 2, 2)
    assert thinned(NORMAL[:, :, 0, 0]).shape == (8, 6)


def recorded(scale=1.0, broken=(), steps=120):
    """Train one weight for some steps of two phases; the gradients of `broken` steps are infinite."""
    seen = Recorder((Need(regex="^gradient", statistics=("mean_abs",)),), clock=lambda: 0.0)
    net = torch.nn.Linear(1, 1, bias=False)
    for step in range(steps):
        if step in (0, 62):
            seen.begin_phase(net)
        seen.begin_step(Mode.TRAIN, torch.zeros(1))
        seen.end_forward(torch.zeros(1, 2), torch.zeros(()))
        net.weight.grad = torch.full((1, 1), math.inf if step in broken else 3.0 * scale)
        seen.end_backward(lambda: scale)
        seen.end_step()
    return next(series for series in seen.measurements(ended=True).series if series.name == "gradient/Linear_weight")


def test_the_first_ten_steps_of_each_phase_and_every_fiftieth_are_measured():
    assert list(recorded().global_steps) == [*range(10), 50, *range(62, 72), 100]


def test_gradients_of_a_scaled_loss_are_scaled_back_and_steps_that_are_passed_over_are_not_judged():
    series = recorded(scale=1024.0, broken=(0, 1), steps=20)
    assert list(series.global_steps) == list(range(2, 10))
    assert series.number(2, "mean_abs") == 3.0
