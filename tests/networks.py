"""torchvision's networks without their numbers: built on torch's meta device, all eighty are a matter of seconds."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torchvision.models.regnet import BlockParams

from kennel.errors import HyperparameterError
from kennel.model.backbones import build_backbone, check_image_size

_NAMES = {  # by how many features they make of an image
    400: "regnet_x_400mf",
    440: "regnet_y_400mf",
    512: "maxvit_t resnet18 resnet34 squeezenet1_0 squeezenet1_1",
    672: "regnet_x_800mf",
    768: "convnext_small convnext_tiny swin_s swin_t swin_v2_s swin_v2_t vit_b_16 vit_b_32",
    784: "regnet_y_800mf",
    888: "regnet_y_1_6gf",
    912: "regnet_x_1_6gf",
    1008: "regnet_x_3_2gf",
    1024: "convnext_base densenet121 googlenet mobilenet_v3_small shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
    "shufflenet_v2_x1_5 swin_b swin_v2_b vit_l_16 vit_l_32",
    1280: "efficientnet_b0 efficientnet_b1 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s mnasnet0_5 "
    "mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large vit_h_14",
    1408: "efficientnet_b2",
    1512: "regnet_y_3_2gf",
    1536: "convnext_large efficientnet_b3",
    1664: "densenet169",
    1792: "efficientnet_b4",
    1920: "densenet201 regnet_x_8gf",
    2016: "regnet_y_8gf",
    2048: "efficientnet_b5 inception_v3 regnet_x_16gf resnet101 resnet152 resnet50 resnext101_32x8d "
    "resnext101_64x4d resnext50_32x4d shufflenet_v2_x2_0 wide_resnet101_2 wide_resnet50_2",
    2208: "densenet161",
    2304: "efficientnet_b6",
    2520: "regnet_x_32gf",
    2560: "efficientnet_b7",
    3024: "regnet_y_16gf",
    3712: "regnet_y_32gf",
    4096: "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
    7392: "regnet_y_128gf",
}
FEATURES = {name: count for count, names in _NAMES.items() for name in names.split()}


@functools.cache
def smallest_size(name: str) -> int:
    """Return the smallest image size that Kennel allows for the network."""
    for size in range(16, 1025):
        try:
            check_image_size(name, size)
        except HyperparameterError:
            continue
        return size
    raise AssertionError(f"no image size is right for {name}")


@functools.cache
def build_on_meta(name: str, size: int) -> nn.Module:
    """Return the backbone without memory for its numbers."""
    with torch.device("meta"), _regnets_widths_on_the_cpu():
        return build_backbone(name, size)


@contextmanager
def _regnets_widths_on_the_cpu() -> Iterator[None]:
    """Let RegNet work out its widths, for which it needs numbers."""
    original = BlockParams.__dict__["from_init_params"]

    def on_cpu(cls: type[BlockParams], *arguments: object, **options: object) -> BlockParams:
        with torch.device("cpu"):
            return original.__func__(cls, *arguments, **options)

    BlockParams.from_init_params = classmethod(on_cpu)
    try:
        yield
    finally:
        BlockParams.from_init_params = original
