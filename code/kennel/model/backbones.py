"""torchvision's classifiers without their last layers, and the pretrained weights that fit them."""

import hashlib
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kennel.errors import WeightsError
from kennel.model.torchvision_models import models

_LAST_LAYER = {"resnet18": "fc", "resnet50": "fc", "densenet161": "classifier", "mobilenet_v2": "classifier"}

# torchvision's published DenseNet files still have the layer names of 2017: `norm.1` for what is now `norm1`
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def build_backbone(name: str) -> nn.Module:
    """Return torchvision's `name` with random weights and without its classifier: (N, 3, S, S) to (N, features)."""
    network: nn.Module = getattr(models, name)(weights=None)
    setattr(network, _LAST_LAYER[name], nn.Identity())
    return network


def count_features(backbone: nn.Module) -> int:
    """Return how many features the backbone makes of an image."""
    training = backbone.training
    with torch.inference_mode():
        features = backbone.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    backbone.train(training)
    return int(features)


def load_weights(backbone: nn.Module, name: str, file: Path) -> None:
    """Fill `backbone` from a state dict of torchvision's `name`, saved by `torch.save` or as safetensors.

    The file's classifier, of whatever size, is passed over. Only tensors are unpickled, never code. Raises
    WeightsError when the file is missing, unreadable, or of another network.
    """
    state = _read_state(file)
    state = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    last = _LAST_LAYER[name] + "."
    state = {key: value for key, value in state.items() if not key.startswith(last)}
    wanted = backbone.state_dict()
    wrong = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    if wrong or missing or extra:
        raise WeightsError(
            f"{file} does not hold the weights of {name}: {len(missing)} tensors are missing, {len(extra)} are "
            f"unknown, {len(wrong)} have another shape, for example {(missing + extra + wrong)[0]}; "
            f"give the file of a torchvision {name}, or the backbone that the file belongs to"
        )
    backbone.load_state_dict(state, strict=False)


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
