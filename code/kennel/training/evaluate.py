"""Measure a saved model folder on a split, and write down what it predicts."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kennel.atomic import replacing
from kennel.cache import Cache
from kennel.engines.device import pick_device
from kennel.engines.torch_engine import TorchEngine
from kennel.images.pack import PackedImages
from kennel.model.artifact import load_artifact
from kennel.training.features import extract_features


@dataclass(frozen=True)
class Evaluation:
    """What a model says of the images of one split."""

    classes: tuple[str, ...]
    names: tuple[str, ...]  # N file names, relative to the split's folder
    labels: NDArray[np.int64]  # (N,) the truth
    probabilities: NDArray[np.float32]  # (N, classes)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, (N,)."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def accuracy(self) -> float:
        """The share of images whose most probable class is right."""
        return float((self.predicted == self.labels).mean())

    @property
    def loss(self) -> float:
        """The mean cross-entropy, in nats; probabilities below 1e-12 count as that."""
        right = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(right, 1e-12)).mean())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How many images of each class (row) were taken for each class (column)."""
        size = len(self.classes)
        counts: NDArray[np.int64] = np.bincount(self.labels * size + self.predicted, minlength=size * size)
        return counts.reshape(size, size)


def evaluate_artifact(folder: Path, images: PackedImages, cache: Cache, report: Callable[[int], None]) -> Evaluation:
    """Load the model folder into the server's float32 engine and run it over `images`.

    The features come from the cache when a job saw the same images with the same backbone before; the backbone is
    known by the weights in the folder.
    """
    report(0)
    classifier, manifest = load_artifact(folder)
    engine = TorchEngine(classifier, manifest.preprocessing, manifest.views)
    engine.to(pick_device())
    probabilities = []
    for view in manifest.views:
        features = extract_features(engine.backbone, images, manifest.preprocessing, view, cache, report)
        probabilities.append(engine.classify(torch.from_numpy(np.array(features))))
    return Evaluation(manifest.classes, images.names, images.labels, np.mean(probabilities, axis=0))


def write_evaluation(folder: Path, split: str, evaluation: Evaluation) -> None:
    """Write `<split>_predictions.csv`, `<split>_classes.csv` and `<split>_confusion.csv` into `folder`."""
    classes, labels, predicted = evaluation.classes, evaluation.labels, evaluation.predicted
    rows = zip(evaluation.names, labels, predicted, evaluation.probabilities, strict=True)
    _write_csv(
        folder / f"{split}_predictions.csv",
        ("image", "label", "predicted", *(f"p({name})" for name in classes)),
        [(name, classes[y], classes[p], *(f"{q:.6f}" for q in row)) for name, y, p, row in rows],
    )
    confusion = evaluation.confusion
    per_class = []
    for i, name in enumerate(classes):
        right, images, taken = confusion[i, i], confusion[i].sum(), confusion[:, i].sum()
        recall, precision = _share(right, images), _share(right, taken)
        per_class.append((name, images, right, recall, precision, _share(2 * right, images + taken)))
    _write_csv(folder / f"{split}_classes.csv", ("class", "images", "right", "recall", "precision", "f1"), per_class)
    _write_csv(
        folder / f"{split}_confusion.csv",
        ("label \\ predicted", *classes),
        [(name, *counts) for name, counts in zip(classes, confusion, strict=True)],
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else ""


def _write_csv(path: Path, head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
