"""The model that all servers serve: Kennel's model folder, its exports, and the same weights for the peers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kennel.engines import export
from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import new_classifier, save_artifact
from kennel.model.manifest import Manifest
from tests.benchmarks.serving.peers.network import CLASSES, HIDDEN

ENGINES = ("torch-fp32", "openvino-bf16", "openvino-int8")
_IMAGES = 64  # that 8-bit ranges are taken from


@dataclass(frozen=True)
class Model:
    """One network with random weights: as quick as a trained one."""

    network: str
    folder: Path  # Kennel's
    weights: Path  # a state dict with the same weights


def make_model(network: str, folder: Path) -> Model:
    """Save a network for Kennel and for its peers, and export it for every engine."""
    torch.manual_seed(0)
    manifest = Manifest(
        classes=tuple(f"class {number:03}" for number in range(CLASSES)),
        backbone=network,
        fc_units=HIDDEN,
        dropout=0.5,
        preprocessing=Preprocessing.for_size(224),
    )
    classifier = new_classifier(manifest)
    model = Model(network, folder / network, folder / f"{network}.pth")
    save_artifact(model.folder, classifier, manifest)
    torch.save(classifier.state_dict(), model.weights)
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, 224, 224, 3), np.uint8)
    # random weights are right about nothing: what is measured here is their time alone
    export.AGREEMENT, export.LOST_ACCURACY = {}, 1.0
    wanted = tuple(name for name in ENGINES if name.startswith("openvino-"))
    labels = np.zeros(_IMAGES, np.int64)
    records = export.export_engines(model.folder, wanted, images, images, labels, lambda engine, done, total: None)
    if refused := [record.line() for record in records if record.refused]:
        raise SystemExit(f"{network} was not exported: {'; '.join(refused)}")
    return model
