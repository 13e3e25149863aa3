"""torchvision's classifiers without their last layers, and the weights that fit them."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kennel.errors import HyperparameterError, WeightsError
from kennel.model.torchvision_models import models

# what a network is made with beside its name
_ARGUMENTS: dict[str, dict[str, Any]] = {
    # no second classifiers in the middle; the published weights want images in -1..1, which the network makes itself
    # from ImageNet's normalization
    "googlenet": {"aux_logits": False, "transform_input": True, "init_weights": True},
    "inception_v3": {"aux_logits": False, "transform_input": True, "init_weights": True},
}
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # the second classifiers in the files of these two

# layer names of older files: `norm.1` for what is now `norm1` in DenseNet, `linear_1` for what is now `0` in ViT
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_OLD_VIT = re.compile(r"\.mlp\.linear_([12])\.")

_WINDOW = 224  # MaxViT halves images five times, and then cuts them into 7 by 7 windows


class Features(nn.Identity):
    """Stands where a network had its last layer, and lets the features through that were classified there."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count


def is_transformer(name: str) -> bool:
    """Return whether torchvision's `name` attends to all of an image at once, alone or after convolutions."""
    return name.startswith(("vit", "swin", "maxvit"))


def build_backbone(name: str, image_size: int = 224) -> nn.Module:
    """Return torchvision's `name` with random weights and without its classifier: (N, 3, S, S) to (N, features).

    Its last layer is left out, with the dropout before it. Raises HyperparameterError when the network cannot see
    squares of `image_size` pixels.
    """
    check_image_size(name, image_size)
    arguments = {"image_size": image_size} if name.startswith("vit_") else _ARGUMENTS.get(name, {})
    network: nn.Module = getattr(models, name)(weights=None, **arguments)
    _cut_classifier(network)
    return network


def check_image_size(name: str, image_size: int) -> None:
    """Raise HyperparameterError when torchvision's `name` cannot see squares of `image_size` pixels."""
    if name.startswith("vit_"):
        patch = int(name.rsplit("_", 1)[1])
        _check_multiple(name, image_size, patch, f"cuts images into squares of {patch} pixels")
    elif name.startswith("maxvit"):
        _check_multiple(name, image_size, _WINDOW, "cuts what it makes of images into windows of 7")
    elif not name.startswith("swin"):  # it pads; what torchvision has as its smallest size is that of its weights
        smallest = next(iter(models.get_model_weights(name))).meta["min_size"][0]
        if image_size < smallest:
            raise HyperparameterError(
                f"image_size={image_size} is too small for {name}, of which nothing would be left in its last layers; "
                f"take {smallest} or more"
            )


def _check_multiple(name: str, image_size: int, step: int, reason: str) -> None:
    if image_size % step:
        below, above = image_size // step * step, (image_size // step + 1) * step
        right = f"{below} or {above}" if below else str(above)
        raise HyperparameterError(
            f"image_size={image_size} does not fit {name}, which {reason}: take a multiple of {step}, such as {right}"
        )


def _cut_classifier(network: nn.Module) -> None:
    """Put `Features` in the place of the last layer, and nothing in that of the dropouts right before it."""
    name = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    parent, _, child = name.rpartition(".")
    siblings = network.get_submodule(parent)
    layer: Any = getattr(siblings, child)
    count = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    before = [name for name, _ in siblings.named_children()]
    for sibling in reversed(before[: before.index(child)]):
        if not isinstance(getattr(siblings, sibling), nn.Dropout):
            break
        setattr(siblings, sibling, nn.Identity())
    setattr(siblings, child, Features(count))


def _cut(backbone: nn.Module) -> tuple[str, Features]:
    """Return the place where the classifier was, and what stands there."""
    return next((name, module) for name, module in backbone.named_modules() if isinstance(module, Features))


def count_features(backbone: nn.Module) -> int:
    """Return how many features the backbone makes of an image."""
    return _cut(backbone)[1].count


def load_weights(backbone: nn.Module, name: str, file: Path) -> None:
    """Fill `backbone` from a state dict of torchvision's `name`, saved by `torch.save` or as safetensors.

    The file's classifier, of whatever size, is passed over. Only tensors are unpickled, never code. Raises
    WeightsError when the file is missing, unreadable, or of another network.
    """
    fill_backbone(backbone, name, _read_state(file), str(file))


def fill_backbone(backbone: nn.Module, name: str, state: Mapping[str, Tensor], source: str) -> None:
    """Fill `backbone` from a state dict of torchvision's `name`, with or without its classifier.

    A vision transformer's embedding of positions is interpolated where the weights are for images of another size.
    Raises WeightsError, which says that the weights are from `source`, when they are of another network.
    """
    wanted = backbone.state_dict()
    classifier = (_cut(backbone)[0].split(".")[0] + ".", *_AUXILIARY)
    given = {_today(key): value for key, value in state.items()}
    given = {key: value for key, value in given.items() if key in wanted or not key.startswith(classifier)}
    if name.startswith("vit_"):
        given = _fit_positions(backbone, given, source)
    wrong = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    extra = [key for key in given if key not in wanted]
    if wrong or missing or extra:
        raise WeightsError(
            f"{source} does not hold the weights of {name}: {len(missing)} tensors are missing, {len(extra)} are "
            f"unknown, {len(wrong)} have another shape, for example {(missing + extra + wrong)[0]}; "
            f"give the file of a torchvision {name}, or the backbone that the file belongs to"
        )
    load_plain_state(backbone, {**wanted, **given})


def load_plain_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill `module` from a state dict in today's layout that has lost, as in safetensors, what layout it is in.

    MNASNet refuses to be filled without that. Raises RuntimeError when the tensors are not the module's.
    """
    own = module.state_dict()
    complete = type(own)(state)
    complete._metadata = own._metadata  # type: ignore[attr-defined]
    module.load_state_dict(complete)


def _today(key: str) -> str:
    """Return the name that a tensor of an older file has today."""
    return _OLD_VIT.sub(lambda match: f".mlp.{3 * (int(match[1]) - 1)}.", _OLD_DENSENET.sub(r"\1\2", key))


def _fit_positions(backbone: Any, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    positions = state.get("encoder.pos_embedding")
    if positions is None or positions.shape == backbone.encoder.pos_embedding.shape:
        return state
    try:
        fitted: dict[str, Tensor] = models.vision_transformer.interpolate_embeddings(
            backbone.image_size, backbone.patch_size, state.copy()
        )
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"the embedding of positions in {source} is not that of square images: {error}") from None
    return fitted


def _read_state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise WeightsError(f"there is no weights file {file}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise half a dozen types for a file that is not theirs
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file} is no readable state dict: {reason}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{file} holds {type(state).__name__}; it should hold a state dict (names to tensors)")
    return state


def weights_fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 over all weights and buffers of `module`, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return total.hexdigest()
