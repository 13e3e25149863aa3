"""Where a backbone's first weights come from."""

from collections.abc import Mapping
from pathlib import Path

from kennel.errors import WeightsError

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


def find_weights(weights: str, backbone: str, channels: Mapping[str, Path], weights_dir: Path) -> Path:
    """Return the file to start from: the one that is named, the channel's, or the one in the image."""
    if weights != "pretrained":
        return Path(weights)
    if "pretrained" in channels:
        files = [file for file in sorted(channels["pretrained"].iterdir()) if file.suffix in WEIGHTS_SUFFIXES]
        if len(files) == 1:
            return files[0]
        found = ", ".join(file.name for file in files) or "none"
        raise WeightsError(f"the channel `pretrained` should hold one .pth, .pt or .safetensors file; found: {found}")
    for suffix in WEIGHTS_SUFFIXES:
        if (file := weights_dir / f"{backbone}{suffix}").is_file():
            return file
    raise WeightsError(
        "there are no pretrained weights: give a state dict in the channel `pretrained`, or its path as `weights`, or "
        f"weights=none to train from scratch, or build the image with {backbone}.pth in WEIGHTS_DIR"
    )
