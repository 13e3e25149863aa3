"""Model folders to export, and such with files for all engines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kennel.engines.export import export_engines
from kennel.hyperparameters import EXPORTS
from kennel.model.artifact import load_artifact, save_artifact
from kennel.model.manifest import load_manifest, save_manifest
from tests.samples import COLOURS, save_random_model


class TinyBackbone(nn.Module):
    """A network with all that matters for an export: convolutions, a batch norm, a sum, a mean over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 16)."""
        first = self.first(images)
        return self.pool(first + self.second(first)).flatten(1)


class LoudBackbone(TinyBackbone):
    """Half of its features are some thousands, whatever it sees: 8 bits for all of them leave nothing of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("loud", torch.zeros(16))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 16)."""
        return super().forward(images) + self.loud


@contextmanager
def tiny_backbones(network: type[TinyBackbone] = TinyBackbone) -> Iterator[None]:
    """Let every model folder that is read or written have this network, which is exported in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kennel.model.artifact.build_backbone", lambda name, size: network())
        patch.setattr("kennel.model.classifier.count_features", lambda backbone: 16)
        yield


def export_fully(folder: Path) -> Path:
    """Export the model in `folder`, which knows `colours`, for all engines."""
    images, labels = colours(60, load_manifest(folder).preprocessing.crop)
    export_engines(folder, EXPORTS, images, images, labels, lambda *_: None)
    manifest = load_manifest(folder)
    order = {"openvino-int8": 1.0, "openvino-bf16": 2.0}  # whatever this machine measured
    records = tuple(r.model_copy(update={"milliseconds": order.get(r.name, 9.0)}) for r in manifest.engines)
    save_manifest(folder, manifest.model_copy(update={"engines": records}))
    return folder


def colours(count: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, size, size, 3) uint8 of three colours, and their classes (count,)."""
    labels = np.arange(count) % 3
    colour = np.array([COLOURS[name] for name in sorted(COLOURS)])[labels]
    pixels = colour[:, None, None] + np.random.default_rng(0).normal(0, 25, (count, size, size, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def fit_head(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """Teach the head of the model in `folder` these images."""
    classifier, manifest = load_artifact(folder)
    truth = torch.from_numpy(labels)
    with torch.no_grad():
        features = classifier.backbone(torch.from_numpy(manifest.preprocessing.normalize(images)))
    optimizer = torch.optim.SGD(classifier.head.parameters(), lr=0.1, momentum=0.9)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier.head(features), truth).backward()
        optimizer.step()
    save_artifact(folder, classifier, manifest)
    return folder


def save_loud_model(folder: Path) -> Path:
    """Save a model of `LoudBackbone` that knows `colours`, with a head that is deaf to what is loud."""
    fit_head(save_random_model(folder), *colours(60))
    classifier, manifest = load_artifact(folder)
    with torch.no_grad():
        first = next(layer for layer in classifier.head if isinstance(layer, nn.Linear))
        classifier.backbone.loud[8:] = 5000.0
        first.weight[:, 8:] = 0.0
    save_artifact(folder, classifier, manifest)
    return folder
