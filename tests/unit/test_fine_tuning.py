import pytest
import torch
from torch import nn

from kennel.errors import HyperparameterError
from kennel.hyperparameters import parse_hyperparameters
from kennel.model.backbones import build_backbone
from kennel.model.classifier import Classifier, make_head
from kennel.training.fine_tuning import train_mode, trained_blocks, unfreeze
from kennel.training.optimizer import make_optimizer, make_scheduler


def classifier(name="resnet18"):
    backbone = build_backbone(name, 64)
    return Classifier(backbone, make_head(backbone, 8, 0.5, 3))


def learning(network):
    return {name for name, weight in network.named_parameters() if weight.requires_grad}


def test_only_the_named_blocks_and_the_head_learn():
    network = classifier()
    unfreeze(network, parse_hyperparameters({"backbone": "resnet18", "unfreeze": "2"}))
    assert {name.split(".")[1] for name in learning(network) if name.startswith("backbone")} == {"layer3", "layer4"}
    assert {name for name in learning(network) if name.startswith("head")} == {
        "head.0.weight",
        "head.0.bias",
        "head.3.weight",
        "head.3.bias",
    }
    unfreeze(network, parse_hyperparameters({"backbone": "resnet18", "unfreeze": "all"}))
    assert learning(network) == {name for name, _ in network.named_parameters()}


def test_each_block_learns_slower_than_the_one_above_it_and_biases_and_norms_do_not_decay():
    network = classifier()
    hp = parse_hyperparameters({"backbone": "resnet18", "unfreeze": "all", "layer_decay": "0.5", "weight_decay": "0.1"})
    optimizer = make_optimizer(unfreeze(network, hp), hp)
    names = {id(weight): name for name, weight in network.named_parameters()}
    rates, decays = {}, {}
    for group in optimizer.param_groups:
        for weight in group["params"]:
            rates[names[id(weight)]] = group["lr"]
            decays[names[id(weight)]] = group["weight_decay"]
    top = hp.fine_tune_learning_rate
    assert rates["head.3.weight"] == rates["backbone.layer4.0.conv1.weight"] == pytest.approx(top)
    assert rates["backbone.layer3.0.conv1.weight"] == pytest.approx(top / 2)
    assert rates["backbone.conv1.weight"] == pytest.approx(top / 16)
    assert decays["backbone.conv1.weight"] == 0.1
    assert decays["backbone.bn1.weight"] == decays["head.3.bias"] == 0
    assert set(rates) == set(names.values())


def test_the_rates_rise_at_first_and_fall_to_nothing():
    hp = parse_hyperparameters({"scheduler": "cosine"})
    optimizer = make_optimizer([{"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0}], hp)
    scheduler = make_scheduler(optimizer, hp, steps=20, warmup=0.2)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_more_blocks_than_there_are_is_refused_with_how_many_there_are():
    hp = parse_hyperparameters({"backbone": "resnet18", "unfreeze": "9"})
    with pytest.raises(HyperparameterError, match=r"unfreeze=9: resnet18 has 5 blocks; use 1 to 5, or unfreeze=all"):
        trained_blocks(classifier().backbone, hp)


@pytest.mark.parametrize(("unfrozen", "norms"), [("2", False), ("all", False), ("all", True)])
def test_batch_norms_and_frozen_blocks_stay_as_they_are_unless_all_is_trained_from_scratch(unfrozen, norms):
    network = classifier()
    unfreeze(network, parse_hyperparameters({"backbone": "resnet18", "unfreeze": unfrozen}))
    train_mode(network, norms)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(4, 3, 64, 64))
    changed = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert bool(changed) is norms
    assert network.head.training


def test_dropped_layers_of_frozen_blocks_are_not_dropped():
    network = classifier("efficientnet_b0")
    unfreeze(network, parse_hyperparameters({"backbone": "efficientnet_b0", "unfreeze": "1"}))
    train_mode(network, norms=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.backbone(images), network.backbone(images))  # stochastic depth draws nothing


@pytest.mark.parametrize("name", ["mixup", "cutmix", "ema_decay"])
def test_what_needs_images_is_refused_where_only_the_head_is_trained(name):
    with pytest.raises(HyperparameterError, match=rf"{name}=0\.5: not with a frozen backbone"):
        parse_hyperparameters({name: "0.5"})
    with pytest.raises(HyperparameterError, match="augment=randaugment: not with a frozen backbone"):
        parse_hyperparameters({"augment": "randaugment"})
