import itertools

import pytest
import torch

from kennel.hyperparameters import BACKBONES
from kennel.model.blocks import backbone_blocks
from tests.networks import build_on_meta, smallest_size


def first_names(name):
    blocks = backbone_blocks(name, build_on_meta(name, smallest_size(name)))
    return [block[0].rsplit(".", 1)[0] for block in blocks]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_parameter_is_in_one_block(name):
    backbone = build_on_meta(name, smallest_size(name))
    blocks = backbone_blocks(name, backbone)
    assert sorted(itertools.chain(*blocks)) == sorted(name for name, _ in backbone.named_parameters())
    assert len(blocks) >= 3
    assert all(blocks)


@pytest.mark.parametrize("name", BACKBONES)
def test_blocks_come_in_the_order_of_the_forward_pass(name):
    size = smallest_size(name)
    backbone = build_on_meta(name, size)
    block_of = {n: i for i, block in enumerate(backbone_blocks(name, backbone)) for n in block}
    seen, hooks = [], []
    for prefix, module in backbone.named_modules():
        own = [f"{prefix}.{n}" if prefix else n for n, _ in module.named_parameters(recurse=False)]
        if own and not list(module.children()):
            hooks.append(module.register_forward_pre_hook(lambda *_, i=block_of[own[0]]: seen.append(i)))
    with torch.inference_mode():
        backbone.eval()(torch.zeros(2, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    assert seen == sorted(seen)


def test_blocks_are_what_people_know():
    stages = ["layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"]
    assert first_names("resnet50") == first_names("wide_resnet50_2") == ["conv1", *stages]
    assert first_names("vgg16") == [f"features.{i}" for i in (0, 5, 10, 17, 24)] + ["classifier.0", "classifier.3"]
    assert first_names("vgg11_bn")[:3] == ["features.0", "features.4", "features.8"]
    assert len(first_names("mobilenet_v2")) == 19
    assert len(first_names("vit_b_16")) == 1 + 12
    assert len(first_names("densenet161")) == 1 + 4
    assert [name.split(".")[0] for name in first_names("googlenet")][:3] == ["conv1", "inception3a", "inception3b"]


def test_a_last_norm_and_a_transition_belong_to_the_block_before_them():
    vit = backbone_blocks("vit_b_16", build_on_meta("vit_b_16", 16))
    assert vit[0] == ("class_token", "conv_proj.weight", "conv_proj.bias", "encoder.pos_embedding")
    assert vit[-1][-2:] == ("encoder.ln.weight", "encoder.ln.bias")
    densenet = backbone_blocks("densenet121", build_on_meta("densenet121", 29))
    assert densenet[1][-1] == "features.transition1.conv.weight"
    assert densenet[-1][-2:] == ("features.norm5.weight", "features.norm5.bias")


def test_a_network_of_no_known_family_has_a_block_a_child_or_item_of_a_child():
    network = torch.nn.ModuleDict(
        {"stem": torch.nn.Linear(2, 2), "layers": torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(12)])}
    )
    blocks = backbone_blocks("new", network)
    assert [len(block) for block in blocks] == [2] * 13
