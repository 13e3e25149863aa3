"""A backbone's parameters in blocks, from the images to the features: what is unfrozen, or learns slower, together."""

import re
from collections.abc import Callable, Iterator

from torch import nn

# by the first letters of a backbone's name: how the names of the parameters begin that start a new block; those before
# the first are the stem, all others belong to the block before them (a transition, a last norm)
_BLOCK = {
    "convnext": r"features\.\d+",
    "densenet": r"features\.denseblock\d+",
    "googlenet": r"inception\d\w",
    "inception": r"Mixed_\d\w",
    "maxvit": r"blocks\.\d+|classifier",
    "mnasnet": r"layers\.(?:[89]|1[0-4])\b",
    "regnet": r"trunk_output\.block\d+",
    "resnet": r"layer\d+",
    "resnext": r"layer\d+",
    "shufflenet": r"stage\d+|conv5",
    "swin": r"features\.\d+",
    "vit": r"encoder\.layers\.encoder_layer_\d+",
    "wide": r"layer\d+",
}
_ANY = r"[^.]+(?:\.\d+)?"  # all others: `features.3`, `classifier.0`


def backbone_blocks(name: str, backbone: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the names of `backbone`'s parameters, as `named_parameters` has them, in blocks from input to output.

    Every parameter is in one block. A block is what its authors call a stage, a block or a layer: the stem and
    `layer1` to `layer4` of a ResNet, the dense blocks with their transitions, `features[i]` of a MobileNet, the layers
    of a vision transformer, the convolutions between two poolings of a VGG.
    """
    begin = _vgg_stage(backbone) if name.startswith("vgg") else _beginning(name)
    return tuple(tuple(block) for block in _split([name for name, _ in backbone.named_parameters()], begin))


def _split(names: list[str], begin: Callable[[str], str]) -> Iterator[list[str]]:
    """Yield the names in blocks; `begin` has the block that a name is in, or nothing where it joins the one before."""
    block: list[str] = []
    current = ""
    for name in names:
        found = begin(name)
        if found and found != current:
            current = found
            if block:
                yield block
            block = []
        block.append(name)
    yield block


def _beginning(name: str) -> Callable[[str], str]:
    family = re.match(r"[a-z]+", name)
    pattern = re.compile(_BLOCK.get(family[0] if family else "", _ANY))

    def begin(parameter: str) -> str:
        match = pattern.match(parameter)
        return match[0] if match else ""

    return begin


def _vgg_stage(backbone: nn.Module) -> Callable[[str], str]:
    """Return what counts the poolings before a convolution; each linear layer is a block of its own."""
    layers = list(backbone.get_submodule("features").children())

    def begin(parameter: str) -> str:
        part, number, _ = parameter.split(".")
        if part != "features":
            return f"{part}.{number}"
        return f"stage {sum(isinstance(layer, nn.MaxPool2d) for layer in layers[: int(number)])}"

    return begin
