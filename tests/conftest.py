"""What tests are made of: real images, real weights, real model folders, all small."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import Manifest, save_artifact

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
    save_artifact(folder, manifest.new_classifier(), manifest)
    return folder


@pytest.fixture(scope="session")
def colour_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_images(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def resnet18_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of torchvision's resnet18 as its users have it, with 1,000 classes; the values are random."""
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
    return file


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos and weights; tests that need it skip where it is not."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("KENNEL_TEST_DATA", default))
    if not (folder / "dogs10").is_dir():
        pytest.skip(f"no test data in {folder}; name its folder with KENNEL_TEST_DATA")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KENNEL_HOME of its own."""
    monkeypatch.setenv("KENNEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
