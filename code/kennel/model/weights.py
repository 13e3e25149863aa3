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


def link_for_torchvision(folder: Path, channels: Mapping[str, Path], weights_dir: Path) -> list[str]:
    """Make `folder` a TORCH_HOME in which torchvision finds the weights of the channel `pretrained` and of the image.

    Files are known by their names, such as resnet50.pth or resnet50-0676ba61.pth; returns the names of the links.
    """
    places = [place for place in (channels.get("pretrained"), weights_dir) if place is not None and place.is_dir()]
    files = {file.stem.split("-")[0]: file for place in reversed(places) for file in sorted(place.glob("*.pth"))}
    if not files:
        return []
    from kennel.model.torchvision_models import models  # noqa: PLC0415 - slow, and not needed without files

    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    names = []
    for backbone in sorted(files.keys() & set(models.list_models(module=models))):
        for weights in models.get_model_weights(backbone):
            link = checkpoints / Path(weights.url).name
            link.symlink_to(files[backbone].resolve())
            names.append(link.name)
    return names
