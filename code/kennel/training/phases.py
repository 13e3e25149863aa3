"""The two phases of training: the head on cached features, and the network on images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kennel.cache import Cache
from kennel.engines.torch_engine import FrozenBackbone
from kennel.hyperparameters import Hyperparameters
from kennel.images.augment import augmented_views
from kennel.images.pack import PackedImages
from kennel.model.classifier import Classifier
from kennel.model.start import Start
from kennel.training.batches import FeatureBatches, ImageBatches
from kennel.training.dataset import DataSet
from kennel.training.distributed import Processes
from kennel.training.features import extract_features
from kennel.training.fine_tuning import train_mode, unfreeze
from kennel.training.loop import Phase
from kennel.training.optimizer import make_optimizer, make_scheduler
from kennel.training.progress import StopSignal, reporter


@dataclass(frozen=True)
class Session:
    """What all phases of a job share."""

    start: Start
    data: DataSet
    cache: Cache
    device: torch.device
    stop: StopSignal
    processes: Processes

    def class_weights(self, hp: Hyperparameters) -> Tensor | None:
        """Return what each class counts in the loss, (classes,) on the device; None when they count alike."""
        weights = self.data.class_weights(hp)
        return None if weights is None else torch.from_numpy(weights).to(self.device)


@dataclass(frozen=True)
class Features:
    """What a frozen backbone makes of the images: all that a head needs."""

    train: Sequence[NDArray[np.float32]]  # (N, features) a view
    valid: NDArray[np.float32]  # (N, features)


def make_features(session: Session, backbone: nn.Module, hp: Hyperparameters, precision: torch.dtype) -> Features:
    """Run the backbone over the images: quickly and roughly for training, exactly for validation."""
    images, preprocessing = session.data.images(hp), session.data.preprocessing(hp)
    exact = FrozenBackbone(backbone).to(session.device)
    fast = FrozenBackbone(backbone, precision, exact.fingerprint).to(session.device)

    def run(frozen: FrozenBackbone, split: str, view: str, step: str) -> NDArray[np.float32]:
        report = reporter(step, split, len(images[split]), session.stop)
        return extract_features(frozen, images[split], preprocessing, view, session.cache, report, session.processes)

    train = [run(fast, "train", view, f"features ({view})") for view in augmented_views(hp.augment)]
    return Features(train, run(exact, "valid", "original", "features"))


def head_phase(session: Session, head: nn.Module, features: Features, hp: Hyperparameters) -> Phase:
    """Return the phase that fits a head to features."""
    images = session.data.images(hp)
    train = FeatureBatches(features.train, images["train"].labels, hp.batch_size, session.device)
    optimizer = make_optimizer(head.to(session.device).parameters(), hp)
    return Phase(
        name="head",
        module=head,
        train_mode=head.train,
        train=train,
        valid=FeatureBatches([features.valid], images["valid"].labels, hp.batch_size, session.device),
        optimizer=optimizer,
        scheduler=make_scheduler(optimizer, hp, steps=hp.epochs * len(train)),
        first_epoch=1,
        last_epoch=hp.epochs,
        class_weights=session.class_weights(hp),
    )


def network_phase(session: Session, classifier: Classifier, hp: Hyperparameters, precision: torch.dtype) -> Phase:
    """Return the phase that trains the network on packed images: from scratch, or from a fitted head."""
    classifier.to(session.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, preprocessing = session.data.images(hp), session.data.preprocessing(hp)

    def batches(packed: PackedImages) -> ImageBatches:
        return ImageBatches(packed, preprocessing, hp.augment, hp.batch_size, session.device, session.processes)

    train = batches(images["train"])
    if hp.from_scratch:
        optimizer = make_optimizer(classifier.parameters(), hp)
        epochs = range(1, hp.epochs + 1)
    else:
        optimizer = make_optimizer(unfreeze(classifier, hp), hp)
        epochs = range(hp.epochs + 1, hp.epochs + hp.fine_tune_epochs + 1)
    warmup = 0.0 if hp.from_scratch else hp.warmup
    return Phase(
        name="network",
        module=classifier,
        train_mode=lambda: train_mode(classifier, norms=hp.from_scratch),
        train=train,
        valid=batches(images["valid"]),
        optimizer=optimizer,
        scheduler=make_scheduler(optimizer, hp, steps=len(epochs) * len(train), warmup=warmup),
        first_epoch=epochs.start,
        last_epoch=epochs.stop - 1,
        precision=precision,
        class_weights=session.class_weights(hp),
    )
