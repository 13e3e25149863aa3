"""Which files of weights are at hand. Imports no torch: most scripts bring none, and need not wait for it."""

from collections.abc import Mapping
from pathlib import Path

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")
CHANNEL = "pretrained"


def weights_in(folder: Path) -> list[Path]:
    """Return the files of weights in `folder`, which need not be there, by name."""
    if not folder.is_dir():
        return []
    return [f for f in sorted(folder.iterdir()) if f.suffix in WEIGHTS_SUFFIXES and not f.name.startswith(".")]


def weights_at_hand(channels: Mapping[str, Path], weights_dir: Path) -> list[Path]:
    """Return the files of the channel `pretrained`, if there is one, and then those of the image."""
    return [*(weights_in(channels[CHANNEL]) if CHANNEL in channels else []), *weights_in(weights_dir)]
