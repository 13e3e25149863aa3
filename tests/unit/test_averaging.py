import pytest
import torch
from torch import nn

from kennel.training.averaging import WeightAverage


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))


def trained_steps(count, average=None):
    """Take `count` steps of training, and return the weights after each; `average` follows them."""
    module = network()
    average = average(module) if average else None
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    history = [{name: value.clone() for name, value in module.state_dict().items()}]
    for _ in range(count):
        optimizer.zero_grad()
        module(torch.randn(4, 3, 6, 6)).sigmoid().sum().backward()
        optimizer.step()
        if average:
            average.update(module)
        history.append({name: value.clone() for name, value in module.state_dict().items()})
    return module, average, history


def test_the_average_is_that_of_the_definition_with_running_statistics_and_a_warm_up():
    module, average, history = trained_steps(60, lambda module: WeightAverage(module, 0.8))
    expected = {name: value.clone() for name, value in history[0].items()}
    for step, weights in enumerate(history[1:]):
        decay = min(0.8, (1 + step) / (10 + step))
        for name, value in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    averaged = average.module.state_dict()
    assert set(averaged) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(averaged[name], value, atol=1e-5), name
    assert averaged["1.num_batches_tracked"] == module[1].num_batches_tracked
    assert not torch.allclose(averaged["1.running_mean"], module[1].running_mean)


def test_the_averaged_network_is_a_copy_that_only_answers():
    module, average, _ = trained_steps(1, lambda module: WeightAverage(module, 0.9))
    assert not average.module.training
    assert module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    images = torch.randn(2, 3, 6, 6)
    assert torch.equal(average.module(images), average.module(images))


def test_what_was_saved_goes_on_exactly(tmp_path):
    module, average, _ = trained_steps(3, lambda module: WeightAverage(module, 0.99))
    torch.save(average.state_dict(), tmp_path / "average")
    resumed = WeightAverage(module, 0.99)
    resumed.load_state_dict(torch.load(tmp_path / "average", weights_only=True))
    for _ in range(2):
        with torch.no_grad():
            module[0].weight.add_(1.0)
        average.update(module)
        resumed.update(module)
    for name, value in average.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value), name


def test_a_short_training_is_not_held_back_by_the_first_weights():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average = WeightAverage(module, 0.9999)
    nn.init.constant_(module.weight, 1.0)
    for _ in range(20):
        average.update(module)
    assert average.module.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_the_memory_stays_channels_last():
    module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    average = WeightAverage(module, 0.9)
    average.update(module)
    assert average.module.weight.is_contiguous(memory_format=torch.channels_last)
