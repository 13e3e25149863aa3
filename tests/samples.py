"""Small real things for tests to work on: images that any network can tell apart, and model folders."""

from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import new_classifier, save_artifact
from kennel.model.manifest import Manifest

SMALL_BACKBONE = "squeezenet1_1"  # with its five megabytes a job is two seconds shorter than with resnet18
COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def write_colour_images(folder: Path, train: int = 8, valid: int = 3, test: int = 3, side: int = 48) -> Path:
    """Write a data set of three classes that any network can tell apart: noisy squares of one colour."""
    noise = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + noise.normal(0, 25, (side, side, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def save_random_model(folder: Path, backbone: str = "resnet18", image_size: int = 32, classes: int = 3) -> Path:
    """Save a model folder with random weights: as good as a trained one for everything but its answers."""
    torch.manual_seed(0)
    manifest = Manifest(
        classes=tuple(sorted(COLOURS))[:classes] if classes <= 3 else tuple(f"class {i:03}" for i in range(classes)),
        backbone=backbone,
        fc_units=16,
        dropout=0.1,
        preprocessing=Preprocessing.for_size(image_size),
    )
    save_artifact(folder, new_classifier(manifest), manifest)
    return folder


def save_random_weights(folder: Path, backbone: str) -> Path:
    """Save a state dict of torchvision's as its users have it, with 1,000 classes; the values are random."""
    torch.manual_seed(1)
    file = folder / f"{backbone}.pth"
    torch.save(torchvision.models.get_model(backbone, weights=None).state_dict(), file)
    return file
