"""Which files of weights are at hand. Imports no torch: most scripts bring none, and need not wait for it."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")
CHANNEL = "pretrained"
_TORCH_HOME = "TORCH_HOME"  # torch's own variable: where downloaded weights are looked for


def weights_in(folder: Path) -> list[Path]:
    """Return the files of weights in `folder`, which need not be there, by name."""
    if not folder.is_dir():
        return []
    return [f for f in sorted(folder.iterdir()) if f.suffix in WEIGHTS_SUFFIXES and not f.name.startswith(".")]


def weights_at_hand(channels: Mapping[str, Path], weights_dir: Path) -> list[Path]:
    """Return the files of the channel `pretrained`, if there is one, and then those of the image."""
    return [*(weights_in(channels[CHANNEL]) if CHANNEL in channels else []), *weights_in(weights_dir)]


def offer_weights(files: Sequence[Path], make_folder: Callable[[], Path]) -> None:
    """Let `torchvision.models.resnet50(pretrained=True)` find these files, by links in a new folder, not the network.

    People build a network so before they load their own state dict into it.
    """
    if not files or _TORCH_HOME in os.environ:
        return
    from kennel.model.weights import link_for_torchvision  # noqa: PLC0415 - torch is slow to import

    folder = make_folder()
    if link_for_torchvision(folder, files):
        os.environ[_TORCH_HOME] = str(folder)
